//# expect: refused "in the middle of a long answer"
/* A long answer of the kernel, of which there is more than was read, is refused. */
#include "netlink.h"
#include <linux/genetlink.h>

int main(void)
{
    struct {
        struct nlmsghdr head;
        struct genlmsghdr general;
    } request = {
        .head = {.nlmsg_len = sizeof request, .nlmsg_type = GENL_ID_CTRL, .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
        .general = {.cmd = CTRL_CMD_GETFAMILY, .version = 1},
    };
    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    int fd = netlink_make(NETLINK_GENERIC, SOCK_NONBLOCK);
    guest_check(sendto(fd, &request, sizeof request, 0, (struct sockaddr *)&kernel, sizeof kernel) == sizeof request);

    guest_checkpoint_here();

    char bytes[32768];
    int parts = 0;
    while (recv(fd, bytes, sizeof bytes, 0) > 0)
        parts++;
    guest_check(parts > 1, "the refusal has hurt");
    return 0;
}
