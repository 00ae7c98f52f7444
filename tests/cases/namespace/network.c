//# expect: resumes
//# needs: capability sys_admin
//# tasks: 2
//# flavours: alone running killed again exec namespace
//# show: namespace kind=net loopback_is_up=true
/* A tree in a network namespace of its own, whose loopback is up, at a port that ordinary users may have there; and a task that
 * lives in another one, where it is down. */
#include "../tree.h"
#include <arpa/inet.h>
#include <net/if.h>
#include <sys/ioctl.h>

static int control(unsigned long request, short *flags)
{
    struct ifreq lo = {.ifr_name = "lo", .ifr_flags = *flags};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    int result = ioctl(fd, request, &lo);
    *flags = lo.ifr_flags;
    close(fd);
    return result;
}

static bool is_up(void)
{
    short flags = 0;
    guest_check(control(SIOCGIFFLAGS, &flags) == 0);
    return flags & IFF_UP;
}

static void apart(void)
{
    guest_check(unshare(CLONE_NEWNET) == 0 && !is_up());
    tree_checkpoint_here();
    guest_check(!is_up());
}

int main(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(7)};
    short up = IFF_UP;
    char text[8] = {0};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    guest_check(unshare(CLONE_NEWNET) == 0 && control(SIOCSIFFLAGS, &up) == 0);
    int fd = open("/proc/sys/net/ipv4/ip_unprivileged_port_start", O_WRONLY | O_CLOEXEC);
    guest_check(fd >= 0 && dprintf(fd, "6") > 0 && close(fd) == 0);
    int listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    guest_check(bind(listening, (struct sockaddr *)&address, sizeof address) == 0 && listen(listening, 3) == 0);
    pid_t child = tree_start("apart", apart);
    tree_gather("apart");
    guest_checkpoint_here();
    guest_check(is_up());
    int connected = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    guest_check(connect(connected, (struct sockaddr *)&address, sizeof address) == 0);
    fd = open("/proc/sys/net/ipv4/ip_unprivileged_port_start", O_RDONLY | O_CLOEXEC);
    guest_check(fd >= 0 && read(fd, text, sizeof text - 1) > 0 && atoi(text) == 6 && close(fd) == 0);
    tree_finish(child, "apart");
    return 0;
}
