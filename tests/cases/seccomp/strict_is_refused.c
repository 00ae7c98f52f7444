//# expect: refused "seccomp forbids"
/* A process in strict mode cannot be asked anything without lifting it for a moment, which the user must allow. */
#include "../guest.h"
#include <linux/seccomp.h>

static int ends[2];

static void *run(void *argument)
{
    char byte;
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) == 0)
        syscall(SYS_read, ends[0], &byte, 1);
    syscall(SYS_exit, 0);
    return NULL;
}

int main(void)
{
    struct guest_thread thread;
    guest_check(pipe(ends) == 0);
    guest_spawn(&thread, run, NULL);
    guest_wait_in_call(thread.tid, SYS_read);

    guest_checkpoint_here();

    guest_check(write(ends[1], "x", 1) == 1);
    guest_join(&thread);
    return 0;
}
