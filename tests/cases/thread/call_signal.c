//# expect: resumes
//# may-differ: task/4/status/SigBlk every stop ends sigtimedwait with a timeout, and its signal is blocked again
//# flavours: alone running killed again exec
/* Calls that wait for a signal: sigsuspend with another mask (which it puts back), pause, sigtimedwait without a time, and
 * with one. */
#include "../guest.h"
#include <signal.h>

#define KINDS 4

static int result[KINDS], error[KINDS];
static sigset_t after[KINDS];
static __thread volatile sig_atomic_t caught;

static void handler(int signal)
{
    caught = signal;
}

static void *wait_here(void *argument)
{
    int kind = (int)(intptr_t)argument;
    sigset_t all_but_two, queue;
    siginfo_t info;
    struct timespec minute = {60, 0};
    sigfillset(&all_but_two);
    sigdelset(&all_but_two, SIGUSR2);
    sigemptyset(&queue);
    sigaddset(&queue, SIGRTMIN + 3);
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR2);
    sigaddset(&blocked, SIGRTMIN + 3);
    if (kind == 1)
        sigdelset(&blocked, SIGUSR2);
    pthread_sigmask(SIG_SETMASK, &blocked, NULL);
    switch (kind) {
    case 0: result[kind] = sigsuspend(&all_but_two); break;
    case 1: result[kind] = pause(); break;
    case 2: result[kind] = sigwaitinfo(&queue, &info); break;
    case 3: result[kind] = sigtimedwait(&queue, &info, &minute); break;
    }
    error[kind] = errno;
    if (kind < 2 && caught != SIGUSR2)
        result[kind] = 1000 + caught;
    pthread_sigmask(SIG_BLOCK, NULL, &after[kind]);
    guest_linger();
    return NULL;
}

int main(void)
{
    struct guest_thread threads[KINDS];
    static const long calls[KINDS] = {SYS_rt_sigsuspend, SYS_pause, SYS_rt_sigtimedwait, SYS_rt_sigtimedwait};
    signal(SIGUSR2, handler);
    for (intptr_t kind = 0; kind < KINDS; kind++) {
        guest_spawn(&threads[kind], wait_here, (void *)kind);
        guest_wait_in_call(threads[kind].tid, calls[kind]);
    }

    guest_checkpoint_here();

    usleep(100000);
    for (int kind = 0; kind < KINDS; kind++)
        pthread_kill(threads[kind].handle, kind < 2 ? SIGUSR2 : SIGRTMIN + 3);
    for (int kind = 0; kind < KINDS; kind++)
        guest_join(&threads[kind]);
    for (int kind = 0; kind < 2; kind++)
        guest_check(result[kind] == -1 && error[kind] == EINTR, "kind %d: %d", kind, result[kind]);
    guest_check(sigismember(&after[0], SIGUSR2) == 1 && sigismember(&after[0], SIGUSR1) == 0, "the mask of before");
    guest_check(result[2] == SIGRTMIN + 3, "%d, error %d", result[2], error[2]);
    /* every stop ends this one with EINTR, a debugger's too (signal(7)) */
    guest_check(result[3] == SIGRTMIN + 3 || (result[3] == -1 && error[3] == EINTR), "%d, error %d", result[3], error[3]);
    return 0;
}
