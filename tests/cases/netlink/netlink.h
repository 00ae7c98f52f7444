/* What cases of netlink sockets have in common. */
#ifndef NETLINK_H
#define NETLINK_H

#include "../guest.h"
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

__attribute__((unused)) static int netlink_make(int protocol, int flags)
{
    int fd = socket(AF_NETLINK, SOCK_RAW | flags, protocol);
    guest_check(fd >= 0);
    return fd;
}

__attribute__((unused)) static struct sockaddr_nl netlink_name(int fd)
{
    struct sockaddr_nl name = {0};
    socklen_t length = sizeof name;
    guest_check(getsockname(fd, (struct sockaddr *)&name, &length) == 0);
    return name;
}

/* Gives `fd` an id, the kernel's choice if it is 0, and groups. */
__attribute__((unused)) static unsigned netlink_bind(int fd, unsigned id, unsigned groups)
{
    struct sockaddr_nl name = {.nl_family = AF_NETLINK, .nl_pid = id, .nl_groups = groups};
    guest_check(bind(fd, (struct sockaddr *)&name, sizeof name) == 0);
    return netlink_name(fd).nl_pid;
}

__attribute__((unused)) static int netlink_get(int fd, int name)
{
    int value = -1;
    socklen_t length = sizeof value;
    guest_check(getsockopt(fd, SOL_NETLINK, name, &value, &length) == 0, "%d", name);
    return value;
}

__attribute__((unused)) static void netlink_set(int fd, int name)
{
    int on = 1;
    guest_check(setsockopt(fd, SOL_NETLINK, name, &on, sizeof on) == 0, "%d", name);
}

/* Asks the kernel for its loopback interface. */
__attribute__((unused)) static void netlink_ask(int fd, unsigned sequence)
{
    struct {
        struct nlmsghdr head;
        struct ifinfomsg interface;
    } request = {
        .head = {.nlmsg_len = sizeof request, .nlmsg_type = RTM_GETLINK, .nlmsg_flags = NLM_F_REQUEST, .nlmsg_seq = sequence},
        .interface = {.ifi_index = 1},
    };
    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    guest_check(sendto(fd, &request, sizeof request, 0, (struct sockaddr *)&kernel, sizeof kernel) == sizeof request);
}

#endif
