//# expect: resumes
//# tasks: 5
/* Tasks whose parent has ended, and which came to the nearest subreaper: one that had executed a program, and one that had
 * not. One more subreaper is none any longer, but has its orphan still. */
#include "../tree.h"

static void orphan(void)
{
    pid_t parent = getppid();
    tree_tell(guest_member);
    while (getppid() == parent)
        usleep(1000);
    parent = getppid();
    tree_checkpoint_here();
    guest_check(getppid() == parent && parent != 1);
    guest_check(!!(tree_stat(getpid(), 9) & 0x40) == tree_is("forked orphan"));
}

static void forks_and_ends(void)
{
    tree_start("forked orphan", orphan);
    tree_await("forked orphan");
    _exit(0);
}

static void executes_and_ends(void)
{
    tree_start_exec("executed orphan");
    tree_await("executed orphan");
    _exit(0);
}

static void reaper(void)
{
    int status;
    guest_check(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
    void (*between)(void) = tree_is("reaper") ? forks_and_ends : executes_and_ends;
    pid_t child = tree_start("between", between);
    guest_check(waitpid(child, &status, 0) == child && status == 0);
    int is = tree_is("reaper");
    guest_check(prctl(PR_SET_CHILD_SUBREAPER, is) == 0);
    tree_checkpoint_here();
    int found = -1;
    guest_check(prctl(PR_GET_CHILD_SUBREAPER, &found) == 0 && found == is);
    child = waitpid(-1, &status, 0);
    guest_check(child > 0 && status == 0);
    guest_check(waitpid(-1, &status, 0) == -1 && errno == ECHILD);
}

int main(void)
{
    if (tree_is("executed orphan")) {
        orphan();
        tree_done();
    }
    pid_t a = tree_start("reaper", reaper), b = tree_start("was reaper", reaper);
    tree_gather("reaper", "was reaper", "forked orphan", "executed orphan");

    guest_checkpoint_here();

    tree_finish(a, "reaper");
    tree_finish(b, "was reaper");
    tree_all_done("forked orphan", "executed orphan");
    return 0;
}
