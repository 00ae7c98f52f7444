//# expect: resumes
//# flavours: alone running killed again exec
/* Futex waits: without a time they wait on, until a time they wait until then, and for a while they may return EINTR in a
 * copy. The wake-up reaches those that wait. */
#include "../guest.h"
#include <linux/futex.h>

#define KINDS 4

static uint32_t words[KINDS];
static int result[KINDS], error[KINDS];
static long took[KINDS], began;

static void *wait_here(void *argument)
{
    int kind = (int)(intptr_t)argument;
    struct timespec minute = {60, 0}, soon;
    clock_gettime(CLOCK_MONOTONIC, &soon);
    soon.tv_sec += 2;
    began = guest_now_ms();
    switch (kind) {
    case 0: result[kind] = syscall(SYS_futex, &words[kind], FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0); break;
    case 1: result[kind] = syscall(SYS_futex, &words[kind], FUTEX_WAIT, 0, NULL, NULL, 0); break;
    case 2: result[kind] = syscall(SYS_futex, &words[kind], FUTEX_WAIT_PRIVATE, 0, &minute, NULL, 0); break;
    case 3:
        result[kind] = syscall(SYS_futex, &words[kind], FUTEX_WAIT_BITSET_PRIVATE, 0, &soon, NULL, ~0u);
        break;
    }
    error[kind] = errno;
    took[kind] = guest_now_ms() - began;
    guest_linger();
    return NULL;
}

int main(void)
{
    struct guest_thread threads[KINDS];
    for (intptr_t kind = 0; kind < KINDS; kind++) {
        guest_spawn(&threads[kind], wait_here, (void *)kind);
        guest_wait_in_call(threads[kind].tid, SYS_futex);
    }

    guest_checkpoint_here();

    guest_join(&threads[3]);
    bool may_end_early = guest_was_resumed();
    guest_check(result[3] == -1 && error[3] == ETIMEDOUT, "%d, error %d", result[3], error[3]);
    guest_check(took[3] >= 1990, "%ld ms", took[3]);
    for (int kind = 0; kind < 3; kind++) {
        syscall(SYS_futex, &words[kind], kind == 1 ? FUTEX_WAKE : FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
        guest_join(&threads[kind]);
        guest_check(result[kind] == 0 || (kind == 2 && may_end_early && error[kind] == EINTR), "kind %d: %d, error %d",
                    kind, result[kind], error[kind]);
    }
    return 0;
}
