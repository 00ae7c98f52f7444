//# expect: resumes
//# flavours: alone running killed again exec namespace
//# may-differ: fd/40/ticks it expires when it does
//# may-differ: fd/41/ticks it expires when it does
/* Threads that wait inside of a timerfd: for a relative one, for an absolute one, and for one that somebody has yet to arm. */
#include "../guest.h"
#include <sys/timerfd.h>

enum { RELATIVE = 40, ABSOLUTE = 41, OFF = 42 };

static uint64_t ticks[3];

static void create(int number, int how, struct timespec value)
{
    struct itimerspec setting = {{0, 0}, value};
    int fd = timerfd_create(CLOCK_MONOTONIC, 0);
    guest_check(fd >= 0 && timerfd_settime(fd, how, &setting, NULL) == 0 && dup2(fd, number) == number && !close(fd));
}

static void *wait_for(void *argument)
{
    int number = (int)(intptr_t)argument;
    guest_check(read(number, &ticks[number - RELATIVE], sizeof *ticks) == sizeof *ticks, "%d", number);
    guest_linger();
    return NULL;
}

int main(void)
{
    struct guest_thread threads[3];
    struct timespec later, now, two = {2, 0}, never = {0, 0};
    clock_gettime(CLOCK_MONOTONIC, &later);
    later.tv_sec += 2;
    create(RELATIVE, 0, two);
    create(ABSOLUTE, TFD_TIMER_ABSTIME, later);
    create(OFF, 0, never);
    for (intptr_t i = 0; i < 3; i++)
        guest_spawn(&threads[i], wait_for, (void *)(RELATIVE + i));
    for (int i = 0; i < 3; i++)
        guest_wait_in_call(threads[i].tid, SYS_read);

    guest_checkpoint_here();

    guest_check(ticks[2] == 0);
    struct itimerspec soon = {{0, 0}, {0, 20000000}};
    guest_check(timerfd_settime(OFF, 0, &soon, NULL) == 0);
    guest_join(&threads[2]);
    guest_join(&threads[1]);
    clock_gettime(CLOCK_MONOTONIC, &now);
    guest_check(now.tv_sec > later.tv_sec || (now.tv_sec == later.tv_sec && now.tv_nsec >= later.tv_nsec), "too early");
    guest_join(&threads[0]);
    guest_check(ticks[0] == 1 && ticks[1] == 1 && ticks[2] == 1);
    return 0;
}
