//# expect: resumes
//# tasks: 5
//# show: schedule io_context=1
/* An I/O context in common (CLONE_IO): the priority that one sets is that of all. A child, one that was executed, a grandchild
 * and a thread have it; another child has the same priority and a context of its own. */
#include "../tree.h"

static int own_priority(void)
{
    return (int)syscall(SYS_ioprio_get, 1, 0);
}

static void set_priority(int level)
{
    guest_check(syscall(SYS_ioprio_set, 1, 0, 2 << 13 | level) == 0);
}

static void await_priority(int level)
{
    long start = guest_now_ms();
    while (own_priority() != (2 << 13 | level))
        tree_pause(start, TREE_PATIENCE_MS, "a priority");
}

static void grandchild(void)
{
    tree_checkpoint_here();
    guest_check(own_priority() == (2 << 13 | 5), "%x", own_priority());
    tree_event_of(tree_tell, "looked", guest_member);
    await_priority(7);
}

static void child(void)
{
    pid_t one = tree_clone("grandchild", CLONE_IO | SIGCHLD, grandchild);
    tree_checkpoint_here();
    guest_check(own_priority() == (2 << 13 | 5));
    tree_event_of(tree_tell, "looked", guest_member);
    await_priority(7);
    tree_finish(one, "grandchild");
}

static void executed(void)
{
    tree_exec("executed");
}

static void apart(void)
{
    tree_checkpoint_here();
    tree_await("set");
    guest_check(own_priority() == (2 << 13 | 5), "its own stays: %x", own_priority());
}

/* A thread that has no thread-local data of its own: it only sleeps. */
static int sleep_for_ever(void *nothing)
{
    while (!nothing) {
        long result = SYS_pause;
        __asm__ volatile("syscall" : "+a"(result) : : "rcx", "r11", "memory");
    }
    return 0;
}

int main(void)
{
    if (tree_is("executed")) {
        tree_checkpoint_here();
        guest_check(own_priority() == (2 << 13 | 5));
        tree_event_of(tree_tell, "looked", guest_member);
        await_priority(7);
        tree_done();
    }
    static char stack[16384] __attribute__((aligned(16)));
    set_priority(5);
    int thread = clone(sleep_for_ever, stack + sizeof stack,
                       CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_IO, NULL);
    guest_check(thread > 0);
    pid_t one = tree_clone("child", CLONE_IO | SIGCHLD, child);
    pid_t two = tree_clone("executed", CLONE_IO | SIGCHLD, executed);
    pid_t three = tree_start("apart", apart);
    tree_gather("child", "executed", "grandchild", "apart");

    guest_checkpoint_here();

    guest_check(own_priority() == (2 << 13 | 5));
    tree_await("looked.child");
    tree_await("looked.executed");
    tree_await("looked.grandchild");
    set_priority(7);
    guest_check(syscall(SYS_ioprio_get, 1, thread) == (2 << 13 | 7));
    tree_tell("set");
    tree_finish(one, "child");
    tree_finish(two, "executed");
    tree_finish(three, "apart");
    return 0;
}
