//# expect: resumes
//# flavours: alone running killed again exec namespace
//# show: netlink lost=true
/* What nobody had read is told of as lost, as when there is no room; not to a socket that does not want to know. */
#include "netlink.h"

int main(void)
{
    int fd = netlink_make(NETLINK_ROUTE, SOCK_NONBLOCK), silent = netlink_make(NETLINK_ROUTE, SOCK_NONBLOCK);
    netlink_bind(fd, 0, 0);
    netlink_bind(silent, 0, 0);
    netlink_set(silent, NETLINK_NO_ENOBUFS);
    netlink_ask(fd, 1);
    netlink_ask(silent, 1);

    guest_checkpoint_here();

    /* Left running, it has its answer; resumed, it is told, and told once. */
    struct nlmsghdr head = {0};
    ssize_t count = recv(fd, &head, sizeof head, MSG_TRUNC);
    guest_check(count > 0 ? head.nlmsg_seq == 1 : errno == ENOBUFS, "%zd %s", count, strerror(errno));
    if (count < 0) {
        guest_check(recv(fd, &head, sizeof head, MSG_TRUNC) > 0 && head.nlmsg_type == NLMSG_NOOP);
        guest_check(recv(silent, &head, sizeof head, MSG_TRUNC) == -1 && errno == EAGAIN);
    }
    guest_check(recv(fd, &head, sizeof head, 0) == -1 && errno == EAGAIN);
    /* There is room again. */
    netlink_ask(fd, 2);
    guest_check(recv(fd, &head, sizeof head, MSG_TRUNC) > 0 && head.nlmsg_seq == 2);
    return 0;
}
