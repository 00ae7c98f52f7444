//# expect: resumes
//# flavours: alone running killed again exec namespace user
//# show: inet state=idle
/* TCP sockets that neither listen nor are connected: new ones, with options, bound ones, one whose port a listener has as well, and
 * a group of listeners at one port (SO_REUSEPORT). */
#include "ip.h"

int main(void)
{
    union ip own = ip_own(4000), shared = ip_own(4001), group = ip_own(4002);
    int fresh = socket(AF_INET, SOCK_STREAM, 0), six = socket(AF_INET6, SOCK_STREAM, 0);
    int bound = socket(AF_INET, SOCK_STREAM, 0), beside = socket(AF_INET, SOCK_STREAM, 0);
    int listener = socket(AF_INET, SOCK_STREAM, 0), member[3];
    guest_check(fresh >= 0 && six >= 0 && bound >= 0 && beside >= 0 && listener >= 0);
    ip_set(six, IPPROTO_TCP, TCP_KEEPCNT, 3);
    ip_bind(bound, own);
    for (int i = 0; i < 2; i++) {
        ip_set(i ? listener : beside, SOL_SOCKET, SO_REUSEADDR, 1);
        ip_bind(i ? listener : beside, shared);
    }
    guest_check(listen(listener, 3) == 0);
    for (int i = 0; i < 3; i++) {
        member[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        ip_set(member[i], SOL_SOCKET, SO_REUSEPORT, 1);
        ip_bind(member[i], group);
        guest_check(listen(member[i], 64) == 0);
    }

    guest_checkpoint_here();

    struct pollfd states[] = {{.fd = fresh, .events = POLLIN | POLLOUT | POLLRDHUP},
                              {.fd = bound, .events = POLLIN | POLLOUT | POLLRDHUP}};
    guest_check(poll(states, 2, 0) == 2);
    guest_check(states[0].revents == (POLLOUT | POLLHUP) && states[1].revents == (POLLOUT | POLLHUP));
    guest_check(ip_get(six, IPPROTO_TCP, TCP_KEEPCNT) == 3);
    ip_is_at(bound, own);
    ip_is_at(beside, shared);
    guest_check(ip_get(bound, SOL_SOCKET, SO_REUSEADDR) == 0 && ip_get(beside, SOL_SOCKET, SO_REUSEADDR) == 1);
    int other = socket(AF_INET, SOCK_STREAM, 0);
    guest_check(bind(other, &own.any, sizeof own.four) == -1 && errno == EADDRINUSE);
    ip_serves(listener, shared);
    guest_check(connect(fresh, &shared.any, sizeof shared.four) == 0 && accept(listener, NULL, NULL) >= 0);
    union ip zero = ip_six("::", 0);
    ip_is_at(six, zero);
    guest_check(listen(bound, 2) == 0);
    ip_serves(bound, own);
    /* The kernel spreads connections over the group. */
    int clients = 0, served = 0;
    for (; clients < 90; clients++)
        ip_connect(group);
    for (int i = 0; i < 3; i++) {
        int count = 0;
        guest_check(ip_get(member[i], SOL_SOCKET, SO_REUSEPORT) == 1);
        while (accept(member[i], NULL, NULL) >= 0)
            count++;
        guest_check(count > 0, "member %d has none", i);
        served += count;
    }
    guest_check(served == clients, "%d of %d", served, clients);
    return 0;
}
