//# expect: resumes
//# tasks: 4
//# show: task has_execed=false child_subreaper=false
/* Children that have not called execve: their parent may still put them into another process group. What each of them
 * changed of the memory that it was forked with is its own. */
#include "../tree.h"

static int value = 1;

static void member(void)
{
    value = guest_member[0];
    pid_t parent = getppid();
    tree_checkpoint_here();
    guest_check(value == guest_member[0], "%d", value);
    guest_check(getppid() == parent && parent == tree_root);
    guest_check(tree_stat(getpid(), 9) & 0x40, "PF_FORKNOEXEC");
    tree_await("moved");
    guest_check(getpgrp() == getpid());
}

int main(void)
{
    pid_t a = tree_start("a", member), b = tree_start("b", member), c = tree_start("c", member);
    tree_gather("a", "b", "c");

    guest_checkpoint_here();

    guest_check(value == 1);
    guest_check(setpgid(a, a) == 0 && setpgid(b, b) == 0 && setpgid(c, c) == 0);
    tree_tell("moved");
    tree_finish(b, "b");
    tree_finish(a, "a");
    tree_finish(c, "c");
    int status;
    guest_check(waitpid(-1, &status, __WALL) == -1 && errno == ECHILD, "a child too many");
    return 0;
}
