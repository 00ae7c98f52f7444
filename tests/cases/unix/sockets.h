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

#endif
