//# expect: resumes
/* A single thread that the checkpoint finds in a system call of its own: a sleep until a time, which goes on and ends then,
 * in every copy. */
#include "../guest.h"

int main(void)
{
    struct timespec until, now;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += 4;
    guest_announce();
    int error = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
    clock_gettime(CLOCK_MONOTONIC, &now);

    guest_wait();

    guest_check(error == 0, "%d", error);
    guest_check(now.tv_sec > until.tv_sec || (now.tv_sec == until.tv_sec && now.tv_nsec >= until.tv_nsec));
    return 0;
}
