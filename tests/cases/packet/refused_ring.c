//# expect: refused "a packet socket with a ring"
//# flavours: alone running
//# needs: root
/* A packet socket that shares a ring of frames with the kernel is refused. */
#include "../guest.h"
#include <linux/if_packet.h>
#include <sys/socket.h>

int main(void)
{
    int fd = socket(AF_PACKET, SOCK_RAW, 0);
    struct tpacket_req ring = {.tp_block_size = 4096, .tp_block_nr = 1, .tp_frame_size = 2048, .tp_frame_nr = 2};
    guest_check(fd >= 0 && setsockopt(fd, SOL_PACKET, PACKET_RX_RING, &ring, sizeof ring) == 0);

    guest_checkpoint_here();

    guest_check(fcntl(fd, F_GETFD) >= 0, "the refusal has hurt");
    return 0;
}
