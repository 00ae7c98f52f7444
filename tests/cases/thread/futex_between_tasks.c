//# expect: resumes
//# tasks: 4
/* Process-shared locks of the C library between tasks: a mutex that one holds and another waits for, a robust one whose
 * owner dies after the resume, and a condition that is waited for. */
#include "../tree.h"

static struct {
    pthread_mutex_t mutex, robust, with_condition;
    pthread_cond_t condition;
    int value;
} *shared;

static void waits_for_mutex(void)
{
    tree_in_place();
    guest_check(pthread_mutex_lock(&shared->mutex) == 0);
    tree_wait();
    guest_check(shared->value == 1, "%d", shared->value);
    shared->value = 2;
    guest_check(pthread_mutex_unlock(&shared->mutex) == 0);
}

static void holds_robust(void)
{
    guest_check(pthread_mutex_lock(&shared->robust) == 0);
    tree_checkpoint_here();
    guest_check(pthread_mutex_trylock(&shared->robust) == EBUSY);
    tree_event_of(tree_tell, "done", guest_member);
    _exit(0);
}

static void waits_for_condition(void)
{
    guest_check(pthread_mutex_lock(&shared->with_condition) == 0);
    tree_in_place();
    while (shared->value != 3)
        guest_check(pthread_cond_wait(&shared->condition, &shared->with_condition) == 0);
    guest_check(pthread_mutex_unlock(&shared->with_condition) == 0);
    tree_wait();
}

int main(void)
{
    shared = guest_map(1, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS);
    pthread_mutexattr_t attributes;
    pthread_condattr_t of_condition;
    guest_check(pthread_mutexattr_init(&attributes) == 0 && pthread_condattr_init(&of_condition) == 0);
    guest_check(pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED) == 0);
    guest_check(pthread_condattr_setpshared(&of_condition, PTHREAD_PROCESS_SHARED) == 0);
    guest_check(pthread_mutex_init(&shared->mutex, &attributes) == 0);
    guest_check(pthread_mutex_init(&shared->with_condition, &attributes) == 0);
    guest_check(pthread_cond_init(&shared->condition, &of_condition) == 0);
    guest_check(pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST) == 0);
    guest_check(pthread_mutex_init(&shared->robust, &attributes) == 0);
    guest_check(pthread_mutex_lock(&shared->mutex) == 0);
    pid_t one = tree_start("mutex", waits_for_mutex), two = tree_start("robust", holds_robust);
    pid_t three = tree_start("condition", waits_for_condition);
    tree_gather("mutex", "robust", "condition");
    tree_await_call(one, SYS_futex);
    tree_await_call(three, SYS_futex);

    guest_checkpoint_here();

    shared->value = 1;
    guest_check(pthread_mutex_unlock(&shared->mutex) == 0);
    tree_finish(one, "mutex");
    guest_check(shared->value == 2);
    tree_finish(two, "robust");
    guest_check(pthread_mutex_lock(&shared->robust) == EOWNERDEAD, "its owner has ended");
    guest_check(pthread_mutex_consistent(&shared->robust) == 0 && pthread_mutex_unlock(&shared->robust) == 0);
    guest_check(pthread_mutex_lock(&shared->with_condition) == 0);
    shared->value = 3;
    guest_check(pthread_cond_broadcast(&shared->condition) == 0 && pthread_mutex_unlock(&shared->with_condition) == 0);
    tree_finish(three, "condition");
    return 0;
}
