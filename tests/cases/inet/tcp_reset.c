//# expect: resumes
//# dump: --tcp=reset
//# show: inet state=reset
/* Connections that are given up: what was received is read, then the program is told of a reset, as it is of one that had been
 * reset before. The original keeps its connections. */
#include "ip.h"

static void is_reset(int fd, const char *received)
{
    char bytes[64] = {0};
    struct pollfd state = {.fd = fd, .events = POLLIN | POLLOUT};
    guest_check(poll(&state, 1, 0) == 1);
    guest_check((state.revents & (POLLIN | POLLERR | POLLHUP)) == (POLLIN | POLLERR | POLLHUP), "%x", state.revents);
    if (received[0])
        guest_check(read(fd, bytes, sizeof bytes) == (ssize_t)strlen(received) && !strcmp(bytes, received));
    guest_check(read(fd, bytes, sizeof bytes) == -1 && errno == ECONNRESET);
    guest_check(read(fd, bytes, sizeof bytes) == 0);
    guest_check(send(fd, "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE);
}

int main(void)
{
    union ip own = ip_own(4020), six = ip_six("::1", ip_port(4));
    int client[4], server[4];
    char bytes[64] = {0};
    for (int i = 0; i < 4; i++) {
        int listener = socket(i == 1 ? AF_INET6 : AF_INET, SOCK_STREAM, 0);
        ip_set(listener, SOL_SOCKET, SO_REUSEADDR, 1);
        ip_bind(listener, i == 1 ? six : own);
        guest_check(listen(listener, 3) == 0);
        client[i] = ip_connect(i == 1 ? six : own);
        server[i] = accept(listener, NULL, NULL);
        guest_check(server[i] >= 0 && close(listener) == 0);
    }
    ip_set(client[0], IPPROTO_TCP, TCP_NODELAY, 1);
    guest_check(write(client[0], "hello", 5) == 5 && write(server[1], "from six", 8) == 8);
    /* Half shut. */
    guest_check(write(client[2], "last", 4) == 4 && shutdown(client[2], SHUT_WR) == 0);
    /* Reset before, with something to read. */
    struct linger at_once = {1, 0};
    guest_check(write(server[3], "late", 4) == 4);
    guest_check(setsockopt(server[3], SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once) == 0 && close(server[3]) == 0);

    guest_checkpoint_here();

    is_reset(client[3], "late");
    if (guest_was_resumed()) {
        guest_check(ip_get(client[0], IPPROTO_TCP, TCP_NODELAY) == 1);
        is_reset(server[0], "hello");
        is_reset(client[0], "");
        is_reset(client[1], "from six");
        is_reset(server[1], "");
        is_reset(server[2], "last");
        is_reset(client[2], "");
        return 0;
    }
    guest_check(read(server[0], bytes, sizeof bytes) == 5 && read(client[1], bytes, sizeof bytes) == 8);
    guest_check(read(server[2], bytes, sizeof bytes) == 4 && read(server[2], bytes, sizeof bytes) == 0);
    guest_check(write(server[2], "back", 4) == 4 && read(client[2], bytes, sizeof bytes) == 4);
    return 0;
}
