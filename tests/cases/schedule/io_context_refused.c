//# expect: refused "has the I/O context of a thread that is neither its main thread nor its parent's"
//# tasks: 3
/* Two children that have an I/O context in common, and not with their parent: that of who made them, who is gone. */
#include "../tree.h"

static void sleeps(void)
{
    tree_checkpoint_here();
}

static void between(void)
{
    guest_check(syscall(SYS_ioprio_set, 1, 0, 2 << 13 | 6) == 0);
    tree_clone("one", CLONE_IO | CLONE_PARENT | SIGCHLD, sleeps);
    tree_clone("two", CLONE_IO | CLONE_PARENT | SIGCHLD, sleeps);
    _exit(0);
}

int main(void)
{
    pid_t first = tree_start("between", between);
    tree_gather("one", "two");
    guest_check(waitpid(first, NULL, 0) == first);

    guest_checkpoint_here();

    for (int i = 0; i < 2; i++) {
        int status;
        guest_check(wait(&status) > 0 && status == 0);
    }
    tree_all_done("one", "two");
    return 0;
}
