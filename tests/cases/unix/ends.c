//# expect: resumes
//# show: unix state=peer_gone
//# show: unix reset=true
/* Pairs that are shut on one side, and whose other end is gone, with and without something that nobody has read. */
#include "sockets.h"

enum { HALF = 40, HALF_PEER, GONE, GONE_PEER, RESET, RESET_PEER, DGRAM, DGRAM_PEER, PACKET, PACKET_PEER, MUTE, MUTE_PEER };

int main(void)
{
    char byte;
    signal(SIGPIPE, SIG_IGN);
    sockets_pair(SOCK_STREAM, HALF, HALF_PEER);
    sockets_send(HALF, "last");
    guest_check(shutdown(HALF, SHUT_WR) == 0);
    sockets_pair(SOCK_STREAM, GONE, GONE_PEER);
    sockets_send(GONE_PEER, "left");
    guest_check(close(GONE_PEER) == 0);
    sockets_pair(SOCK_STREAM, RESET, RESET_PEER);
    sockets_send(RESET, "unread");
    guest_check(close(RESET_PEER) == 0);
    sockets_pair(SOCK_DGRAM, DGRAM, DGRAM_PEER);
    sockets_send(DGRAM_PEER, "one");
    sockets_send(DGRAM_PEER, "two");
    guest_check(close(DGRAM_PEER) == 0);
    sockets_pair(SOCK_SEQPACKET, PACKET, PACKET_PEER);
    sockets_send(PACKET_PEER, "one");
    sockets_send(PACKET_PEER, "two");
    guest_check(close(PACKET_PEER) == 0);
    sockets_pair(SOCK_DGRAM, MUTE, MUTE_PEER);
    guest_check(shutdown(MUTE, SHUT_WR) == 0);

    guest_checkpoint_here();

    sockets_expect(HALF_PEER, "last");
    guest_check(recv(HALF_PEER, &byte, 1, 0) == 0, "the end");
    guest_check(send(HALF, "x", 1, 0) == -1 && errno == EPIPE);
    sockets_send(HALF_PEER, "back");
    sockets_expect(HALF, "back");
    sockets_quiet(HALF);
    sockets_expect(GONE, "left");
    guest_check(recv(GONE, &byte, 1, 0) == 0, "the end");
    guest_check(send(GONE, "x", 1, 0) == -1 && errno == EPIPE);
    guest_check(recv(RESET, &byte, 1, 0) == -1 && errno == ECONNRESET);
    guest_check(recv(RESET, &byte, 1, 0) == 0);
    sockets_expect(DGRAM, "one");
    sockets_expect(DGRAM, "two");
    guest_check(recv(DGRAM, &byte, 1, MSG_DONTWAIT) == -1 && errno == EAGAIN);
    guest_check(send(DGRAM, "x", 1, 0) == -1 && errno == ECONNREFUSED);
    sockets_expect(PACKET, "one");
    sockets_expect(PACKET, "two");
    guest_check(recv(PACKET, &byte, 1, 0) == 0);
    guest_check(send(MUTE, "x", 1, 0) == -1 && errno == EPIPE);
    sockets_send(MUTE_PEER, "heard");
    sockets_expect(MUTE, "heard");
    return 0;
}
