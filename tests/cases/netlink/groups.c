//# expect: resumes
//# flavours: alone running killed again exec namespace user
//# show: netlink lost=false
/* Netlink sockets: new, with an id, groups, options and a peer of their own protocol; the kernel answers afterwards, too. */
#include "netlink.h"

int main(void)
{
    int fresh = netlink_make(NETLINK_ROUTE, 0), fd = netlink_make(NETLINK_ROUTE, SOCK_NONBLOCK);
    int one = netlink_make(NETLINK_USERSOCK, 0), two = netlink_make(NETLINK_USERSOCK, 0);
    /* Ids are given by process id; a copy that runs beside must not take these. */
    unsigned own = netlink_bind(fd, 0, 1), first = netlink_bind(one, (unsigned)getpid() + 0x40000000, 0);
    unsigned second = netlink_bind(two, (unsigned)getpid() + 0x50000000, 0);
    int brvlan = 33, size = 100000;
    guest_check(setsockopt(fd, SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &brvlan, sizeof brvlan) == 0);
    guest_check(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size) == 0);
    netlink_set(fd, NETLINK_PKTINFO);
    netlink_set(fd, NETLINK_EXT_ACK);
    netlink_set(one, NETLINK_NO_ENOBUFS);
    netlink_set(one, NETLINK_BROADCAST_ERROR);
    struct sockaddr_nl peer = {.nl_family = AF_NETLINK, .nl_pid = second};
    guest_check(connect(one, (struct sockaddr *)&peer, sizeof peer) == 0);

    guest_checkpoint_here();

    guest_check(netlink_name(fresh).nl_pid == 0 && netlink_name(two).nl_pid == second);
    guest_check(netlink_name(fd).nl_pid == own && netlink_name(fd).nl_groups == 1, "%x", netlink_name(fd).nl_groups);
    unsigned groups[2] = {0};
    socklen_t length = sizeof groups;
    guest_check(getsockopt(fd, SOL_NETLINK, NETLINK_LIST_MEMBERSHIPS, groups, &length) == 0);
    guest_check(groups[0] == 1 && groups[1] == 1, "%x %x", groups[0], groups[1]);
    guest_check(netlink_get(fd, NETLINK_PKTINFO) && netlink_get(fd, NETLINK_EXT_ACK) && !netlink_get(fd, NETLINK_CAP_ACK));
    guest_check(netlink_get(one, NETLINK_NO_ENOBUFS) && netlink_get(one, NETLINK_BROADCAST_ERROR));
    length = sizeof size;
    guest_check(getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, &length) == 0 && size == 200000);
    guest_check(fcntl(fd, F_GETFL) & O_NONBLOCK);
    /* The kernel answers under this id. */
    netlink_ask(fd, 7);
    struct nlmsghdr answer = {0};
    guest_check(recv(fd, &answer, sizeof answer, MSG_TRUNC) > 0);
    guest_check(answer.nlmsg_seq == 7 && answer.nlmsg_pid == own, "%u", answer.nlmsg_pid);
    guest_check(recv(fd, &answer, sizeof answer, 0) == -1 && errno == EAGAIN);
    /* And the peer is who it was. */
    char byte = 'x';
    struct sockaddr_nl from = {0};
    length = sizeof from;
    guest_check(send(one, &byte, 1, 0) == 1);
    guest_check(recvfrom(two, &byte, 1, 0, (struct sockaddr *)&from, &length) == 1 && from.nl_pid == first);
    return 0;
}
