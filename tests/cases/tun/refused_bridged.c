//# expect: refused "which is a part of another one"
//# needs: capability net_admin
//# flavours: alone running
/* An interface that ends with this program and is a port of a bridge is refused. */
#include "../guest.h"
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

int main(void)
{
    int fd = open("/dev/net/tun", O_RDWR), ask = socket(AF_INET, SOCK_DGRAM, 0);
    if (fd < 0 && (errno == ENOENT || errno == ENODEV))
        guest_skip("there is no /dev/net/tun");
    struct ifreq tap = {.ifr_flags = IFF_TAP}, bridge = {0};
    snprintf(tap.ifr_name, IFNAMSIZ, "cku%d", (int)getpid());
    snprintf(bridge.ifr_name, IFNAMSIZ, "ckv%d", (int)getpid());
    guest_check(fd >= 0 && ask >= 0 && ioctl(fd, TUNSETIFF, &tap) == 0);
    if (ioctl(ask, SIOCBRADDBR, bridge.ifr_name) == -1)
        guest_skip("there are no bridges");
    bridge.ifr_ifindex = (int)if_nametoindex(tap.ifr_name);
    guest_check(ioctl(ask, SIOCBRADDIF, &bridge) == 0);

    guest_checkpoint_here();

    guest_check(ioctl(ask, SIOCBRDELIF, &bridge) == 0 && ioctl(ask, SIOCBRDELBR, bridge.ifr_name) == 0);
    return 0;
}
