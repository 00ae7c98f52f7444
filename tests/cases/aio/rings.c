//# expect: resumes
//# flavours: alone running killed again exec namespace
//# show: aio head=0 tail=0
//# show: aio head=4 tail=7
//# show: aio head=120 tail=3
/* Contexts of asynchronous I/O: one that was never used, one with events that nobody has taken, one whose ring has gone round;
 * a thread that waits in io_getevents. All have their old ids, and as much room as before. */
#include "../guest.h"
#include <linux/aio_abi.h>
#include <sys/eventfd.h>

struct ring {
    unsigned id, slots, head, tail, magic;
};

static aio_context_t fresh, some, round_, waited;
static int file, bell;
static char text[8];
static struct iocb block;
static struct io_event late;

static int submit(aio_context_t context, uint64_t data, long offset)
{
    struct iocb *all[] = {&block};
    block = (struct iocb){.aio_data = data, .aio_lio_opcode = IOCB_CMD_PREAD, .aio_fildes = (uint32_t)file};
    block.aio_buf = (uintptr_t)text;
    block.aio_nbytes = 7;
    block.aio_offset = offset;
    block.aio_flags = IOCB_FLAG_RESFD;
    block.aio_resfd = (uint32_t)bell;
    return (int)syscall(SYS_io_submit, context, 1, all);
}

static int take(aio_context_t context, struct io_event *events, int count)
{
    struct timespec at_once = {0, 0};
    return (int)syscall(SYS_io_getevents, context, 0, count, events, &at_once);
}

static void use(aio_context_t context, int count)
{
    struct io_event event;
    for (int i = 0; i < count; i++)
        guest_check(submit(context, 0, 0) == 1 && take(context, &event, 1) == 1);
}

static void *wait_for_one(void *argument)
{
    int got = (int)syscall(SYS_io_getevents, waited, 1, 1, &late, NULL);
    while (got < 0 && errno == EINTR)
        got = (int)syscall(SYS_io_getevents, waited, 1, 1, &late, NULL);
    guest_check(got == 1);
    return NULL;
}

int main(void)
{
    struct guest_thread waiter;
    struct io_event events[300];
    if (syscall(SYS_io_setup, 1000, &fresh))
        guest_skip("this kernel has no asynchronous I/O");
    guest_check(!syscall(SYS_io_setup, 16, &some) && !syscall(SYS_io_setup, 16, &round_));
    guest_check(!syscall(SYS_io_setup, 1, &waited));
    file = guest_new_file("file", "content"), bell = eventfd(0, EFD_NONBLOCK);
    unsigned slots = ((struct ring *)round_)->slots;
    guest_check(slots == 127, "%u", slots);
    use(some, 4);
    use(round_, 120);
    guest_check(submit(some, 100, 0) == 1 && submit(some, 101, 3) == 1 && submit(some, 102, 7) == 1);
    for (uint64_t i = 0; i < 10; i++)
        guest_check(submit(round_, 200 + i, 0) == 1);
    guest_check(guest_take(bell) == 137);
    guest_spawn(&waiter, wait_for_one, NULL);
    guest_wait_in_call(waiter.tid, SYS_io_getevents);

    guest_checkpoint_here();

    guest_check(take(fresh, events, 300) == 0 && take(some, events, 300) == 3);
    for (uint64_t i = 0; i < 3; i++)
        guest_check(events[i].data == 100 + i && events[i].obj == (uintptr_t)&block && events[i].res2 == 0);
    guest_check(events[0].res == 7 && events[1].res == 4 && events[2].res == 0);
    guest_check(take(round_, events, 300) == 10);
    for (uint64_t i = 0; i < 10; i++)
        guest_check(events[i].data == 200 + i && events[i].res == 7);
    guest_check(read(bell, &(uint64_t){0}, 8) < 0 && errno == EAGAIN, "events were counted anew");
    memset(text, 0, sizeof text);
    guest_check(submit(some, 300, 0) == 1 && take(some, events, 300) == 1 && events[0].data == 300);
    guest_check(!strcmp(text, "content") && guest_take(bell) == 1);
    /* As many as fit, and no more. */
    int fit = 0;
    while (submit(round_, 1000 + (uint64_t)fit, 0) == 1)
        fit++;
    guest_check(errno == EAGAIN && fit >= 16 && fit < 127, "%d", fit);
    guest_check(take(round_, events, 300) == fit && events[fit - 1].data == 999 + (uint64_t)fit);
    guest_check(submit(waited, 7, 0) == 1);
    guest_join(&waiter);
    guest_check(late.data == 7 && late.res == 7);
    guest_check(!syscall(SYS_io_destroy, round_) && syscall(SYS_io_destroy, round_) < 0 && errno == EINVAL);
    guest_check(submit(fresh, 8, 0) == 1 && take(fresh, events, 300) == 1 && !syscall(SYS_io_destroy, fresh));
    return 0;
}
