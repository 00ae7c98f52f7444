/* What cases of IP sockets have in common.
 *
 * Tests run at the same time, and a copy takes the port of the original: so every guest has an address of its own, out of
 * 127/8 by its process id, and where that does not do, a port of its own that the kernel gives nobody. */
#ifndef IP_H
#define IP_H

#include "../guest.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

union ip {
    struct sockaddr any;
    struct sockaddr_in four;
    struct sockaddr_in6 six;
};

/* An address of this guest's own. */
__attribute__((unused)) static union ip ip_own(int port)
{
    union ip ip = {.four = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)}};
    ip.four.sin_addr.s_addr = htonl(0x7f000000u | ((unsigned)getpid() & 0x3fffffu) | 0x400000u);
    return ip;
}

/* A port of this guest's own, the `nth`. */
__attribute__((unused)) static int ip_port(int nth)
{
    return 2000 + (getpid() * 8 + nth) % 30000;
}

__attribute__((unused)) static union ip ip_six(const char *address, int port)
{
    union ip ip = {.six = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)}};
    guest_check(inet_pton(AF_INET6, address, &ip.six.sin6_addr) == 1);
    return ip;
}

static socklen_t ip_length(const union ip *ip)
{
    return ip->any.sa_family == AF_INET6 ? sizeof ip->six : sizeof ip->four;
}

__attribute__((unused)) static int ip_get(int fd, int level, int name)
{
    int value = -1;
    socklen_t length = sizeof value;
    guest_check(getsockopt(fd, level, name, &value, &length) == 0, "%d %d", level, name);
    return value;
}

__attribute__((unused)) static void ip_set(int fd, int level, int name, int value)
{
    guest_check(setsockopt(fd, level, name, &value, sizeof value) == 0, "%d %d", level, name);
}

__attribute__((unused)) static void ip_bind(int fd, union ip ip)
{
    guest_check(bind(fd, &ip.any, ip_length(&ip)) == 0);
}

/* Checks that `fd` has this address. */
__attribute__((unused)) static void ip_is_at(int fd, union ip ip)
{
    union ip own = {0};
    socklen_t length = sizeof own;
    guest_check(getsockname(fd, &own.any, &length) == 0);
    guest_check(length == ip_length(&ip) && !memcmp(&own, &ip, length), "port %d", ntohs(own.four.sin_port));
}

/* A TCP socket that is connected to `ip`. */
__attribute__((unused)) static int ip_connect(union ip ip)
{
    int fd = socket(ip.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    guest_check(fd >= 0 && connect(fd, &ip.any, ip_length(&ip)) == 0);
    return fd;
}

/* Checks that a listener at `ip` takes a connection: through which a word comes. */
__attribute__((unused)) static void ip_serves(int listener, union ip ip)
{
    char word[8] = {0};
    int client = ip_connect(ip), server = accept(listener, NULL, NULL);
    guest_check(server >= 0 && write(client, "word", 4) == 4);
    guest_check(read(server, word, sizeof word) == 4 && !strcmp(word, "word"));
    guest_check(close(client) == 0 && close(server) == 0);
}

/* The state of a TCP socket (linux/tcp_states.h). */
__attribute__((unused)) static int ip_state(int fd)
{
    struct tcp_info info = {0};
    socklen_t length = sizeof info;
    guest_check(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) == 0);
    return info.tcpi_state;
}

/* Waits for it: acknowledgements take their time. */
__attribute__((unused)) static void ip_comes_to(int fd, int state)
{
    for (int left = 4000; ip_state(fd) != state && left; left--)
        usleep(500);
    guest_check(ip_state(fd) == state, "%d, not %d", ip_state(fd), state);
}

/* Writes until there is no room, not even a little later. Returns how many bytes. */
__attribute__((unused)) static size_t ip_fill(int fd)
{
    static char block[1 << 16];
    size_t full = 0;
    for (int tries = 0; tries < 20; tries++) {
        ssize_t sent = send(fd, block, sizeof block, MSG_DONTWAIT);
        if (sent > 0) {
            full += (size_t)sent;
            tries = 0;
        }
        usleep(500);
    }
    return full;
}

/* Reads to the end. Returns how many bytes. */
__attribute__((unused)) static size_t ip_drain(int fd)
{
    static char block[1 << 16];
    size_t taken = 0;
    for (ssize_t length; (length = read(fd, block, sizeof block)) > 0;)
        taken += (size_t)length;
    return taken;
}

/* How many connections may wait at a listener. */
__attribute__((unused)) static unsigned ip_backlog(int fd)
{
    struct tcp_info info = {0};
    socklen_t length = sizeof info;
    guest_check(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) == 0 && info.tcpi_state == TCP_LISTEN);
    return info.tcpi_sacked;
}

#endif
