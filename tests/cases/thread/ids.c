//# expect: resumes
//# flavours: alone running killed again exec
/* Thread ids as the kernel and as glibc know them: recursive and error-checking mutexes, joining, and new threads beside
 * the old ones. */
#include "../guest.h"

static pthread_mutex_t recursive, checking;
static pthread_barrier_t go, end;
static pid_t tids[4];

static void *hold(void *argument)
{
    int me = (int)(intptr_t)argument;
    tids[me] = (pid_t)syscall(SYS_gettid);
    if (me == 0) {
        pthread_mutex_lock(&recursive);
        pthread_mutex_lock(&checking);
    }
    pthread_barrier_wait(&go);
    guest_check((pid_t)syscall(SYS_gettid) == tids[me]);
    if (me == 0) {
        guest_check(pthread_mutex_lock(&recursive) == 0, "not its owner");
        guest_check(pthread_mutex_lock(&checking) == EDEADLK, "not its owner");
        guest_check(pthread_mutex_unlock(&checking) == 0);
        pthread_mutex_unlock(&recursive);
        pthread_mutex_unlock(&recursive);
    } else {
        guest_check(pthread_mutex_unlock(&checking) == EPERM, "somebody else's mutex");
    }
    pthread_barrier_wait(&end);
    return (void *)(intptr_t)(me + 100);
}

static void *quick(void *argument)
{
    return argument;
}

int main(void)
{
    pthread_t threads[4], later;
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&recursive, &attributes);
    pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ERRORCHECK);
    pthread_mutex_init(&checking, &attributes);
    pthread_barrier_init(&go, NULL, 5);
    pthread_barrier_init(&end, NULL, 5);
    for (intptr_t i = 0; i < 4; i++)
        guest_check(pthread_create(&threads[i], NULL, hold, (void *)i) == 0);
    for (int i = 0; i < 4; i++) {
        while (!*(volatile pid_t *)&tids[i])
            usleep(100);
        guest_wait_in_call(tids[i], SYS_futex);
    }

    guest_checkpoint_here();

    guest_check(syscall(SYS_gettid) == getpid());
    guest_check(pthread_create(&later, NULL, quick, &tids) == 0);
    void *result;
    guest_check(pthread_join(later, &result) == 0 && result == &tids);
    pthread_barrier_wait(&go);
    pthread_barrier_wait(&end);
    for (int i = 0; i < 4; i++)
        guest_check(pthread_join(threads[i], &result) == 0 && (intptr_t)result == i + 100);
    return 0;
}
