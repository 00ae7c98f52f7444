//# expect: resumes
//# needs: capability wake_alarm
//# show: timerfd clock=8 flags=1
//# show: timerfd clock=9 flags=0
/* Timerfds that wake the machine, which takes a capability; the process has dropped it since. */
#include "../guest.h"
#include <linux/capability.h>
#include <sys/timerfd.h>

static void drop_capabilities(void)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2];
    guest_check(syscall(SYS_capget, &header, data) == 0);
    data[1].effective &= ~(1u << (CAP_WAKE_ALARM - 32));
    guest_check(syscall(SYS_capset, &header, data) == 0);
}

int main(void)
{
    int absolute = timerfd_create(CLOCK_REALTIME_ALARM, TFD_NONBLOCK);
    int relative = timerfd_create(CLOCK_BOOTTIME_ALARM, TFD_NONBLOCK);
    if (absolute < 0 || relative < 0)
        guest_skip("it needs CAP_WAKE_ALARM");
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    struct itimerspec at = {{9, 0}, {now.tv_sec + 400, now.tv_nsec}}, in = {{0, 0}, {400, 0}}, left;
    guest_check(timerfd_settime(absolute, TFD_TIMER_ABSTIME, &at, NULL) == 0);
    guest_check(timerfd_settime(relative, 0, &in, NULL) == 0);
    drop_capabilities();

    guest_checkpoint_here();

    guest_check(timerfd_settime(relative, 0, &in, NULL) == -1 && errno == EPERM);
    guest_check(timerfd_gettime(relative, &left) == 0);
    guest_check(left.it_value.tv_sec > 340 && left.it_value.tv_sec <= 400, "%ld", left.it_value.tv_sec);
    guest_check(timerfd_gettime(absolute, &left) == 0 && left.it_interval.tv_sec == 9);
    clock_gettime(CLOCK_REALTIME, &now);
    long error_ms = (left.it_value.tv_sec + now.tv_sec - at.it_value.tv_sec) * 1000 +
                    (left.it_value.tv_nsec + now.tv_nsec - at.it_value.tv_nsec) / 1000000;
    guest_check(error_ms >= -5 && error_ms <= 5, "another time by %ld ms", error_ms);
    return 0;
}
