//# expect: resumes
//# show: timerfd ticks=1234567890123
//# show: timerfd ticks=1 expires_ns=0
//# may-differ: fd/43/ticks it expires all the time
//# may-differ: fd/44/ticks it expires all the time
/* Expiries that nobody has read: one, many, of periodic timers that go on counting. None is lost and none is counted twice,
 * in an absolute timer not even while nothing ran; and no period begins anew. */
#include "../guest.h"
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/timerfd.h>

enum { ONCE = 40, MANY = 41, RESTS = 42, RELATIVE = 43, ABSOLUTE = 44, PERIOD_MS = 20 };

#ifndef TFD_IOC_SET_TICKS
#define TFD_IOC_SET_TICKS _IOW('T', 0, uint64_t)
#endif

static void create(int number, int how, struct timespec value, struct timespec interval)
{
    struct itimerspec setting = {interval, value};
    int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
    guest_check(fd >= 0 && timerfd_settime(fd, how, &setting, NULL) == 0 && dup2(fd, number) == number && !close(fd));
}

static uint64_t take(int fd)
{
    uint64_t ticks = 0;
    struct pollfd asked = {.fd = fd, .events = POLLIN};
    bool ready = poll(&asked, 1, 0) == 1 && asked.revents == POLLIN;
    ssize_t got = read(fd, &ticks, sizeof ticks);
    guest_check(got == sizeof ticks ? ticks > 0 : errno == EAGAIN && !ready, "%zd", got);
    return ticks;
}

static double now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

int main(void)
{
    struct timespec period = {0, PERIOD_MS * 1000000}, never = {0, 0}, at_once = {0, 1000000}, day = {86400, 0}, first;
    uint64_t many = 1234567890123;
    clock_gettime(CLOCK_MONOTONIC, &first);
    double start = now_ms();
    create(ONCE, 0, at_once, never);
    create(MANY, 0, never, never);
    guest_check(ioctl(MANY, TFD_IOC_SET_TICKS, &many) == 0);
    create(RESTS, 0, at_once, day);
    double rests_from = now_ms();
    create(RELATIVE, 0, period, period);
    create(ABSOLUTE, TFD_TIMER_ABSTIME, first, period);
    double begun = now_ms();
    usleep(100000);

    guest_checkpoint_here();

    double ran = now_ms() - rests_from;
    guest_check(take(ONCE) == 1 && take(ONCE) == 0);
    guest_check(take(MANY) == many && take(MANY) == 0);
    struct itimerspec now;
    guest_check(take(RESTS) == 1 && take(RESTS) == 0 && timerfd_gettime(RESTS, &now) == 0);
    double left = (double)now.it_value.tv_sec * 1e3 + (double)now.it_value.tv_nsec / 1e6;
    guest_check(left < 86400e3 - 99 && left > 86400e3 - ran - 1, "%f, %f", left, ran);
    guest_check(now.it_interval.tv_sec == 86400);
    uint64_t relative = 0, absolute = 0;
    for (int round = 0; round < 10; round++) {
        double before = now_ms();
        absolute += take(ABSOLUTE);
        double after = now_ms();
        relative += take(RELATIVE);
        guest_check((double)absolute >= (before - begun) / PERIOD_MS - 0.1, "some are lost: %lu", absolute);
        guest_check((double)absolute <= (after - start) / PERIOD_MS + 1.1, "some are doubled: %lu", absolute);
        guest_check(relative >= 5 + (uint64_t)round / 2, "some are lost: %lu", relative);
        guest_check((double)relative <= (now_ms() - start) / PERIOD_MS + 0.1, "some are doubled: %lu", relative);
        usleep(1000 * PERIOD_MS);
    }
    return 0;
}
