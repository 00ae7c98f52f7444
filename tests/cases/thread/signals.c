//# expect: resumes
//# flavours: alone running killed again exec
/* What each thread has for itself: its mask of blocked signals, its alternate stack, its name. */
#include "../guest.h"
#include <signal.h>

#define COUNT 5

static pthread_barrier_t barrier;
static char stacks[COUNT][16384];
static atomic_int arrived;

static void *run(void *argument)
{
    int me = (int)(intptr_t)argument;
    char name[16], expected[16];
    sigset_t set, now;
    stack_t alternate = {.ss_sp = stacks[me], .ss_size = sizeof stacks[me]}, found;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGRTMIN + me);
    pthread_sigmask(SIG_SETMASK, &set, NULL);
    guest_check(sigaltstack(&alternate, NULL) == 0);
    snprintf(expected, sizeof expected, "thread (%d) \n", me);
    guest_check(prctl(PR_SET_NAME, expected) == 0);
    atomic_fetch_add(&arrived, 1);
    pthread_barrier_wait(&barrier);
    pthread_sigmask(SIG_BLOCK, NULL, &now);
    for (int signal = 1; signal < 64; signal++)
        guest_check(sigismember(&set, signal) == sigismember(&now, signal), "thread %d signal %d", me, signal);
    guest_check(sigaltstack(NULL, &found) == 0);
    guest_check(found.ss_sp == stacks[me] && found.ss_size == sizeof stacks[me] && !found.ss_flags);
    guest_check(prctl(PR_GET_NAME, name) == 0 && !strcmp(name, expected), "%s", name);
    return NULL;
}

int main(void)
{
    struct guest_thread threads[COUNT];
    pthread_barrier_init(&barrier, NULL, COUNT + 1);
    for (intptr_t i = 0; i < COUNT; i++)
        guest_spawn(&threads[i], run, (void *)i);
    while (arrived < COUNT)
        usleep(100);
    for (int i = 0; i < COUNT; i++)
        guest_wait_in_call(threads[i].tid, SYS_futex);

    guest_checkpoint_here();

    pthread_barrier_wait(&barrier);
    for (int i = 0; i < COUNT; i++)
        guest_join(&threads[i]);
    return 0;
}
