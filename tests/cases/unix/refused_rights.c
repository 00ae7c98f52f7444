//# expect: refused "descriptors on their way"
/* Descriptors that wait in a socket are named, and are still there. */
#include "sockets.h"

int main(void)
{
    int ends[2], sent = 2;
    guest_check(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    char control[CMSG_SPACE(sizeof sent)] = {0};
    struct iovec bytes = {"x", 1};
    struct msghdr message = {.msg_iov = &bytes, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    *header = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof sent)};
    memcpy(CMSG_DATA(header), &sent, sizeof sent);
    guest_check(sendmsg(ends[0], &message, 0) == 1);

    guest_checkpoint_here();

    char byte;
    bytes.iov_base = &byte;
    guest_check(recvmsg(ends[1], &message, 0) == 1 && message.msg_controllen == sizeof control, "the refusal has hurt");
    return 0;
}
