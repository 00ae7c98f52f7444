//# expect: resumes
//# flavours: alone running killed again exec
/* Members of multicast groups: of IPv4 and of IPv6, with sources that are left out, or that alone are heard. */
#include "ip.h"
#include <net/if.h>

static int groups(int fd, int level, struct sockaddr *group, socklen_t length, struct group_filter *filter)
{
    socklen_t size = (socklen_t)GROUP_FILTER_SIZE(4);
    memset(filter, 0, size);
    filter->gf_interface = if_nametoindex("lo");
    memcpy(&filter->gf_group, group, length);
    filter->gf_numsrc = 4;
    return getsockopt(fd, level, MCAST_MSFILTER, filter, &size);
}

int main(void)
{
    union ip own = ip_own(4050), group = {.four = {.sin_family = AF_INET}}, second, third;
    group.four.sin_addr.s_addr = htonl(0xef010000u | ((unsigned)getpid() & 0xffffu));
    second = group, third = group;
    second.four.sin_addr.s_addr ^= htonl(0x020000u), third.four.sin_addr.s_addr ^= htonl(0x040000u);
    union ip six = ip_six("ff15::4:7", 0);
    six.six.sin6_addr.s6_addr[12] = (uint8_t)(getpid() >> 8), six.six.sin6_addr.s6_addr[13] = (uint8_t)getpid();
    int fd = socket(AF_INET, SOCK_DGRAM, 0), other = socket(AF_INET6, SOCK_DGRAM, 0), none = socket(AF_INET, SOCK_DGRAM, 0);
    union ip any = {.four = {.sin_family = AF_INET, .sin_port = htons((uint16_t)ip_port(6))}};
    ip_bind(fd, any);
    struct group_req request = {.gr_interface = if_nametoindex("lo")};
    struct group_source_req source = {.gsr_interface = request.gr_interface};
    memcpy(&request.gr_group, &group, sizeof group.four);
    guest_check(setsockopt(fd, IPPROTO_IP, MCAST_JOIN_GROUP, &request, sizeof request) == 0);
    memcpy(&request.gr_group, &second, sizeof second.four);
    guest_check(setsockopt(fd, IPPROTO_IP, MCAST_JOIN_GROUP, &request, sizeof request) == 0);
    memcpy(&source.gsr_group, &second, sizeof second.four);
    memcpy(&source.gsr_source, &own, sizeof own.four);
    guest_check(setsockopt(fd, IPPROTO_IP, MCAST_BLOCK_SOURCE, &source, sizeof source) == 0);
    memcpy(&source.gsr_group, &third, sizeof third.four);
    guest_check(setsockopt(fd, IPPROTO_IP, MCAST_JOIN_SOURCE_GROUP, &source, sizeof source) == 0);
    memcpy(&request.gr_group, &six, sizeof six.six);
    guest_check(setsockopt(other, IPPROTO_IPV6, MCAST_JOIN_GROUP, &request, sizeof request) == 0);
    struct in_addr interface = {htonl(INADDR_LOOPBACK)};
    guest_check(setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &interface, sizeof interface) == 0);
    ip_set(fd, IPPROTO_IP, IP_MULTICAST_TTL, 3);

    guest_checkpoint_here();

    union {
        struct group_filter filter;
        char room[2048];
    } found;
    guest_check(groups(fd, IPPROTO_IP, &group.any, sizeof group.four, &found.filter) == 0);
    guest_check(found.filter.gf_fmode == MCAST_EXCLUDE && found.filter.gf_numsrc == 0);
    guest_check(groups(fd, IPPROTO_IP, &second.any, sizeof second.four, &found.filter) == 0);
    guest_check(found.filter.gf_fmode == MCAST_EXCLUDE && found.filter.gf_numsrc == 1);
    guest_check(groups(fd, IPPROTO_IP, &third.any, sizeof third.four, &found.filter) == 0);
    guest_check(found.filter.gf_fmode == MCAST_INCLUDE && found.filter.gf_numsrc == 1);
    struct sockaddr_in *heard = (struct sockaddr_in *)&found.filter.gf_slist[0];
    guest_check(heard->sin_addr.s_addr == own.four.sin_addr.s_addr);
    guest_check(groups(other, IPPROTO_IPV6, &six.any, sizeof six.six, &found.filter) == 0);
    guest_check(groups(none, IPPROTO_IP, &group.any, sizeof group.four, &found.filter) == -1);
    guest_check(ip_get(fd, IPPROTO_IP, IP_MULTICAST_TTL) == 3);
    /* It hears what it sends to the group. */
    char bytes[16] = {0};
    group.four.sin_port = htons((uint16_t)ip_port(6));
    guest_check(sendto(fd, "to all", 6, 0, &group.any, sizeof group.four) == 6);
    guest_check(recv(fd, bytes, sizeof bytes, 0) == 6 && !strcmp(bytes, "to all"));
    return 0;
}
