//# expect: resumes
//# needs: capability net_admin
//# flavours: alone running killed again exec
//# show: tun header_bytes=12
//# may-differ: fd/6/pos how long the packet was that was read last
//# may-differ: fd/10/pos the same
/* Network interfaces whose other end is this program: tun with addresses, a route and an MTU, tap with a hardware address and
 * two queues, one that is persistent, one that says before each packet what it is, and a description that is attached to none. */
#include "../guest.h"
#include <arpa/inet.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <net/route.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

/* linux/ipv6.h, which does not go with the library's headers */
struct in6_ifreq {
    struct in6_addr ifr6_addr;
    uint32_t ifr6_prefixlen;
    int ifr6_ifindex;
};

static char tun_name[IFNAMSIZ], tap_name[IFNAMSIZ], stays_name[IFNAMSIZ], told_name[IFNAMSIZ];
static int number;

static struct ifreq request(const char *name)
{
    struct ifreq request = {0};
    strcpy(request.ifr_name, name);
    return request;
}

static int attach(const char *name, int flags)
{
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK);
    if (fd < 0 && (errno == ENOENT || errno == ENODEV))
        guest_skip("there is no /dev/net/tun");
    struct ifreq asked = request(name);
    asked.ifr_flags = flags;
    guest_check(fd >= 0 && ioctl(fd, TUNSETIFF, &asked) == 0, "%s", name);
    return fd;
}

static void set_address(int ask, unsigned long what, const char *name, const char *format)
{
    struct ifreq asked = request(name);
    struct sockaddr_in *address = (void *)&asked.ifr_addr;
    char text[32];
    snprintf(text, sizeof text, format, number);
    address->sin_family = AF_INET;
    guest_check(inet_pton(AF_INET, text, &address->sin_addr) == 1 && ioctl(ask, what, &asked) == 0, "%s", text);
}

/* Whether a line of a file of /proc/net has both words. */
static bool listed(const char *file, const char *word, const char *other)
{
    char line[512];
    bool found = false;
    FILE *lines = fopen(file, "r");
    guest_check(lines != NULL);
    while (!found && fgets(line, sizeof line, lines))
        found = strstr(line, word) && strstr(line, other);
    fclose(lines);
    return found;
}

/* What is sent to a host beyond the interface comes out of the descriptor, behind a header of that length. */
static void expect_packet(int fd, const char *host, int header)
{
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(9)};
    unsigned char packet[2000];
    char text[32];
    int udp = socket(AF_INET, SOCK_DGRAM, 0);
    snprintf(text, sizeof text, host, number);
    guest_check(inet_pton(AF_INET, text, &to.sin_addr) == 1);
    guest_check(sendto(udp, "hello", 5, 0, (void *)&to, sizeof to) == 5);
    for (int tries = 0; tries < 1000; tries++) {
        ssize_t length = read(fd, packet, sizeof packet);
        if (length == header + 33 && packet[header] == 0x45 && !memcmp(packet + header + 28, "hello", 5)) {
            guest_check(!memcmp(packet + header + 16, &to.sin_addr, 4) && close(udp) == 0);
            guest_check(header == 0 || !memcmp(packet, "\0\0\x08\0", 4));
            return;
        }
        guest_check(length > 0 || errno == EAGAIN);
        usleep(length > 0 ? 0 : 1000);
    }
    guest_fail("nothing came");
}

int main(void)
{
    static const unsigned char hardware[6] = {2, 0x12, 0x34, 0x56, 0x78, 0x9a};
    int ask = socket(AF_INET, SOCK_DGRAM, 0), ask6 = socket(AF_INET6, SOCK_DGRAM, 0), none = open("/dev/net/tun", O_RDWR);
    char text[64], route[32];
    number = getpid() % 250 + 1;
    snprintf(tun_name, sizeof tun_name, "ckp%d", (int)getpid());
    snprintf(tap_name, sizeof tap_name, "ckq%d", (int)getpid());
    snprintf(stays_name, sizeof stays_name, "cks%d", (int)getpid());
    snprintf(told_name, sizeof told_name, "ckt%d", (int)getpid());
    int tun = attach(tun_name, IFF_TUN | IFF_NO_PI), tap = attach(tap_name, IFF_TAP | IFF_MULTI_QUEUE | IFF_VNET_HDR);
    int second = attach(tap_name, IFF_TAP | IFF_MULTI_QUEUE | IFF_VNET_HDR), stays = attach(stays_name, IFF_TUN);
    int told = attach(told_name, IFF_TUN);
    struct ifreq asked = request(tun_name);
    asked.ifr_mtu = 1380;
    guest_check(ioctl(ask, SIOCSIFMTU, &asked) == 0 && ioctl(tun, TUNSETOWNER, 4711) == 0);
    set_address(ask, SIOCSIFADDR, tun_name, "10.77.%d.1");
    set_address(ask, SIOCSIFNETMASK, tun_name, "255.255.255.0");
    asked = request(tun_name);
    guest_check(ioctl(ask, SIOCGIFFLAGS, &asked) == 0);
    asked.ifr_flags |= IFF_UP;
    guest_check(ioctl(ask, SIOCSIFFLAGS, &asked) == 0);
    set_address(ask, SIOCSIFADDR, told_name, "10.79.%d.1");
    set_address(ask, SIOCSIFNETMASK, told_name, "255.255.255.0");
    asked = request(told_name);
    guest_check(ioctl(ask, SIOCGIFFLAGS, &asked) == 0);
    asked.ifr_flags |= IFF_UP;
    guest_check(ioctl(ask, SIOCSIFFLAGS, &asked) == 0);
    struct in6_ifreq six = {.ifr6_prefixlen = 64, .ifr6_ifindex = (int)if_nametoindex(tun_name)};
    six.ifr6_addr.s6_addr[0] = 0xfd;
    six.ifr6_addr.s6_addr[15] = number;
    bool has_six = ask6 >= 0 && ioctl(ask6, SIOCSIFADDR, &six) == 0;
    struct rtentry entry = {.rt_flags = RTF_UP, .rt_dev = tun_name, .rt_metric = 8};
    struct sockaddr_in *to = (void *)&entry.rt_dst, *mask = (void *)&entry.rt_genmask;
    to->sin_family = mask->sin_family = AF_INET;
    to->sin_addr.s_addr = htonl(0x0a4e0000u | (unsigned)number << 8);
    mask->sin_addr.s_addr = htonl(0xffffff00u);
    snprintf(route, sizeof route, "\t%08X\t", to->sin_addr.s_addr);
    guest_check(ioctl(ask, SIOCADDRT, &entry) == 0);
    asked = request(tap_name);
    asked.ifr_hwaddr.sa_family = ARPHRD_ETHER;
    memcpy(asked.ifr_hwaddr.sa_data, hardware, 6);
    int header = 12, room = 123456;
    guest_check(ioctl(ask, SIOCSIFHWADDR, &asked) == 0 && ioctl(tap, TUNSETVNETHDRSZ, &header) == 0);
    guest_check(ioctl(tap, TUNSETSNDBUF, &room) == 0 && ioctl(stays, TUNSETPERSIST, 1) == 0);
    expect_packet(tun, "10.77.%d.2", 0);
    expect_packet(told, "10.79.%d.2", 4);
    guest_check(close(ask) == 0 && (ask6 < 0 || close(ask6) == 0));

    guest_checkpoint_here();

    ask = socket(AF_INET, SOCK_DGRAM, 0);
    expect_packet(tun, "10.77.%d.2", 0);
    expect_packet(told, "10.79.%d.2", 4);
    asked = request("");
    guest_check(ioctl(tun, TUNGETIFF, &asked) == 0 && !strcmp(asked.ifr_name, tun_name), "%s", asked.ifr_name);
    guest_check((asked.ifr_flags & (IFF_TUN | IFF_NO_PI)) == (IFF_TUN | IFF_NO_PI));
    guest_check(ioctl(ask, SIOCGIFMTU, &asked) == 0 && asked.ifr_mtu == 1380, "%d", asked.ifr_mtu);
    guest_check(listed("/proc/net/route", tun_name, route), "%s is gone", route);
    guest_check(!has_six || listed("/proc/net/if_inet6", tun_name, "fd0000000000000000000000000000"));
    snprintf(text, sizeof text, "/sys/class/net/%s/owner", tun_name);
    guest_check(access(text, F_OK) == -1 || listed(text, "4711", ""));
    asked = request(tap_name);
    guest_check(ioctl(ask, SIOCGIFHWADDR, &asked) == 0 && !memcmp(asked.ifr_hwaddr.sa_data, hardware, 6));
    for (int i = 0; i < 2; i++) {
        guest_check(ioctl(i ? second : tap, TUNGETIFF, &asked) == 0 && !strcmp(asked.ifr_name, tap_name));
        guest_check((asked.ifr_flags & (IFF_TAP | IFF_MULTI_QUEUE | IFF_VNET_HDR)) ==
                    (IFF_TAP | IFF_MULTI_QUEUE | IFF_VNET_HDR));
    }
    guest_check(ioctl(tap, TUNGETVNETHDRSZ, &header) == 0 && header == 12, "%d", header);
    guest_check(ioctl(tap, TUNGETSNDBUF, &room) == 0 && room == 123456, "%d", room);
    guest_check(ioctl(stays, TUNGETIFF, &asked) == 0 && (asked.ifr_flags & IFF_PERSIST) && !strcmp(asked.ifr_name, stays_name));
    guest_check(ioctl(stays, TUNSETPERSIST, 0) == 0);
    guest_check(ioctl(none, TUNGETIFF, &asked) == -1 && errno == EBADFD);
    return 0;
}
