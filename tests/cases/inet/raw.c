//# expect: resumes
//# flavours: alone running killed again exec namespace
//# needs: root
//# show: inet state=connected
/* Raw sockets of both versions and one for pings: addresses, peers without a port, filters, and that they hear again. */
#include "ip.h"
#include <linux/icmp.h>

#define PROTOCOL 253 /* for experiments: nobody else on this host sends it */

static void is_connected(int fd, union ip own, union ip peer)
{
    union ip name = {0};
    socklen_t length = sizeof name;
    guest_check(getsockname(fd, &name.any, &length) == 0 && name.four.sin_addr.s_addr == own.four.sin_addr.s_addr);
    char byte = 'p';
    guest_check(send(fd, &byte, 1, 0) == 1, "no peer %s", inet_ntoa(peer.four.sin_addr));
}

int main(void)
{
    union ip own = ip_own(0), peer = ip_own(0), zero = {.four = {.sin_family = AF_INET, .sin_port = htons(PROTOCOL)}};
    peer.four.sin_addr.s_addr ^= htonl(0x800000);
    int fresh = socket(AF_INET, SOCK_RAW, PROTOCOL), bound = socket(AF_INET, SOCK_RAW | SOCK_NONBLOCK, PROTOCOL);
    int peered = socket(AF_INET, SOCK_RAW, PROTOCOL + 1), icmp = socket(AF_INET, SOCK_RAW, IPPROTO_ICMP);
    int six = socket(AF_INET6, SOCK_RAW, PROTOCOL), ping = socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP);
    guest_check(fresh >= 0 && bound >= 0 && peered >= 0 && icmp >= 0 && six >= 0);
    /* Nothing of what this host does besides reaches them. */
    struct icmp_filter all = {~0u}, found = {0};
    guest_check(setsockopt(icmp, SOL_RAW, ICMP_FILTER, &all, sizeof all) == 0);
    union ip other = ip_own(0);
    other.four.sin_addr.s_addr ^= htonl(0xc00000);
    ip_bind(bound, own);
    ip_bind(fresh, other);
    ip_set(bound, IPPROTO_IP, IP_HDRINCL, 1);
    ip_set(six, IPPROTO_IPV6, IPV6_CHECKSUM, 2);
    guest_check(connect(peered, &peer.any, sizeof peer.four) == 0);
    union ip from = {0}, id = {0};
    socklen_t length = sizeof from;
    guest_check(getsockname(peered, &from.any, &length) == 0);
    if (ping >= 0)
        ip_bind(ping, own);
    length = sizeof id;
    guest_check(ping < 0 || (getsockname(ping, &id.any, &length) == 0 && id.four.sin_port != 0));

    guest_checkpoint_here();

    zero.four.sin_addr = other.four.sin_addr;
    ip_is_at(fresh, zero);
    guest_check(ip_get(bound, SOL_SOCKET, SO_PROTOCOL) == PROTOCOL && ip_get(bound, IPPROTO_IP, IP_HDRINCL) == 1);
    guest_check(ip_get(fresh, IPPROTO_IP, IP_HDRINCL) == 0 && fcntl(bound, F_GETFL) & O_NONBLOCK);
    guest_check(ip_get(six, IPPROTO_IPV6, IPV6_CHECKSUM) == 2);
    length = sizeof found;
    guest_check(getsockopt(icmp, SOL_RAW, ICMP_FILTER, &found, &length) == 0 && found.data == ~0u, "%x", found.data);
    is_connected(peered, from, peer);
    if (ping >= 0)
        ip_is_at(ping, id);
    /* What comes to its address, it hears. */
    char packet[64];
    guest_check(sendto(fresh, "raw", 3, 0, &own.any, sizeof own.four) == 3);
    guest_check(recv(bound, packet, sizeof packet, 0) == 23 && !memcmp(packet + 20, "raw", 3));
    return 0;
}
