//# expect: resumes
//# flavours: alone running killed again exec namespace
//# needs: root
//# show: inet state=established
/* Connections of which one side or both have said that nothing more will come, with bytes before that, and with no room for the end
 * to come through. */
#include "ip.h"

enum { FIN_WAIT1 = 4, FIN_WAIT2 = 5, CLOSE = 7, CLOSE_WAIT = 8, LAST_ACK = 9, CLOSING = 11 };

static void reads(int fd, const char *text)
{
    char bytes[64] = {0};
    guest_check(read(fd, bytes, sizeof bytes) == (ssize_t)strlen(text) && !strcmp(bytes, text), "%s", bytes);
}

static void is_at_end(int fd)
{
    char byte;
    guest_check(read(fd, &byte, 1) == 0);
}

int main(void)
{
    union ip own = ip_own(4031), six = ip_six("::1", ip_port(2));
    enum { COUNT = 6 };
    int client[COUNT], server[COUNT];
    for (int i = 0; i < COUNT; i++) {
        int listener = socket(i == 1 ? AF_INET6 : AF_INET, SOCK_STREAM, 0);
        ip_set(listener, SOL_SOCKET, SO_REUSEADDR, 1);
        ip_bind(listener, i == 1 ? six : own);
        guest_check(listen(listener, 3) == 0);
        client[i] = ip_connect(i == 1 ? six : own);
        server[i] = accept(listener, NULL, NULL);
        guest_check(server[i] >= 0 && close(listener) == 0);
    }
    guest_check(write(client[0], "last", 4) == 4 && shutdown(client[0], SHUT_WR) == 0);
    guest_check(shutdown(server[1], SHUT_WR) == 0);
    /* The end waits behind what has no room. */
    size_t full[COUNT] = {0};
    guest_check(shutdown(server[4], SHUT_WR) == 0);
    ip_comes_to(client[4], CLOSE_WAIT);
    for (int i = 2; i < COUNT; i++)
        if (i != 3) {
            ip_set(client[i], SOL_SOCKET, SO_SNDBUF, 1 << 16);
            full[i] = ip_fill(client[i]);
            guest_check(shutdown(client[i], SHUT_WR) == 0);
        }
    guest_check(shutdown(server[5], SHUT_WR) == 0);
    ip_comes_to(client[5], CLOSING);
    guest_check(ip_state(client[4]) == LAST_ACK);
    ip_comes_to(server[4], FIN_WAIT2);
    ip_comes_to(server[5], FIN_WAIT2);
    ip_comes_to(client[0], FIN_WAIT2);
    ip_comes_to(server[1], FIN_WAIT2);
    guest_check(ip_state(server[0]) == CLOSE_WAIT && ip_state(client[1]) == CLOSE_WAIT);
    guest_check(ip_state(client[2]) == FIN_WAIT1);

    guest_checkpoint_here();

    guest_check(ip_state(server[0]) == CLOSE_WAIT && ip_state(client[1]) == CLOSE_WAIT);
    guest_check(ip_state(client[2]) == FIN_WAIT1);
    ip_comes_to(client[4], LAST_ACK);
    ip_comes_to(client[5], CLOSING);
    ip_comes_to(client[0], FIN_WAIT2);
    ip_comes_to(server[1], FIN_WAIT2);
    struct pollfd ended = {.fd = server[0], .events = POLLIN | POLLRDHUP};
    guest_check(poll(&ended, 1, 0) == 1 && ended.revents == (POLLIN | POLLRDHUP));
    reads(server[0], "last");
    is_at_end(server[0]);
    guest_check(send(client[0], "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE);
    guest_check(write(server[0], "back", 4) == 4);
    reads(client[0], "back");
    guest_check(write(client[1], "to the half", 11) == 11);
    reads(server[1], "to the half");
    is_at_end(client[1]);
    for (int i = 2; i < COUNT; i++)
        if (i != 3) {
            size_t taken = ip_drain(server[i]);
            guest_check(taken == full[i], "%zu of %zu", taken, full[i]);
        }
    ip_comes_to(client[4], CLOSE);
    ip_comes_to(client[5], CLOSE);
    guest_check(close(server[0]) == 0 && close(client[1]) == 0);
    is_at_end(client[0]);
    is_at_end(server[1]);
    guest_check(write(client[3], "open", 4) == 4);
    reads(server[3], "open");
    return 0;
}
