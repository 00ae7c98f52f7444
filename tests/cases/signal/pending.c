//# expect: resumes
//# show: signal signal=10 code=-6
/* Signals that wait because they are blocked: of the process and of the thread, each with what it carries, and those of
 * real-time in the order of their queue. */
#include "../guest.h"
#include <signal.h>

static siginfo_t next(int signal)
{
    siginfo_t info;
    struct timespec none = {0, 0};
    sigset_t set;
    memset(&info, 0, sizeof info);
    sigemptyset(&set);
    sigaddset(&set, signal);
    /* not glibc's, which makes SI_USER of SI_TKILL */
    guest_check(syscall(SYS_rt_sigtimedwait, &set, &info, &none, 8ul) == signal, "signal %d", signal);
    return info;
}

int main(void)
{
    sigset_t all, pending;
    pid_t me = getpid();
    sigfillset(&all);
    guest_check(sigprocmask(SIG_BLOCK, &all, NULL) == 0);
    guest_check(kill(me, SIGTERM) == 0);
    guest_check(syscall(SYS_tgkill, me, me, SIGUSR1) == 0);
    guest_check(sigqueue(me, SIGUSR2, (union sigval){.sival_ptr = (void *)0x123456789abc}) == 0);
    for (int i = 0; i < 20; i++)
        guest_check(sigqueue(me, SIGRTMIN + 2 + i % 2, (union sigval){.sival_int = i}) == 0);
    siginfo_t own = {.si_signo = SIGRTMIN + 4, .si_code = -60, .si_errno = 5};
    memset((char *)&own + 16, 0xa5, 32); /* as many bytes as the kernel keeps */
    guest_check(syscall(SYS_rt_tgsigqueueinfo, me, me, SIGRTMIN + 4, &own) == 0);
    pid_t child = fork(); /* the kernel's own siginfo: who, and how it ended */
    if (child == 0)
        _exit(23);
    while (sigpending(&pending) == 0 && !sigismember(&pending, SIGCHLD))
        usleep(100);
    guest_check(waitpid(child, NULL, 0) == child);

    guest_checkpoint_here();

    guest_check(sigpending(&pending) == 0);
    guest_check(sigismember(&pending, SIGHUP) == 0 && sigismember(&pending, SIGTERM) == 1);
    siginfo_t info = next(SIGTERM);
    guest_check(info.si_code == SI_USER && info.si_pid == me);
    info = next(SIGUSR1);
    guest_check(info.si_code == SI_TKILL && info.si_pid == me, "code %d from %d", info.si_code, info.si_pid);
    info = next(SIGUSR2);
    guest_check(info.si_code == SI_QUEUE && info.si_value.sival_ptr == (void *)0x123456789abc);
    for (int i = 0; i < 20; i += 2) {
        info = next(SIGRTMIN + 2);
        guest_check(info.si_value.sival_int == i, "%d instead of %d", info.si_value.sival_int, i);
    }
    for (int i = 1; i < 20; i += 2) {
        info = next(SIGRTMIN + 3);
        guest_check(info.si_value.sival_int == i, "%d instead of %d", info.si_value.sival_int, i);
    }
    info = next(SIGRTMIN + 4);
    guest_check(info.si_code == -60 && info.si_errno == 5);
    guest_check(!memcmp((char *)&info + 16, (char *)&own + 16, 32), "the fields of a siginfo");
    info = next(SIGCHLD);
    guest_check(info.si_code == CLD_EXITED && info.si_pid == child && info.si_status == 23, "code %d", info.si_code);
    guest_check(sigpending(&pending) == 0);
    for (int signal = 1; signal <= 64; signal++)
        guest_check(sigismember(&pending, signal) != 1, "signal %d came from nowhere", signal);
    return 0;
}
