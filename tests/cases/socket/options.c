//# expect: resumes
//# show: socket domain=1
/* Options of a socket that differ from those of a fresh one, those that do not, and a filter. */
#include "../guest.h"
#include <linux/filter.h>
#include <sys/socket.h>
#include <sys/time.h>

static int option(int fd, int name)
{
    int value = 0;
    socklen_t length = sizeof value;
    guest_check(getsockopt(fd, SOL_SOCKET, name, &value, &length) == 0, "%d", name);
    return value;
}

static void set(int fd, int name, int value)
{
    guest_check(setsockopt(fd, SOL_SOCKET, name, &value, sizeof value) == 0, "%d", name);
}

int main(void)
{
    int ends[2];
    struct timeval timeout = {3, 250000}, found;
    struct linger linger = {1, 7}, lingers;
    /* Takes 2 bytes of every message. */
    struct sock_filter code[] = {{BPF_RET | BPF_K, 0, 0, 2}}, read_code[4];
    struct sock_fprog program = {1, code};
    guest_check(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends) == 0);
    set(ends[0], SO_SNDBUF, 20000);
    set(ends[0], SO_RCVBUF, 30000);
    set(ends[0], SO_BROADCAST, 1);
    set(ends[0], SO_KEEPALIVE, 1);
    set(ends[0], SO_PRIORITY, 3);
    set(ends[0], SO_TIMESTAMPNS, 1);
    set(ends[0], SO_RCVLOWAT, 5);
    set(ends[0], SO_PEEK_OFF, 1);
    guest_check(setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout) == 0);
    guest_check(setsockopt(ends[0], SOL_SOCKET, SO_LINGER, &linger, sizeof linger) == 0);
    guest_check(setsockopt(ends[0], SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) == 0);
    guest_check(send(ends[1], "abcd", 4, 0) == 4 && send(ends[1], "efgh", 4, 0) == 4);

    guest_checkpoint_here();

    socklen_t length = sizeof found;
    guest_check(option(ends[0], SO_SNDBUF) == 40000 && option(ends[0], SO_RCVBUF) == 60000);
    guest_check(option(ends[0], SO_BROADCAST) == 1 && option(ends[0], SO_KEEPALIVE) == 1);
    guest_check(option(ends[0], SO_PRIORITY) == 3 && option(ends[0], SO_TIMESTAMPNS) == 1);
    guest_check(option(ends[0], SO_RCVLOWAT) == 5 && option(ends[0], SO_PEEK_OFF) == 1);
    guest_check(option(ends[0], SO_TIMESTAMP) == 0 && option(ends[1], SO_BROADCAST) == 0);
    guest_check(option(ends[1], SO_PEEK_OFF) == -1);
    guest_check(getsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &found, &length) == 0);
    guest_check(found.tv_sec == 3 && labs(found.tv_usec - 250000) < 10000, "%ld", (long)found.tv_usec);
    length = sizeof lingers;
    guest_check(getsockopt(ends[0], SOL_SOCKET, SO_LINGER, &lingers, &length) == 0);
    guest_check(lingers.l_onoff == 1 && lingers.l_linger == 7);
    length = 4;
    guest_check(getsockopt(ends[0], SOL_SOCKET, SO_GET_FILTER, read_code, &length) == 0 && length == 1);
    guest_check(!memcmp(read_code, code, sizeof code));
    /* What the filter let in before is not cut again, and what comes now is. */
    char text[8];
    guest_check(recv(ends[0], text, sizeof text, 0) == 2 && !memcmp(text, "ab", 2));
    guest_check(recv(ends[0], text, sizeof text, 0) == 2 && !memcmp(text, "ef", 2));
    guest_check(send(ends[1], "ijkl", 4, 0) == 4);
    guest_check(recv(ends[0], text, sizeof text, 0) == 2 && !memcmp(text, "ij", 2));
    return 0;
}
