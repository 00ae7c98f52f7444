//# expect: resumes
//# flavours: alone running killed again exec
/* A thread that ends with a robust mutex locked: the kernel walks the list that it has registered. */
#include "../guest.h"
#include <linux/futex.h>

static pthread_mutex_t mutex;
static pthread_barrier_t barrier;

static void *hold(void *argument)
{
    pthread_mutex_lock(&mutex);
    pthread_barrier_wait(&barrier);
    return NULL;
}

int main(void)
{
    struct guest_thread thread;
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&mutex, &attributes);
    pthread_barrier_init(&barrier, NULL, 2);
    guest_spawn(&thread, hold, NULL);
    guest_wait_in_call(thread.tid, SYS_futex);
    void *head[2];
    size_t length[2];
    guest_check(syscall(SYS_get_robust_list, 0, &head[0], &length[0]) == 0 && head[0]);

    guest_checkpoint_here();

    guest_check(syscall(SYS_get_robust_list, 0, &head[1], &length[1]) == 0);
    guest_check(head[0] == head[1] && length[0] == length[1]);
    pthread_barrier_wait(&barrier);
    guest_check(pthread_mutex_lock(&mutex) == EOWNERDEAD);
    guest_check(pthread_mutex_consistent(&mutex) == 0);
    guest_check(pthread_mutex_unlock(&mutex) == 0);
    guest_join(&thread);
    return 0;
}
