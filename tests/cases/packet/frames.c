//# expect: resumes
//# flavours: alone running killed again exec
//# needs: root
//# show: packet protocol=34997
/* Packet sockets: new, bound to an interface, with options, a filter, what the interface lets through, and a share. */
#include "../inet/ip.h"
#include <linux/filter.h>
#include <linux/if_packet.h>

#define KIND 0x88b5 /* for experiments */

static int shared(int fd)
{
    int value = ip_get(fd, SOL_PACKET, PACKET_FANOUT);
    return value;
}

int main(void)
{
    /* Only frames that begin with this guest's own id. */
    struct sock_filter own[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)getpid(), 0, 1),
        BPF_STMT(BPF_RET | BPF_K, 0xffff),
        BPF_STMT(BPF_RET | BPF_K, 0),
    };
    struct sock_fprog program = {4, own};
    int fresh = socket(AF_PACKET, SOCK_RAW, 0), fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    int share = socket(AF_PACKET, SOCK_DGRAM, 0);
    guest_check(fresh >= 0 && fd >= 0 && share >= 0);
    guest_check(setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) == 0);
    ip_set(fd, SOL_PACKET, PACKET_AUXDATA, 1);
    ip_set(fd, SOL_PACKET, PACKET_VERSION, TPACKET_V3);
    struct sockaddr_ll lo = {.sll_family = AF_PACKET, .sll_protocol = htons(KIND), .sll_ifindex = 1};
    guest_check(bind(fd, (struct sockaddr *)&lo, sizeof lo) == 0);
    struct packet_mreq all = {.mr_ifindex = 1, .mr_type = PACKET_MR_ALLMULTI};
    guest_check(setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &all, sizeof all) == 0);
    struct sockaddr_ll any = {.sll_family = AF_PACKET, .sll_protocol = htons(KIND + 1)};
    guest_check(bind(share, (struct sockaddr *)&any, sizeof any) == 0);
    int group = (getpid() & 0xffff) | PACKET_FANOUT_LB << 16;
    ip_set(share, SOL_PACKET, PACKET_FANOUT, group);

    guest_checkpoint_here();

    struct sockaddr_ll name = {0};
    socklen_t length = sizeof name;
    guest_check(getsockname(fd, (struct sockaddr *)&name, &length) == 0);
    guest_check(name.sll_protocol == htons(KIND) && name.sll_ifindex == 1, "%x", ntohs(name.sll_protocol));
    length = sizeof name;
    guest_check(getsockname(fresh, (struct sockaddr *)&name, &length) == 0 && name.sll_protocol == 0);
    guest_check(ip_get(fd, SOL_PACKET, PACKET_AUXDATA) == 1 && ip_get(fd, SOL_PACKET, PACKET_VERSION) == TPACKET_V3);
    guest_check(fcntl(fd, F_GETFL) & O_NONBLOCK && shared(share) == group, "%x", shared(share));
    /* It hears its own frames, and those alone. */
    struct {
        uint32_t id;
        char text[4];
    } frame = {htonl(1), "no"}, heard = {0};
    struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_protocol = htons(KIND), .sll_ifindex = 1, .sll_halen = 6};
    guest_check(sendto(fd, &frame, sizeof frame, 0, (struct sockaddr *)&to, sizeof to) == sizeof frame);
    frame.id = htonl((unsigned)getpid());
    memcpy(frame.text, "yes", 4);
    guest_check(sendto(fd, &frame, sizeof frame, 0, (struct sockaddr *)&to, sizeof to) == sizeof frame);
    struct pollfd ready = {.fd = fd, .events = POLLIN};
    guest_check(poll(&ready, 1, 10000) == 1 && recv(fd, &heard, sizeof heard, 0) == sizeof heard);
    guest_check(!memcmp(&heard, &frame, sizeof heard), "%s", heard.text);
    guest_check(setsockopt(fd, SOL_PACKET, PACKET_DROP_MEMBERSHIP, &all, sizeof all) == 0);
    return 0;
}
