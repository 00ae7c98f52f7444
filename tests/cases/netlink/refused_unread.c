//# expect: refused "a netlink socket of protocol 2 with something to read"
/* What a program has sent, where the kernel cannot tell of a loss, is refused. */
#include "netlink.h"

int main(void)
{
    int fd = netlink_make(NETLINK_USERSOCK, 0);
    struct sockaddr_nl own = {.nl_family = AF_NETLINK, .nl_pid = netlink_bind(fd, 0, 0)};
    guest_check(sendto(fd, "x", 1, 0, (struct sockaddr *)&own, sizeof own) == 1);

    guest_checkpoint_here();

    char byte = 0;
    guest_check(recv(fd, &byte, 1, 0) == 1 && byte == 'x', "the refusal has hurt");
    return 0;
}
