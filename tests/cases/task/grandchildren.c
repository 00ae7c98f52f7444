//# expect: resumes
//# tasks: 7
/* Four generations, forked and executed in turns; each waits for its own children alone. */
#include "../tree.h"

static void leaf(void)
{
    pid_t parent = getppid();
    tree_checkpoint_here();
    guest_check(getppid() == parent);
}

static void third(void)
{
    pid_t child = tree_start("fourth", leaf);
    tree_checkpoint_here();
    tree_finish(child, "fourth");
    guest_check(waitpid(-1, NULL, 0) == -1 && errno == ECHILD);
}

static void second(void)
{
    pid_t child = tree_start("third", third), executed = tree_start_exec("executed");
    tree_checkpoint_here();
    tree_finish(executed, "executed");
    tree_finish(child, "third");
    guest_check(waitpid(-1, NULL, 0) == -1 && errno == ECHILD);
}

int main(void)
{
    if (tree_is("executed")) {
        pid_t child = tree_start("below", leaf);
        tree_checkpoint_here();
        tree_finish(child, "below");
        tree_done();
    }
    pid_t child = tree_start("second", second), other = tree_start("other", leaf);
    tree_gather("second", "other", "executed", "third", "fourth", "below");

    guest_checkpoint_here();

    tree_finish(child, "second");
    tree_finish(other, "other");
    guest_check(waitpid(-1, NULL, 0) == -1 && errno == ECHILD);
    return 0;
}
