//# expect: resumes
/* A timer that fired while its signal was blocked: the signal waits, and counts how often it would have come. The count
 * is made when the signal is taken, from the time since it fired; nobody can read it before, or set it, so that a copy
 * counts from the resume. */
#include "../guest.h"
#include <signal.h>

int main(void)
{
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN, .sigev_value.sival_int = 5};
    sigset_t blocked, pending;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGRTMIN);
    sigprocmask(SIG_BLOCK, &blocked, NULL);
    int id = -1;
    guest_check(syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &id) == 0);
    struct itimerspec fast = {{0, 10000000}, {0, 1000000}};
    guest_check(syscall(SYS_timer_settime, id, 0, &fast, NULL) == 0);
    while (sigpending(&pending) == 0 && !sigismember(&pending, SIGRTMIN))
        usleep(100);
    usleep(300000);

    guest_checkpoint_here();

    siginfo_t info;
    struct timespec none = {0, 0};
    guest_check(sigtimedwait(&blocked, &info, &none) == SIGRTMIN, "the signal does not wait");
    guest_check(info.si_code == SI_TIMER && info.si_timerid == id && info.si_value.sival_int == 5);
    guest_check(info.si_overrun >= (guest_was_resumed() ? 0 : 20), "%d", info.si_overrun);
    /* it goes on */
    guest_check(sigwaitinfo(&blocked, &info) == SIGRTMIN && info.si_timerid == id);
    struct itimerspec now;
    guest_check(syscall(SYS_timer_gettime, id, &now) == 0 && now.it_interval.tv_nsec == 10000000);
    return 0;
}
