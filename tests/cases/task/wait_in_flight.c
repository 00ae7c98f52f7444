//# expect: resumes
//# tasks: 7
/* Parents that wait for children at the moment of the checkpoint, in all ways that the kernel has: they learn of the end
 * of the child, once, and of nothing else. */
#include "../tree.h"
#include <sys/resource.h>

static void child(void)
{
    tree_checkpoint_here();
    tree_event_of(tree_tell, "done", guest_member);
    _exit(5);
}

static void waits_for_one(void)
{
    int status;
    struct rusage usage;
    pid_t of = tree_start("child of one", child);
    tree_in_place();
    guest_check(wait4(of, &status, 0, &usage) == of && WIFEXITED(status) && WEXITSTATUS(status) == 5);
    tree_wait();
}

static void waits_for_any(void)
{
    int status;
    pid_t of = tree_start("child of any", child);
    tree_in_place();
    guest_check(wait(&status) == of && WIFEXITED(status) && WEXITSTATUS(status) == 5);
    guest_check(wait(&status) == -1 && errno == ECHILD);
    tree_wait();
}

static void waits_by_id(void)
{
    siginfo_t info = {0};
    pid_t of = tree_start("child by id", child);
    tree_in_place();
    guest_check(waitid(P_PGID, getpgrp(), &info, WEXITED | WSTOPPED) == 0);
    guest_check(info.si_pid == of && info.si_code == CLD_EXITED && info.si_status == 5);
    tree_wait();
}

int main(void)
{
    pid_t one = tree_start("one", waits_for_one), two = tree_start("any", waits_for_any);
    pid_t three = tree_start("by id", waits_by_id);
    tree_gather("one", "any", "by id", "child of one", "child of any", "child by id");
    tree_await_call(one, SYS_wait4);
    tree_await_call(two, SYS_wait4);
    tree_await_call(three, SYS_waitid);

    guest_checkpoint_here();

    tree_finish(one, "one");
    tree_finish(two, "any");
    tree_finish(three, "by id");
    tree_all_done("child of one", "child of any", "child by id");
    return 0;
}
