//# expect: resumes
//# flavours: alone running killed again exec
/* Signals in the queues of several threads, and one in that of the process, which whoever unblocks it gets. */
#include "../guest.h"
#include <signal.h>

#define COUNT 4

static pthread_barrier_t barrier;

static void *run(void *argument)
{
    int me = (int)(intptr_t)argument;
    pthread_barrier_wait(&barrier);
    siginfo_t info;
    sigset_t set;
    struct timespec none = {0, 0};
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 1);
    for (int i = 0; i < 3; i++) {
        guest_check(sigtimedwait(&set, &info, &none) == SIGRTMIN + 1, "thread %d", me);
        guest_check(info.si_value.sival_int == me * 10 + i, "thread %d got %d", me, info.si_value.sival_int);
    }
    guest_check(sigtimedwait(&set, &info, &none) == -1 && errno == EAGAIN, "thread %d has one too many", me);
    return NULL;
}

int main(void)
{
    struct guest_thread threads[COUNT];
    sigset_t all;
    sigfillset(&all);
    guest_check(pthread_sigmask(SIG_BLOCK, &all, NULL) == 0);
    pthread_barrier_init(&barrier, NULL, COUNT + 1);
    for (intptr_t i = 0; i < COUNT; i++) {
        guest_spawn(&threads[i], run, (void *)i);
        for (int k = 0; k < 3; k++)
            guest_check(pthread_sigqueue(threads[i].handle, SIGRTMIN + 1, (union sigval){.sival_int = i * 10 + k}) == 0);
        guest_wait_in_call(threads[i].tid, SYS_futex);
    }
    guest_check(sigqueue(getpid(), SIGRTMIN + 2, (union sigval){.sival_int = 5}) == 0);

    guest_checkpoint_here();

    pthread_barrier_wait(&barrier);
    for (int i = 0; i < COUNT; i++)
        guest_join(&threads[i]);
    sigset_t set;
    siginfo_t info;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 2);
    guest_check(sigwaitinfo(&set, &info) == SIGRTMIN + 2 && info.si_value.sival_int == 5);
    return 0;
}
