//# expect: resumes
//# show: timer id=5 signal=12
/* POSIX timers: ids with gaps between them, clocks, what they send, what remains, absolute and relative, armed and not. */
#include "../guest.h"
#include <signal.h>

/* the kernel's own ids: glibc wraps them for SIGEV_THREAD alone */
static int create(clockid_t clock, struct sigevent *event)
{
    int id = -1;
    guest_check(syscall(SYS_timer_create, clock, event, &id) == 0);
    return id;
}

static struct itimerspec look(int id)
{
    struct itimerspec now;
    guest_check(syscall(SYS_timer_gettime, id, &now) == 0, "timer %d", id);
    return now;
}

int main(void)
{
    struct sigevent with_value = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2, .sigev_value.sival_int = 77};
    struct sigevent silent = {.sigev_notify = SIGEV_NONE};
    struct sigevent rt = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 1};
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR2);
    sigaddset(&blocked, SIGRTMIN + 1);
    sigprocmask(SIG_BLOCK, &blocked, NULL);
    int ids[6];
    ids[0] = create(CLOCK_MONOTONIC, NULL);
    ids[1] = create(CLOCK_REALTIME, &silent);
    ids[2] = create(CLOCK_REALTIME, &silent);
    ids[3] = create(CLOCK_BOOTTIME, &rt);
    ids[4] = create(CLOCK_PROCESS_CPUTIME_ID, &silent);
    ids[5] = create(CLOCK_MONOTONIC, &with_value);
    guest_check(syscall(SYS_timer_delete, ids[2]) == 0 && syscall(SYS_timer_delete, ids[0]) == 0);
    struct itimerspec soon = {{300, 5}, {400, 0}}, once = {{0, 0}, {900, 0}};
    guest_check(syscall(SYS_timer_settime, ids[5], 0, &soon, NULL) == 0);
    guest_check(syscall(SYS_timer_settime, ids[3], 0, &once, NULL) == 0);

    guest_checkpoint_here();

    struct itimerspec now = look(ids[5]);
    guest_check(now.it_interval.tv_sec == 300 && now.it_interval.tv_nsec == 5);
    guest_check(now.it_value.tv_sec > 340 && now.it_value.tv_sec <= 400, "%ld", now.it_value.tv_sec);
    now = look(ids[3]);
    guest_check(!now.it_interval.tv_sec && now.it_value.tv_sec > 840 && now.it_value.tv_sec <= 900);
    now = look(ids[1]);
    guest_check(!now.it_value.tv_sec && !now.it_value.tv_nsec);
    now = look(ids[4]);
    guest_check(!now.it_value.tv_sec && !now.it_value.tv_nsec);
    guest_check(syscall(SYS_timer_gettime, ids[0], &now) == -1 && errno == EINVAL, "a deleted timer is there");
    guest_check(syscall(SYS_timer_gettime, ids[2], &now) == -1 && errno == EINVAL, "a deleted timer is there");
    /* the next id is the next one, as if nothing had happened */
    guest_check(create(CLOCK_MONOTONIC, &silent) == ids[5] + 1, "another id");
    struct itimerspec at_once = {{0, 0}, {0, 1000}};
    siginfo_t info;
    guest_check(syscall(SYS_timer_settime, ids[5], 0, &at_once, NULL) == 0);
    guest_check(sigwaitinfo(&blocked, &info) == SIGUSR2);
    guest_check(info.si_code == SI_TIMER && info.si_value.sival_int == 77 && info.si_timerid == ids[5]);
    return 0;
}
