//# expect: refused "with requests under way"
/* A request that waits is under way, and a thread of the kernel's stands by that was needed for another one. */
#include "ring.h"

int main(void)
{
    struct io_uring_params parameters = {0};
    struct ring ring = ring_make(4, &parameters);
    int ends[2];
    guest_check(pipe(ends) == 0);
    ring_put(&ring, IORING_OP_NOP, 1)->flags = IOSQE_ASYNC;
    guest_check(ring_submit(&ring, 1, 1) == 1 && ring_take(&ring, 1) == 0);
    struct io_uring_sqe *sqe = ring_put(&ring, IORING_OP_POLL_ADD, 2);
    sqe->fd = ends[0], sqe->poll32_events = 1;
    guest_check(ring_submit(&ring, 1, 0) == 1);

    guest_checkpoint_here();

    guest_check(write(ends[1], "x", 1) == 1 && ring_submit(&ring, 0, 1) == 0 && ring_take(&ring, 2) == 1);
    return 0;
}
