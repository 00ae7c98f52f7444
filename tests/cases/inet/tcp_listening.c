//# expect: resumes
//# flavours: alone running killed again exec namespace user
//# show: inet state=listening backlog=7
/* TCP sockets that listen: of IPv4, of IPv6 alone, of both at one port, of a mapped address; with their backlogs and options. The
 * port is another one's as long as the original is there. */
#include "ip.h"

int main(void)
{
    union ip four = ip_own(80 + 8000), six = ip_six("::1", ip_port(0)), both = ip_six("::", ip_port(1)), alone;
    union ip mapped = ip_six("::ffff:127.0.0.1", ip_port(2)), beside = {.four = {.sin_family = AF_INET}};
    alone = ip_six("::", ip_port(3));
    beside.four.sin_port = htons((uint16_t)ip_port(3));
    union ip all[] = {four, six, both, mapped, alone, beside};
    union ip through = ip_six("::ffff:127.0.0.1", ip_port(1));
    int fd[6];
    for (int i = 0; i < 6; i++) {
        fd[i] = socket(all[i].any.sa_family, SOCK_STREAM | (i == 1 ? SOCK_NONBLOCK : 0), 0);
        guest_check(fd[i] >= 0);
        if (i == 1 || i == 4)
            ip_set(fd[i], IPPROTO_IPV6, IPV6_V6ONLY, 1);
        else if (i == 2)
            ip_set(fd[i], IPPROTO_IPV6, IPV6_V6ONLY, 0);
        if (i == 0)
            ip_set(fd[i], SOL_SOCKET, SO_REUSEADDR, 1);
        ip_bind(fd[i], all[i]);
    }
    ip_set(fd[0], IPPROTO_TCP, TCP_NODELAY, 1);
    ip_set(fd[0], IPPROTO_TCP, TCP_KEEPIDLE, 77);
    ip_set(fd[0], IPPROTO_TCP, TCP_MAXSEG, 1000);
    ip_set(fd[0], IPPROTO_TCP, TCP_USER_TIMEOUT, 12345);
    ip_set(fd[0], IPPROTO_TCP, TCP_FASTOPEN, 9);
    ip_set(fd[0], IPPROTO_IP, IP_TOS, 0x10);
    ip_set(fd[0], IPPROTO_IP, IP_TTL, 33);
    ip_set(fd[0], SOL_SOCKET, SO_KEEPALIVE, 1);
    ip_set(fd[0], SOL_SOCKET, SO_RCVBUF, 20000);
    guest_check(setsockopt(fd[0], IPPROTO_TCP, TCP_CONGESTION, "reno", 4) == 0);
    ip_set(fd[2], IPPROTO_IPV6, IPV6_TCLASS, 0x20);
    ip_set(fd[2], IPPROTO_IPV6, IPV6_UNICAST_HOPS, 44);
    for (int i = 0; i < 6; i++)
        guest_check(listen(fd[i], 7 + i) == 0);
    ip_set(fd[0], IPPROTO_TCP, TCP_DEFER_ACCEPT, 5);
    int deferred = ip_get(fd[0], IPPROTO_TCP, TCP_DEFER_ACCEPT), size = ip_get(fd[0], SOL_SOCKET, SO_RCVBUF);

    guest_checkpoint_here();

    for (int i = 0; i < 6; i++) {
        ip_is_at(fd[i], all[i]);
        guest_check(ip_backlog(fd[i]) == 7u + (unsigned)i, "%u", ip_backlog(fd[i]));
        guest_check(ip_get(fd[i], SOL_SOCKET, SO_ACCEPTCONN) == 1);
        guest_check(ip_get(fd[i], SOL_SOCKET, SO_REUSEADDR) == (i == 0));
        guest_check(!(fcntl(fd[i], F_GETFL) & O_NONBLOCK) == (i != 1));
        if (all[i].any.sa_family == AF_INET6)
            guest_check(ip_get(fd[i], IPPROTO_IPV6, IPV6_V6ONLY) == (i == 1 || i == 4));
    }
    char name[16] = {0};
    socklen_t length = sizeof name;
    guest_check(getsockopt(fd[0], IPPROTO_TCP, TCP_CONGESTION, name, &length) == 0 && !strcmp(name, "reno"));
    guest_check(ip_get(fd[0], IPPROTO_TCP, TCP_NODELAY) == 1 && ip_get(fd[0], IPPROTO_TCP, TCP_KEEPIDLE) == 77);
    guest_check(ip_get(fd[0], IPPROTO_TCP, TCP_MAXSEG) == 1000);
    guest_check(ip_get(fd[0], IPPROTO_TCP, TCP_USER_TIMEOUT) == 12345);
    guest_check(ip_get(fd[0], IPPROTO_TCP, TCP_FASTOPEN) == 9);
    guest_check(ip_get(fd[0], IPPROTO_TCP, TCP_DEFER_ACCEPT) == deferred && deferred > 0);
    guest_check(ip_get(fd[0], IPPROTO_IP, IP_TOS) == 0x10 && ip_get(fd[0], IPPROTO_IP, IP_TTL) == 33);
    guest_check(ip_get(fd[0], SOL_SOCKET, SO_KEEPALIVE) == 1 && ip_get(fd[0], SOL_SOCKET, SO_RCVBUF) == size);
    guest_check(ip_get(fd[2], IPPROTO_IPV6, IPV6_TCLASS) == 0x20);
    guest_check(ip_get(fd[2], IPPROTO_IPV6, IPV6_UNICAST_HOPS) == 44);

    ip_set(fd[0], IPPROTO_TCP, TCP_DEFER_ACCEPT, 0);
    ip_serves(fd[0], four);
    both.six.sin6_addr = in6addr_loopback;
    ip_serves(fd[2], both);
    ip_serves(fd[2], through);
    ip_serves(fd[3], mapped);
    alone.six.sin6_addr = in6addr_loopback;
    ip_serves(fd[4], alone);
    beside.four.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ip_serves(fd[5], beside);
    guest_check(accept(fd[1], NULL, NULL) == -1 && errno == EAGAIN);
    guest_check(fcntl(fd[1], F_SETFL, 0) == 0);
    ip_serves(fd[1], six);
    return 0;
}
