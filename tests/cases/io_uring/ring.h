/* An io_uring instance, by hand. */
#include "../guest.h"
#include <linux/io_uring.h>

struct ring {
    int fd;
    unsigned entries, mask, cq_mask, tail; /* its own copy of the tail, as liburing keeps one */
    _Atomic unsigned *sq_tail, *cq_head, *cq_tail;
    unsigned *array;
    struct io_uring_cqe *cqes;
    struct io_uring_sqe *sqes;
};

__attribute__((unused)) static struct ring ring_make(unsigned entries, struct io_uring_params *parameters)
{
    struct ring ring = {.fd = (int)syscall(SYS_io_uring_setup, entries, parameters)};
    if (ring.fd < 0 && (errno == ENOSYS || errno == EPERM))
        guest_skip("this kernel permits no io_uring");
    guest_check(ring.fd >= 0);
    size_t size = parameters->sq_off.array + parameters->sq_entries * sizeof(unsigned);
    char *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring.fd, IORING_OFF_SQ_RING);
    ring.sqes = mmap(NULL, parameters->sq_entries * sizeof(struct io_uring_sqe), PROT_READ | PROT_WRITE,
                     MAP_SHARED | MAP_POPULATE, ring.fd, IORING_OFF_SQES);
    guest_check(at != MAP_FAILED && ring.sqes != MAP_FAILED);
    ring.entries = parameters->sq_entries, ring.mask = ring.entries - 1;
    ring.cq_mask = parameters->cq_entries - 1;
    ring.sq_tail = (void *)(at + parameters->sq_off.tail);
    ring.cq_head = (void *)(at + parameters->cq_off.head), ring.cq_tail = (void *)(at + parameters->cq_off.tail);
    ring.array = (void *)(at + parameters->sq_off.array), ring.cqes = (void *)(at + parameters->cq_off.cqes);
    return ring;
}

/* Writes a request, and does not submit it. */
__attribute__((unused)) static struct io_uring_sqe *ring_put(struct ring *ring, int operation, uint64_t data)
{
    unsigned index = ring->tail & ring->mask;
    struct io_uring_sqe *sqe = &ring->sqes[index];
    memset(sqe, 0, sizeof *sqe);
    sqe->opcode = (uint8_t)operation, sqe->user_data = data;
    ring->array[index] = index;
    atomic_store(ring->sq_tail, ++ring->tail);
    return sqe;
}

__attribute__((unused)) static int ring_submit(struct ring *ring, unsigned count, unsigned wait)
{
    return (int)syscall(SYS_io_uring_enter, ring->fd, count, wait, wait ? IORING_ENTER_GETEVENTS : 0, NULL, 0);
}

/* Takes a completion of the request with this data, and says what its result is. */
__attribute__((unused)) static int ring_take(struct ring *ring, uint64_t data)
{
    unsigned head = atomic_load(ring->cq_head);
    guest_check(head != atomic_load(ring->cq_tail), "there is no completion");
    struct io_uring_cqe cqe = ring->cqes[head & ring->cq_mask];
    guest_check(cqe.user_data == data, "%llu", (unsigned long long)cqe.user_data);
    atomic_store(ring->cq_head, head + 1);
    return cqe.res;
}

__attribute__((unused)) static bool ring_is_empty(struct ring *ring)
{
    return atomic_load(ring->cq_head) == atomic_load(ring->cq_tail);
}
