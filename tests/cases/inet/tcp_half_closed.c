//# expect: resumes
//# flavours: alone running killed again exec namespace
//# needs: root
//# show: inet state=established
/* Connections of which one side or both have said that nothing more will come, with bytes before that, and with no room for the end
 * to come through. */
#include "ip.h"

enum { FIN_WAIT1 = 4, FIN_WAIT2 = 5, CLOSE_WAIT = 8 };

static int state_of(int fd)
{
    struct tcp_info info = {0};
    socklen_t length = sizeof info;
    guest_check(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) == 0);
    return info.tcpi_state;
}

/* Acknowledgements take their time. */
static void comes_to(int fd, int state)
{
    for (int left = 4000; state_of(fd) != state && left; left--)
        usleep(500);
    guest_check(state_of(fd) == state, "%d, not %d", state_of(fd), state);
}

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
    int client[4], server[4];
    for (int i = 0; i < 4; i++) {
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
    static char block[1 << 16];
    size_t full = 0;
    for (int tries = 0; tries < 20; tries++) {
        ssize_t sent = send(client[2], block, sizeof block, MSG_DONTWAIT);
        if (sent > 0) {
            full += (size_t)sent;
            tries = 0;
        }
        usleep(500);
    }
    guest_check(shutdown(client[2], SHUT_WR) == 0);
    comes_to(client[0], FIN_WAIT2);
    comes_to(server[1], FIN_WAIT2);
    guest_check(state_of(server[0]) == CLOSE_WAIT && state_of(client[1]) == CLOSE_WAIT);
    guest_check(state_of(client[2]) == FIN_WAIT1);

    guest_checkpoint_here();

    guest_check(state_of(server[0]) == CLOSE_WAIT && state_of(client[1]) == CLOSE_WAIT);
    guest_check(state_of(client[2]) == FIN_WAIT1);
    comes_to(client[0], FIN_WAIT2);
    comes_to(server[1], FIN_WAIT2);
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
    size_t taken = 0;
    for (ssize_t length; (length = read(server[2], block, sizeof block)) > 0;)
        taken += (size_t)length;
    guest_check(taken == full, "%zu of %zu", taken, full);
    guest_check(close(server[0]) == 0 && close(client[1]) == 0);
    is_at_end(client[0]);
    is_at_end(server[1]);
    guest_check(write(client[3], "open", 4) == 4);
    reads(server[3], "open");
    return 0;
}
