//# expect: refused "lives in another UTS namespace than its first thread"
//# needs: capability sys_admin
/* A thread that has left for a namespace of its own, as Go programs do with a locked thread. */
#include "../guest.h"
#include <sched.h>

static void *leave(void *argument)
{
    (void)argument;
    guest_check(unshare(CLONE_NEWUTS) == 0 && sethostname("elsewhere", 9) == 0);
    guest_linger();
    return NULL;
}

int main(void)
{
    struct guest_thread thread;
    guest_spawn(&thread, leave, NULL);
    guest_wait_in_call(thread.tid, SYS_clock_nanosleep);

    guest_checkpoint_here();

    guest_join(&thread);
    return 0;
}
