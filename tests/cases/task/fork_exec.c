//# expect: resumes
//# tasks: 4
/* Children that have called execve since their fork, a parent that has not, and a child of that: whom setpgid() refuses. */
#include "../tree.h"

static pid_t execed;

static void forked(void)
{
    execed = tree_start_exec("grandchild");
    tree_checkpoint_here();
    guest_check(tree_stat(getpid(), 9) & 0x40);
    guest_check(setpgid(execed, execed) == -1 && errno == EACCES);
    tree_tell("asked");
    tree_finish(execed, "grandchild");
}

static void program(const char *until)
{
    pid_t parent = getppid();
    tree_checkpoint_here();
    guest_check(getppid() == parent);
    guest_check(!(tree_stat(getpid(), 9) & 0x40));
    tree_await(until);
    tree_done();
}

int main(int argc, char **argv)
{
    if (tree_is("grandchild"))
        program("asked");
    if (tree_is("child"))
        program("asked by root");
    guest_check(argc == 1 && tree_is(""));
    pid_t one = tree_start("forked", forked), two = tree_start_exec("child");
    tree_gather("forked", "child", "grandchild");

    guest_checkpoint_here();

    guest_check(setpgid(two, two) == -1 && errno == EACCES);
    guest_check(setpgid(one, one) == 0);
    tree_tell("asked by root");
    tree_finish(one, "forked");
    tree_finish(two, "child");
    return 0;
}
