//# expect: resumes
//# may-differ: task/*/status/SigBlk what a thread waits for in sigtimedwait is not blocked meanwhile
//# flavours: alone running killed again exec
/* A timer whose signal goes to one thread (SIGEV_THREAD_ID), and one of glibc's that calls a function (SIGEV_THREAD). */
#include "../guest.h"
#include <signal.h>

static atomic_int calls, got;
static atomic_int stop;

static void called(union sigval value)
{
    atomic_fetch_add(&calls, value.sival_int);
}

static void *run(void *argument)
{
    sigset_t set;
    siginfo_t info;
    struct timespec second = {1, 0};
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 4);
    while (!stop)
        if (sigtimedwait(&set, &info, &second) == SIGRTMIN + 4)
            atomic_fetch_add(&got, 1);
    return NULL;
}

int main(void)
{
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGRTMIN + 4);
    sigprocmask(SIG_BLOCK, &blocked, NULL);
    struct guest_thread thread;
    guest_spawn(&thread, run, NULL);
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGRTMIN + 4};
    event._sigev_un._tid = thread.tid;
    timer_t to_thread, to_function;
    guest_check(timer_create(CLOCK_MONOTONIC, &event, &to_thread) == 0);
    struct sigevent function = {.sigev_notify = SIGEV_THREAD, .sigev_notify_function = called, .sigev_value.sival_int = 1};
    guest_check(timer_create(CLOCK_MONOTONIC, &function, &to_function) == 0);
    struct itimerspec often = {{0, 50000000}, {0, 50000000}};
    guest_check(timer_settime(to_thread, 0, &often, NULL) == 0);

    guest_checkpoint_here();

    int before = got;
    for (int i = 0; i < 5000 && got < before + 3; i++)
        usleep(1000);
    guest_check(got >= before + 3, "%d", got - before);
    guest_check(timer_settime(to_function, 0, &often, NULL) == 0);
    for (int i = 0; i < 5000 && calls < 3; i++)
        usleep(1000);
    guest_check(calls >= 3, "%d", calls);
    stop = 1;
    guest_join(&thread);
    return 0;
}
