//# expect: resumes
//# flavours: alone running killed again exec
/* Sleeps. One that ends at a time goes on, and so does one whose remaining time stands where its length does. Any other
 * relative sleep returns EINTR in a copy with what remained: it never starts anew in full. */
#include "../guest.h"

#define LONG_MS 3000

static long began, took[4];
static int result[4], error[4];
static struct timespec remaining[4];

static void *sleep_here(void *argument)
{
    int kind = (int)(intptr_t)argument;
    struct timespec request = {LONG_MS / 1000, LONG_MS % 1000 * 1000000};
    struct timespec *rest = &remaining[kind];
    rest->tv_sec = 999;
    if (kind == 0) { /* until a time */
        clock_gettime(CLOCK_MONOTONIC, &request);
        request.tv_sec += LONG_MS / 1000;
        result[kind] = syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, TIMER_ABSTIME, &request, NULL);
    } else if (kind == 1) { /* what remains is written over the length */
        result[kind] = syscall(SYS_nanosleep, &request, &request);
    } else if (kind == 2) { /* what remains is written elsewhere */
        result[kind] = syscall(SYS_clock_nanosleep, CLOCK_MONOTONIC, 0, &request, rest);
    } else { /* nobody is told what remains */
        result[kind] = syscall(SYS_nanosleep, &request, NULL);
    }
    error[kind] = errno;
    took[kind] = guest_now_ms() - began;
    guest_linger();
    return NULL;
}

int main(void)
{
    struct guest_thread threads[4];
    static const long calls[] = {SYS_clock_nanosleep, SYS_nanosleep, SYS_clock_nanosleep, SYS_nanosleep};
    began = guest_now_ms();
    for (intptr_t kind = 0; kind < 4; kind++) {
        guest_spawn(&threads[kind], sleep_here, (void *)kind);
        guest_wait_in_call(threads[kind].tid, calls[kind]);
    }
    usleep(300000);

    guest_checkpoint_here();

    long resumed = guest_now_ms() - began;
    for (int kind = 0; kind < 4; kind++)
        guest_join(&threads[kind]);
    for (int kind = 0; kind < 4; kind++) {
        bool may_end_early = kind >= 2 && guest_was_resumed();
        if (result[kind] == 0) {
            guest_check(took[kind] >= LONG_MS, "kind %d slept %ld ms", kind, took[kind]);
            /* an absolute time does not move; a relative one may be longer by the time it was not there */
            guest_check(took[kind] < LONG_MS + resumed + 1000, "kind %d slept %ld ms", kind, took[kind]);
        } else {
            guest_check(result[kind] == -1 && error[kind] == EINTR && may_end_early, "kind %d: %d", kind, error[kind]);
        }
    }
    if (result[2] != 0) {
        long rest = remaining[2].tv_sec * 1000 + remaining[2].tv_nsec / 1000000;
        guest_check(rest > 0 && rest <= LONG_MS - 250, "%ld ms remained", rest);
    }
    guest_check(took[0] < LONG_MS + 1000 || took[0] < resumed + 1000, "%ld", took[0]);
    return 0;
}
