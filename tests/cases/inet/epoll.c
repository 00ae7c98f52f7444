//# expect: resumes
//# flavours: alone running killed again exec namespace user
/* Listeners and datagram sockets in an epoll set: one that has fired and is disarmed (EPOLLONESHOT), one that is deferred until the client
 * speaks, one by edges (EPOLLET), with something that waits and without. */
#include "ip.h"
#include <sys/epoll.h>

static int set;

static void watch(int operation, int fd, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.u64 = (uint64_t)fd};
    guest_check(epoll_ctl(set, operation, fd, &event) == 0);
}

/* Which of them is ready, if one is. */
static int ready(int timeout_ms)
{
    struct epoll_event event[4];
    int count = epoll_wait(set, event, 4, timeout_ms);
    guest_check(count == 0 || count == 1, "%d", count);
    return count ? (int)event[0].data.u64 : -1;
}

int main(void)
{
    union ip own = ip_own(4060), deferred = ip_own(4061), datagrams = ip_own(4062), full = ip_own(4063);
    int fd = socket(AF_INET, SOCK_STREAM, 0), later = socket(AF_INET, SOCK_STREAM, 0);
    int udp = socket(AF_INET, SOCK_DGRAM, 0), waits = socket(AF_INET, SOCK_DGRAM, 0);
    set = epoll_create1(0);
    ip_bind(fd, own);
    ip_bind(later, deferred);
    ip_bind(udp, datagrams);
    ip_bind(waits, full);
    ip_set(later, IPPROTO_TCP, TCP_DEFER_ACCEPT, 5);
    guest_check(listen(fd, 4) == 0 && listen(later, 4) == 0);
    watch(EPOLL_CTL_ADD, fd, EPOLLIN | EPOLLONESHOT);
    int client = ip_connect(own);
    guest_check(ready(5000) == fd && close(client) == 0 && close(accept(fd, NULL, NULL)) == 0);
    watch(EPOLL_CTL_ADD, later, EPOLLIN | EPOLLONESHOT);
    client = ip_connect(deferred);
    guest_check(write(client, "x", 1) == 1 && ready(5000) == later);
    guest_check(close(client) == 0 && close(accept(later, NULL, NULL)) == 0);
    watch(EPOLL_CTL_ADD, udp, EPOLLIN | EPOLLET);
    watch(EPOLL_CTL_ADD, waits, EPOLLIN);
    guest_check(sendto(udp, "waits", 5, 0, &full.any, sizeof full.four) == 5);

    guest_checkpoint_here();

    char bytes[8];
    guest_check(ready(0) == waits && recv(waits, bytes, sizeof bytes, 0) == 5);
    guest_check(ready(0) == -1);
    client = ip_connect(own);
    guest_check(ready(50) == -1, "it was disarmed");
    watch(EPOLL_CTL_MOD, fd, EPOLLIN | EPOLLONESHOT);
    guest_check(ready(5000) == fd && accept(fd, NULL, NULL) >= 0);
    /* Nobody else waits to be accepted. */
    guest_check(fcntl(fd, F_SETFL, O_NONBLOCK) == 0 && fcntl(later, F_SETFL, O_NONBLOCK) == 0);
    guest_check(accept(fd, NULL, NULL) == -1 && errno == EAGAIN);
    guest_check(accept(later, NULL, NULL) == -1 && errno == EAGAIN);
    guest_check(sendto(waits, "edge", 4, 0, &datagrams.any, sizeof datagrams.four) == 4);
    guest_check(ready(5000) == udp && ready(0) == -1);
    return 0;
}
