//# expect: resumes
//# show: io_uring requests=4 taken=9 completed=9
//# show: io_uring requests=64 completions=1024 taken=0
//# show: io_uring requests=1 taken=3 completed=3
//# show: io_uring file_slots=3 buffer_slots=2
//# may-differ: task/*/status/VmPin the kernel counts registered buffers where the instance was made
/* io_uring instances in which nothing is under way: completions that nobody has taken, a request that was written and not
 * submitted, a ring that was never used, registered files and buffers. */
#include "ring.h"
#include <sys/uio.h>

int main(void)
{
    struct io_uring_params plain = {0}, large = {.flags = IORING_SETUP_CQSIZE, .cq_entries = 1000}, silent = {0};
    struct io_uring_params registered = {0};
    struct ring ring = ring_make(4, &plain), fresh = ring_make(40, &large), quiet = ring_make(1, &silent);
    struct ring fixed = ring_make(8, &registered);
    int file = guest_new_file("file", "content"), files[] = {-1, file, -1};
    char *buffer = guest_map(2, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
    struct iovec buffers[] = {{buffer, 2 * GUEST_PAGE}, {NULL, 0}};
    guest_check(!syscall(SYS_io_uring_register, fixed.fd, IORING_REGISTER_FILES, files, 3));
    guest_check(!syscall(SYS_io_uring_register, fixed.fd, IORING_REGISTER_BUFFERS, buffers, 2), "(RLIMIT_MEMLOCK)");
    for (uint64_t i = 0; i < 9; i++) {
        ring_put(&ring, IORING_OP_NOP, 100 + i);
        guest_check(ring_submit(&ring, 1, 1) == 1);
        if (i < 6)
            ring_take(&ring, 100 + i);
    }
    for (int i = 0; i < 3; i++) {
        ring_put(&quiet, IORING_OP_NOP, 7);
        guest_check(ring_submit(&quiet, 1, 0) == 1 && ring_take(&quiet, 7) == 0);
    }
    struct io_uring_sqe *waiting = ring_put(&ring, IORING_OP_READ, 200);
    waiting->fd = file, waiting->addr = (uintptr_t)buffer, waiting->len = 7;

    guest_checkpoint_here();

    for (uint64_t i = 6; i < 9; i++)
        guest_check(ring_take(&ring, 100 + i) == 0);
    guest_check(ring_is_empty(&ring) && ring_submit(&ring, 1, 1) == 1 && ring_take(&ring, 200) == 7);
    guest_check(!memcmp(buffer, "content", 7));
    for (uint64_t i = 0; i < 20; i++) {
        ring_put(&ring, IORING_OP_NOP, i);
        ring_put(&fresh, IORING_OP_NOP, i);
        ring_put(&quiet, IORING_OP_NOP, i);
        guest_check(ring_submit(&ring, 1, 1) == 1 && ring_take(&ring, i) == 0);
        guest_check(ring_submit(&fresh, 1, 1) == 1 && ring_take(&fresh, i) == 0);
        guest_check(ring_submit(&quiet, 1, 1) == 1 && ring_take(&quiet, i) == 0);
    }
    for (uint64_t i = 0; i < 64; i++)
        ring_put(&fresh, IORING_OP_NOP, i);
    guest_check(ring_submit(&fresh, 100, 64) == 64);
    for (uint64_t i = 0; i < 64; i++)
        guest_check(ring_take(&fresh, i) == 0);
    struct io_uring_sqe *sqe = ring_put(&fixed, IORING_OP_READ_FIXED, 300);
    sqe->flags = IOSQE_FIXED_FILE, sqe->fd = 1, sqe->buf_index = 0;
    sqe->addr = (uintptr_t)buffer + GUEST_PAGE, sqe->len = 4, sqe->off = 3;
    guest_check(ring_submit(&fixed, 1, 1) == 1);
    guest_check(ring_take(&fixed, 300) == 4 && !memcmp(buffer + GUEST_PAGE, "tent", 4));
    return 0;
}
