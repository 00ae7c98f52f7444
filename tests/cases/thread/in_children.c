//# expect: resumes
//# tasks: 4
/* Threads in children: in one that was forked, in one that was executed, and in the parent of both; one child was forked
 * by a thread and goes on with that alone. */
#include "../tree.h"

static struct guest_thread threads[3];
static pid_t tids[3];
static __thread int own;

static void *runs(void *argument)
{
    own = (int)(long)argument;
    pid_t tid = (pid_t)syscall(SYS_gettid);
    while (!atomic_load(&guest_goes_on))
        usleep(1000);
    guest_check(own == (int)(long)argument && tid == (pid_t)syscall(SYS_gettid));
    return NULL;
}

static void start_threads(void)
{
    for (long i = 0; i < 3; i++) {
        guest_spawn(&threads[i], runs, (void *)(i + 10));
        tids[i] = threads[i].tid;
    }
}

static void join_threads(void)
{
    for (int i = 0; i < 3; i++) {
        guest_check(threads[i].tid == tids[i]);
        guest_join(&threads[i]);
    }
}

static void member(void)
{
    start_threads();
    tree_checkpoint_here();
    join_threads();
}

static pid_t by_thread;

static void alone(void)
{
    pid_t tid = (pid_t)syscall(SYS_gettid);
    tree_checkpoint_here();
    guest_check(own == 77 && tid == (pid_t)syscall(SYS_gettid) && tid == getpid());
}

static void *forks(void *argument)
{
    own = 77;
    by_thread = tree_start("forked by thread", alone);
    guest_linger();
    return NULL;
}

int main(void)
{
    if (tree_is("executed")) {
        member();
        tree_done();
    }
    struct guest_thread forker;
    tree_plant();
    pid_t one = tree_start("forked", member), two = tree_start_exec("executed");
    guest_spawn(&forker, forks, NULL);
    start_threads();
    tree_gather("forked", "executed", "forked by thread");

    guest_checkpoint_here();

    join_threads();
    guest_join(&forker);
    tree_finish(one, "forked");
    tree_finish(two, "executed");
    tree_finish(by_thread, "forked by thread");
    return 0;
}
