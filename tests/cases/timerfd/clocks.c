//# expect: resumes
//# show: timerfd clock=1 flags=1 expires_ns=0
//# show: timerfd remaining_ns=0 interval_ns=7000000008
//# show: timerfd clock=7 flags=0 ticks=0
/* Timerfds of all clocks, relative and absolute, periodic and once, armed and not. A relative one goes on with what remained,
 * an absolute one keeps its time. */
#include "../guest.h"
#include <poll.h>
#include <sys/timerfd.h>

static int create(clockid_t clock, int how, int flags, long value_s, long interval_s, long interval_ns)
{
    struct itimerspec setting = {{interval_s, interval_ns}, {value_s, 0}};
    int fd = timerfd_create(clock, flags);
    guest_check(fd >= 0 && timerfd_settime(fd, how, &setting, NULL) == 0, "clock %d", (int)clock);
    return fd;
}

static struct itimerspec look(int fd)
{
    struct itimerspec now;
    guest_check(timerfd_gettime(fd, &now) == 0);
    return now;
}

static double remaining_s(int fd)
{
    struct itimerspec now = look(fd);
    return (double)now.it_value.tv_sec + (double)now.it_value.tv_nsec / 1e9;
}

static double clock_s(clockid_t clock)
{
    struct timespec now;
    guest_check(clock_gettime(clock, &now) == 0);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* By how much later than `at_s` it expires; whoever is interrupted between the two looks finds more. */
static double late_s(int fd, clockid_t clock, long at_s)
{
    double least = 1e9;
    for (int i = 0; i < 50; i++) {
        double late = remaining_s(fd) - ((double)at_s - clock_s(clock));
        least = late < least ? late : least;
    }
    return least;
}

static bool is_ready(int fd)
{
    struct pollfd asked = {.fd = fd, .events = POLLIN};
    guest_check(poll(&asked, 1, 0) >= 0);
    return asked.revents == POLLIN;
}

int main(void)
{
    static const clockid_t clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME};
    int relative[3], absolute[3], off[3], was_set[3];
    long at[3];
    uint64_t ticks;
    for (int i = 0; i < 3; i++) {
        at[i] = (long)clock_s(clocks[i]) + 400;
        off[i] = timerfd_create(clocks[i], TFD_NONBLOCK);
        was_set[i] = create(clocks[i], TFD_TIMER_ABSTIME, TFD_CLOEXEC, 0, 7, 8);
        absolute[i] = create(clocks[i], TFD_TIMER_ABSTIME, TFD_NONBLOCK, at[i], 0, 0);
        relative[i] = create(clocks[i], 0, TFD_NONBLOCK, 400, 300, 5);
        guest_check(off[i] >= 0);
    }
    int far = create(CLOCK_REALTIME, TFD_TIMER_ABSTIME, 0, INT64_MAX / 1000000000 - 1, 0, 0);
    int soon = create(CLOCK_MONOTONIC, 0, TFD_NONBLOCK, 400, 0, 0);
    double late = late_s(soon, CLOCK_MONOTONIC, at[1]);

    guest_checkpoint_here();

    double since = late_s(soon, CLOCK_MONOTONIC, at[1]) - late;
    if (guest_was_resumed())
        guest_check(since > 0.002 && since < 60, "a relative one has gone on meanwhile: %f", since);
    else
        guest_check(since > -0.001 && since < 0.001, "the original's went wrong: %f", since);
    for (int i = 0; i < 3; i++) {
        struct itimerspec now = look(relative[i]);
        guest_check(now.it_interval.tv_sec == 300 && now.it_interval.tv_nsec == 5);
        guest_check(now.it_value.tv_sec > 340 && now.it_value.tv_sec <= 400, "%ld", now.it_value.tv_sec);
        double error = late_s(absolute[i], clocks[i], at[i]);
        guest_check(error > -0.00001 && error < 0.0005, "another time by %f s", error);
        guest_check(!look(absolute[i]).it_interval.tv_sec);
        guest_check(remaining_s(off[i]) == 0 && remaining_s(was_set[i]) == 0);
        now = look(was_set[i]);
        guest_check(now.it_interval.tv_sec == 7 && now.it_interval.tv_nsec == 8);
        guest_check(!is_ready(off[i]) && !is_ready(was_set[i]) && !is_ready(relative[i]) && !is_ready(absolute[i]));
        guest_check(read(relative[i], &ticks, sizeof ticks) == -1 && errno == EAGAIN);
        guest_check(fcntl(was_set[i], F_GETFD) == FD_CLOEXEC && fcntl(was_set[i], F_GETFL) == O_RDWR);
        struct itimerspec at_once = {{0, 0}, {0, 1000}};
        guest_check(timerfd_settime(off[i], 0, &at_once, NULL) == 0);
        usleep(2000);
        guest_check(is_ready(off[i]) && read(off[i], &ticks, sizeof ticks) == sizeof ticks && ticks == 1);
    }
    guest_check(remaining_s(far) > 1e9);
    return 0;
}
