//# expect: resumes
//# show: unix state=connected
/* Pairs of every type with what was sent and not read yet, in both directions, in order, once, messages apart. */
#include "sockets.h"

enum { STREAM = 40, STREAM_PEER, DGRAM, DGRAM_PEER, PACKET, PACKET_PEER, FULL, FULL_PEER, ALONE };

static char block[4096];

/* Sends until there is no room. */
static int fill(int fd)
{
    int count = 0;
    for (;; count++) {
        guest_fill(block, sizeof block, (uint32_t)count);
        ssize_t sent = send(fd, block, sizeof block, MSG_DONTWAIT);
        if (sent < 0)
            break;
        guest_check(sent == sizeof block, "%zd", sent);
    }
    guest_check(errno == EAGAIN);
    return count;
}

int main(void)
{
    sockets_pair(SOCK_STREAM, STREAM, STREAM_PEER);
    sockets_pair(SOCK_DGRAM, DGRAM, DGRAM_PEER);
    sockets_pair(SOCK_SEQPACKET, PACKET, PACKET_PEER);
    sockets_pair(SOCK_STREAM, FULL, FULL_PEER);
    int alone = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
    guest_check(dup2(alone, ALONE) == ALONE && close(alone) == 0);
    sockets_send(STREAM, "first ");
    sockets_send(STREAM, "second");
    sockets_send(STREAM_PEER, "back");
    sockets_send(DGRAM, "one");
    sockets_send(DGRAM, "");
    sockets_send(DGRAM, "three");
    sockets_send(DGRAM_PEER, "four");
    sockets_send(PACKET, "packet");
    sockets_send(PACKET, "another");
    sockets_send(PACKET_PEER, "third");
    int blocks = fill(FULL);
    guest_check(blocks > 10);

    guest_checkpoint_here();

    sockets_expect(STREAM_PEER, "first second");
    sockets_quiet(STREAM_PEER);
    sockets_expect(STREAM, "back");
    sockets_quiet(STREAM);
    sockets_expect(DGRAM_PEER, "one");
    sockets_expect(DGRAM_PEER, "");
    sockets_expect(DGRAM_PEER, "three");
    sockets_quiet(DGRAM_PEER);
    sockets_expect(DGRAM, "four");
    sockets_expect(PACKET_PEER, "packet");
    sockets_expect(PACKET_PEER, "another");
    sockets_quiet(PACKET_PEER);
    sockets_expect(PACKET, "third");
    for (int i = 0; i < blocks; i++) {
        guest_check(recv(FULL_PEER, block, sizeof block, MSG_WAITALL) == sizeof block);
        guest_check(guest_filled(block, sizeof block, (uint32_t)i), "block %d", i);
    }
    sockets_quiet(FULL_PEER);
    guest_check(sockets_option(FULL, SO_SNDBUF) == sockets_option(STREAM, SO_SNDBUF));
    /* They are still connected. */
    sockets_send(STREAM, "x");
    sockets_expect(STREAM_PEER, "x");
    sockets_send(DGRAM_PEER, "y");
    sockets_expect(DGRAM, "y");
    sockets_send(PACKET_PEER, "z");
    sockets_expect(PACKET, "z");
    struct sockaddr_un name;
    socklen_t length = sizeof name;
    guest_check(getsockname(STREAM, (struct sockaddr *)&name, &length) == 0 && length == sizeof name.sun_family);
    guest_check(fcntl(ALONE, F_GETFL) == (O_RDWR | O_NONBLOCK));
    length = sizeof name;
    guest_check(getpeername(ALONE, (struct sockaddr *)&name, &length) == -1 && errno == ENOTCONN);
    return 0;
}
