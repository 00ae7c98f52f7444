//# expect: refused "a poll that goes on (IORING_POLL_ADD_MULTI)"
/* A request that has made several completions hides one that is under way from who counts them. */
#include "ring.h"

int main(void)
{
    struct io_uring_params parameters = {0};
    struct ring ring = ring_make(4, &parameters);
    int ends[2];
    guest_check(pipe(ends) == 0);
    struct io_uring_sqe *sqe = ring_put(&ring, IORING_OP_POLL_ADD, 1);
    sqe->fd = ends[0], sqe->poll32_events = 1, sqe->len = IORING_POLL_ADD_MULTI;
    guest_check(ring_submit(&ring, 1, 0) == 1);
    guest_check(write(ends[1], "x", 1) == 1 && ring_submit(&ring, 0, 1) == 0 && ring_take(&ring, 1) == 1);
    sqe = ring_put(&ring, IORING_OP_POLL_REMOVE, 1);
    sqe->addr = 1;
    guest_check(ring_submit(&ring, 1, 2) == 1);
    ring_take(&ring, 1), ring_take(&ring, 1);
    struct __kernel_timespec hour = {.tv_sec = 3600};
    sqe = ring_put(&ring, IORING_OP_TIMEOUT, 2);
    sqe->addr = (uintptr_t)&hour, sqe->len = 1;
    guest_check(ring_submit(&ring, 1, 0) == 1 && ring_is_empty(&ring));

    guest_checkpoint_here();

    sqe = ring_put(&ring, IORING_OP_TIMEOUT_REMOVE, 2);
    sqe->addr = 2;
    guest_check(ring_submit(&ring, 1, 2) == 1, "the refusal has hurt");
    ring_take(&ring, 2), ring_take(&ring, 2);
    return 0;
}
