//# expect: resumes
//# flavours: alone running killed again exec namespace user
//# show: inet state=connected
/* UDP and UDP-Lite sockets: new, bound, connected, with datagrams in order and from whom they are, an empty one among them. */
#include "ip.h"

#ifndef UDPLITE_SEND_CSCOV
#define UDPLITE_SEND_CSCOV 10
#define UDPLITE_RECV_CSCOV 11
#endif

static void receives(int fd, const char *text, union ip from)
{
    char bytes[64] = {0};
    union ip source = {0};
    socklen_t length = sizeof source;
    ssize_t count = recvfrom(fd, bytes, sizeof bytes, MSG_DONTWAIT, &source.any, &length);
    guest_check(count == (ssize_t)strlen(text) && !memcmp(bytes, text, strlen(text)), "%s: %zd %s", text, count, bytes);
    guest_check(length == ip_length(&from) && !memcmp(&source, &from, length), "%s: from port %d", text,
                ntohs(source.four.sin_port));
}

static void sends(int fd, const char *text, union ip to)
{
    guest_check(sendto(fd, text, strlen(text), 0, &to.any, ip_length(&to)) == (ssize_t)strlen(text));
}

int main(void)
{
    union ip own = ip_own(4040), other = ip_own(4041), gone = ip_own(4042), connected = ip_own(4043);
    union ip six = ip_six("::1", ip_port(5)), lite = ip_own(4044), zero = {.four = {.sin_family = AF_INET}};
    int fresh = socket(AF_INET, SOCK_DGRAM, 0), fd = socket(AF_INET, SOCK_DGRAM, 0);
    int second = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0), third = socket(AF_INET, SOCK_DGRAM, 0);
    int peered = socket(AF_INET, SOCK_DGRAM, 0), sixth = socket(AF_INET6, SOCK_DGRAM, 0);
    int light = socket(AF_INET, SOCK_DGRAM, IPPROTO_UDPLITE);
    ip_bind(fd, own);
    ip_bind(second, other);
    ip_bind(third, gone);
    ip_bind(peered, connected);
    ip_bind(sixth, six);
    if (light >= 0) {
        ip_bind(light, lite);
        ip_set(light, IPPROTO_UDPLITE, UDPLITE_SEND_CSCOV, 20);
        ip_set(light, IPPROTO_UDPLITE, UDPLITE_RECV_CSCOV, 12);
        sends(light, "lite", lite);
    }
    ip_set(fd, SOL_SOCKET, SO_BROADCAST, 1);
    ip_set(fd, IPPROTO_IP, IP_PKTINFO, 1);
    ip_set(fd, SOL_SOCKET, SO_RCVBUF, 100000);
    sends(second, "one", own);
    sends(third, "two", own);
    sends(second, "", own);
    sends(fd, "from myself", own);
    sends(third, "to the peer", connected);
    guest_check(connect(peered, &gone.any, sizeof gone.four) == 0);
    /* Who has sent "two" and "to the peer" is gone. */
    guest_check(close(third) == 0);
    sends(sixth, "six", six);
    int size = ip_get(fd, SOL_SOCKET, SO_RCVBUF);

    guest_checkpoint_here();

    ip_is_at(fresh, zero);
    ip_is_at(fd, own);
    ip_is_at(peered, connected);
    ip_is_at(sixth, six);
    guest_check(ip_get(fd, SOL_SOCKET, SO_BROADCAST) == 1 && ip_get(fd, IPPROTO_IP, IP_PKTINFO) == 1);
    guest_check(ip_get(fd, SOL_SOCKET, SO_RCVBUF) == size && ip_get(second, SOL_SOCKET, SO_RCVBUF) != size);
    receives(fd, "one", other);
    receives(fd, "two", gone);
    receives(fd, "", other);
    receives(fd, "from myself", own);
    char byte;
    guest_check(recv(fd, &byte, 1, MSG_DONTWAIT) == -1 && errno == EAGAIN);
    receives(peered, "to the peer", gone);
    receives(sixth, "six", six);
    if (light >= 0) {
        guest_check(ip_get(light, IPPROTO_UDPLITE, UDPLITE_SEND_CSCOV) == 20);
        guest_check(ip_get(light, IPPROTO_UDPLITE, UDPLITE_RECV_CSCOV) == 12);
        guest_check(ip_get(light, SOL_SOCKET, SO_PROTOCOL) == IPPROTO_UDPLITE);
        receives(light, "lite", lite);
    }
    guest_check(fcntl(second, F_GETFL) & O_NONBLOCK);
    /* Only from the peer, and to it without a name. */
    third = socket(AF_INET, SOCK_DGRAM, 0);
    ip_bind(third, gone);
    sends(second, "not heard", connected);
    sends(third, "heard", connected);
    receives(peered, "heard", gone);
    guest_check(send(peered, "back", 4, 0) == 4);
    receives(third, "back", connected);
    return 0;
}
