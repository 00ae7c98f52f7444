//# expect: resumes
//# tasks: 2
//# may-differ: maps/* the ring that is of no use is zeros in its place
//# may-differ: smaps/*/VmFlags the ring that is of no use is zeros in its place
/* A child has the ring of its parent mapped, and no context: it gets none, and its own beside it works. */
#include "../tree.h"
#include <linux/aio_abi.h>

static aio_context_t parents;

static long take(aio_context_t context)
{
    struct io_event event;
    return syscall(SYS_io_getevents, context, 0, 1, &event, &(struct timespec){0, 0});
}

static bool submit(aio_context_t context, int file)
{
    char byte;
    struct iocb one = {.aio_lio_opcode = IOCB_CMD_PREAD, .aio_fildes = (uint32_t)file, .aio_buf = (uintptr_t)&byte};
    struct iocb *all[] = {&one};
    one.aio_nbytes = 1;
    return syscall(SYS_io_submit, context, 1, all) == 1;
}

static void child(void)
{
    aio_context_t own = 0;
    int file = guest_new_file("child", "c");
    guest_check(!syscall(SYS_io_setup, 1, &own) && submit(own, file));
    tree_checkpoint_here();
    tree_await("turn of child");
    guest_check(take(parents) < 0 && errno == EINVAL && take(own) == 1 && take(own) == 0);
    guest_check(submit(own, file) && take(own) == 1);
}

int main(void)
{
    int file = guest_new_file("parent", "p");
    if (syscall(SYS_io_setup, 1, &parents))
        guest_skip("this kernel has no asynchronous I/O");
    guest_check(submit(parents, file) && take(parents) == 1 && submit(parents, file));
    pid_t one = tree_start("child", child);
    tree_gather("child");

    guest_checkpoint_here();

    tree_tell("turn of child");
    tree_finish(one, "child");
    guest_check(take(parents) == 1 && take(parents) == 0 && submit(parents, file) && take(parents) == 1);
    return 0;
}
