//# expect: resumes
//# show: signal signal=10
/* What the process does with each signal: handlers with their flags, masks and restorers, ignored ones, defaults. */
#include "../guest.h"
#include <signal.h>

struct kernel_action {
    void *handler;
    unsigned long flags;
    void *restorer;
    uint64_t mask;
};

static volatile sig_atomic_t caught;
static siginfo_t info;

static void simple(int signal)
{
    caught = signal;
}

static void with_info(int signal, siginfo_t *with, void *context)
{
    caught = signal;
    info = *with;
}

static void read_all(struct kernel_action *actions)
{
    for (int signal = 1; signal <= 64; signal++)
        guest_check(syscall(SYS_rt_sigaction, signal, NULL, &actions[signal], 8ul) == 0);
}

int main(void)
{
    static struct kernel_action before[65], after[65];
    struct sigaction action = {.sa_handler = simple, .sa_flags = SA_RESTART | SA_NODEFER};
    sigaddset(&action.sa_mask, SIGTERM);
    sigaddset(&action.sa_mask, SIGRTMAX);
    guest_check(sigaction(SIGUSR1, &action, NULL) == 0);
    action = (struct sigaction){.sa_sigaction = with_info, .sa_flags = SA_SIGINFO | SA_RESETHAND};
    guest_check(sigaction(SIGUSR2, &action, NULL) == 0);
    guest_check(sigaction(SIGRTMIN + 5, &action, NULL) == 0);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGHUP, SIG_IGN);
    action = (struct sigaction){.sa_handler = SIG_DFL, .sa_flags = SA_NOCLDWAIT | SA_NOCLDSTOP};
    guest_check(sigaction(SIGCHLD, &action, NULL) == 0);
    read_all(before);

    guest_checkpoint_here();

    read_all(after);
    for (int signal = 1; signal <= 64; signal++)
        guest_check(!memcmp(&before[signal], &after[signal], sizeof before[signal]), "signal %d", signal);
    guest_check(raise(SIGUSR1) == 0 && caught == SIGUSR1);
    guest_check(sigqueue(getpid(), SIGUSR2, (union sigval){.sival_int = 77}) == 0 && caught == SIGUSR2);
    guest_check(info.si_value.sival_int == 77 && info.si_code == SI_QUEUE);
    guest_check(signal(SIGUSR2, SIG_IGN) == SIG_DFL, "SA_RESETHAND");
    int ends[2];
    guest_check(pipe(ends) == 0 && close(ends[0]) == 0 && write(ends[1], "x", 1) == -1 && errno == EPIPE);
    return 0;
}
