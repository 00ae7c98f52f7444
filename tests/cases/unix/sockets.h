/* What cases of sockets of the domain AF_UNIX have in common. */
#ifndef SOCKETS_H
#define SOCKETS_H

#include "../tree.h"
#include <poll.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/un.h>

/* A pair at these numbers. */
__attribute__((unused)) static void sockets_pair(int type, int one, int two)
{
    int ends[2];
    guest_check(socketpair(AF_UNIX, type, 0, ends) == 0);
    guest_check(dup2(ends[0], one) == one && dup2(ends[1], two) == two);
    guest_check(close(ends[0]) == 0 && close(ends[1]) == 0);
}

__attribute__((unused)) static void sockets_send(int fd, const char *text)
{
    guest_check(send(fd, text, strlen(text), MSG_NOSIGNAL) == (ssize_t)strlen(text), "%d: %s", fd, text);
}

/* Receives, and checks that it is this. */
#define sockets_expect(fd, text) sockets_expect_at(__LINE__, fd, text)

__attribute__((unused)) static void sockets_expect_at(int line, int fd, const char *text)
{
    char found[1024] = {0};
    ssize_t length = recv(fd, found, sizeof found - 1, MSG_DONTWAIT);
    guest_check(length == (ssize_t)strlen(text) && !memcmp(found, text, length), "line %d: %zd bytes: %s", line, length,
                found);
}

/* Checks that nothing waits to be read, and that there is no end. */
#define sockets_quiet(fd)                                                                                              \
    do {                                                                                                               \
        char byte_;                                                                                                    \
        guest_check(recv(fd, &byte_, 1, MSG_DONTWAIT) == -1 && errno == EAGAIN);                                       \
    } while (0)

__attribute__((unused)) static int sockets_option(int fd, int name)
{
    int value = 0;
    socklen_t length = sizeof value;
    guest_check(getsockopt(fd, SOL_SOCKET, name, &value, &length) == 0, "%d", name);
    return value;
}

__attribute__((unused)) static void sockets_set(int fd, int name, int value)
{
    guest_check(setsockopt(fd, SOL_SOCKET, name, &value, sizeof value) == 0, "%d", name);
}

/* Sends bytes with descriptors. */
__attribute__((unused)) static void sockets_pass(int fd, const char *text, const int *passed, int count)
{
    char control[CMSG_SPACE(253 * sizeof(int))] = {0};
    struct iovec bytes = {(void *)text, strlen(text)};
    struct msghdr message = {.msg_iov = &bytes, .msg_iovlen = 1, .msg_control = control,
                             .msg_controllen = CMSG_SPACE(count * sizeof *passed)};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    *header = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS,
                               .cmsg_len = CMSG_LEN(count * sizeof *passed)};
    memcpy(CMSG_DATA(header), passed, count * sizeof *passed);
    guest_check(sendmsg(fd, &message, MSG_NOSIGNAL) == (ssize_t)strlen(text), "%d: %s", fd, text);
}

/* Receives bytes and checks that they are these, and that so many descriptors come with them. */
#define sockets_take(fd, text, taken, count) sockets_take_at(__LINE__, fd, text, taken, count)

__attribute__((unused)) static void sockets_take_at(int line, int fd, const char *text, int *taken, int count)
{
    char found[1024] = {0}, control[CMSG_SPACE(253 * sizeof(int))] = {0};
    struct iovec bytes = {found, sizeof found - 1};
    struct msghdr message = {.msg_iov = &bytes, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    ssize_t length = recvmsg(fd, &message, MSG_DONTWAIT);
    guest_check(length == (ssize_t)strlen(text) && !memcmp(found, text, length), "line %d: %zd bytes: %s", line, length,
                found);
    int came = 0;
    for (struct cmsghdr *header = CMSG_FIRSTHDR(&message); header; header = CMSG_NXTHDR(&message, header))
        if (header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS) {
            came = (int)((header->cmsg_len - CMSG_LEN(0)) / sizeof *taken);
            guest_check(came <= count, "line %d: %d descriptors", line, came);
            memcpy(taken, CMSG_DATA(header), came * sizeof *taken);
        }
    guest_check(came == count && !(message.msg_flags & MSG_CTRUNC), "line %d: %d descriptors", line, came);
}

/* Whether two descriptors are the same open file description. */
__attribute__((unused)) static bool sockets_same(int one, int other)
{
    long order = syscall(SYS_kcmp, getpid(), getpid(), 0 /* KCMP_FILE */, one, other);
    guest_check(order >= 0, "kcmp");
    return order == 0;
}

#endif
