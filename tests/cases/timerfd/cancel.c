//# expect: resumes
//# show: timerfd flags=3
//# may-differ: fd/40/ticks somebody has set the clock
/* A timerfd that is told when somebody sets the clock: it is told by one that was set after the resume, and goes on. */
#include "../guest.h"
#include <sys/timerfd.h>
#include <sys/timex.h>

enum { TIMER = 40 };

/* By a nanosecond, and back. */
static bool set_clock(void)
{
    struct timex ahead = {.modes = ADJ_SETOFFSET | ADJ_NANO, .time = {0, 1}};
    struct timex back = {.modes = ADJ_SETOFFSET | ADJ_NANO, .time = {-1, 999999999}};
    return clock_adjtime(CLOCK_REALTIME, &ahead) >= 0 && clock_adjtime(CLOCK_REALTIME, &back) >= 0;
}

int main(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    struct itimerspec at = {{0, 0}, {now.tv_sec + 400, 0}}, left;
    int fd = timerfd_create(CLOCK_REALTIME, TFD_NONBLOCK);
    guest_check(fd >= 0 && dup2(fd, TIMER) == TIMER && close(fd) == 0);
    guest_check(timerfd_settime(TIMER, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, &at, NULL) == 0);

    guest_checkpoint_here();

    uint64_t ticks;
    /* Other tests may set it too. */
    while (read(TIMER, &ticks, sizeof ticks) == sizeof ticks || errno == ECANCELED)
        ;
    guest_check(errno == EAGAIN);
    guest_check(timerfd_gettime(TIMER, &left) == 0 && left.it_value.tv_sec > 300);
    if (set_clock())
        guest_check(read(TIMER, &ticks, sizeof ticks) == -1 && errno == ECANCELED, "it was not told");
    else
        guest_check(errno == EPERM);
    return 0;
}
