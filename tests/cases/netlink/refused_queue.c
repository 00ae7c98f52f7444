//# expect: refused "a netlink socket that takes packets from a queue (NFQUEUE)"
/* The kernel has bound a queue of packets to the id of a socket: it would be lost, with the packets that go there. */
#include "netlink.h"
#include <arpa/inet.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_queue.h>

int main(void)
{
    struct {
        struct nlmsghdr head;
        struct nfgenmsg family;
        struct nlattr attribute;
        struct nfqnl_msg_config_cmd command;
    } request = {
        .head = {.nlmsg_len = sizeof request,
                 .nlmsg_type = NFNL_SUBSYS_QUEUE << 8 | NFQNL_MSG_CONFIG,
                 .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK},
        .family = {.version = NFNETLINK_V0, .res_id = htons((uint16_t)getpid())},
        .attribute = {.nla_len = sizeof request.attribute + sizeof request.command, .nla_type = NFQA_CFG_CMD},
        .command = {.command = NFQNL_CFG_CMD_BIND},
    };
    struct {
        struct nlmsghdr head;
        struct nlmsgerr error;
    } answer = {0};
    int fd = netlink_make(NETLINK_NETFILTER, 0);
    netlink_bind(fd, 0, 0);
    guest_check(send(fd, &request, sizeof request, 0) == sizeof request);
    guest_check(recv(fd, &answer, sizeof answer, 0) > 0 && answer.head.nlmsg_type == NLMSG_ERROR);
    if (answer.error.error == -EPERM || answer.error.error == -EINVAL || answer.error.error == -EOPNOTSUPP)
        guest_skip("this kernel permits no queue of packets");
    guest_check(answer.error.error == 0, "%d", answer.error.error);

    guest_checkpoint_here();

    request.command.command = NFQNL_CFG_CMD_UNBIND;
    guest_check(send(fd, &request, sizeof request, 0) == sizeof request);
    guest_check(recv(fd, &answer, sizeof answer, 0) > 0 && answer.error.error == 0, "the refusal has hurt");
    return 0;
}
