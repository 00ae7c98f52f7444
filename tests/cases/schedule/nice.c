//# expect: resumes
//# show: schedule nice=7 policy=3
/* Nice value, policy, I/O priority, timer slack and the processors it may run on: what anybody may set. */
#include "../guest.h"
#include <sched.h>
#include <sys/resource.h>

int main(void)
{
    cpu_set_t one, found;
    CPU_ZERO(&one);
    CPU_SET(sysconf(_SC_NPROCESSORS_ONLN) - 1, &one);
    struct sched_param none = {0};
    guest_check(setpriority(PRIO_PROCESS, 0, 7) == 0);
    guest_check(sched_setscheduler(0, SCHED_BATCH | SCHED_RESET_ON_FORK, &none) == 0);
    guest_check(syscall(SYS_ioprio_set, 1, 0, 2 << 13 | 6) == 0);
    guest_check(prctl(PR_SET_TIMERSLACK, 123456) == 0);
    guest_check(sched_setaffinity(0, sizeof one, &one) == 0);

    guest_checkpoint_here();

    guest_check(getpriority(PRIO_PROCESS, 0) == 7);
    guest_check(sched_getscheduler(0) == (SCHED_BATCH | SCHED_RESET_ON_FORK), "%x", sched_getscheduler(0));
    guest_check(syscall(SYS_ioprio_get, 1, 0) == (2 << 13 | 6), "%lx", syscall(SYS_ioprio_get, 1, 0));
    guest_check(prctl(PR_GET_TIMERSLACK) == 123456);
    guest_check(sched_getaffinity(0, sizeof found, &found) == 0 && CPU_EQUAL(&one, &found));
    return 0;
}
