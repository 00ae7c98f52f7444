//# expect: resumes
//# tasks: 5
//# show: task exit_signal=10
//# show: task exit_signal=0
/* Children that tell of their end by another signal than SIGCHLD, or by none; one of them has become an ordinary one by
 * execve. */
#include "../tree.h"

static atomic_int users, children;

static void on_signal(int signal)
{
    (*(signal == SIGUSR1 ? &users : &children))++;
}

static void member(void)
{
    tree_checkpoint_here();
}

static void executes(void)
{
    tree_exec("executed");
}

int main(void)
{
    if (tree_is("executed")) {
        tree_checkpoint_here();
        tree_done();
    }
    signal(SIGUSR1, on_signal);
    signal(SIGCHLD, on_signal);
    pid_t user = tree_clone("user", SIGUSR1, member), silent = tree_clone("silent", 0, member);
    pid_t ordinary = tree_start("ordinary", member), executed = tree_clone("-", SIGUSR1, executes);
    tree_gather("user", "silent", "ordinary", "executed");
    guest_check(tree_stat(user, 38) == SIGUSR1 && tree_stat(silent, 38) == 0 && tree_stat(executed, 38) == SIGCHLD);

    guest_checkpoint_here();

    int status;
    guest_check(waitpid(user, &status, WNOHANG) == -1 && errno == ECHILD, "only __WCLONE finds it");
    guest_check(waitpid(silent, &status, WNOHANG | __WCLONE) >= 0);
    tree_finish(ordinary, "ordinary");
    tree_finish(executed, "executed");
    guest_check(children == 2 || children == 1, "%d", children);
    tree_await("done.silent");
    tree_finish(user, "user");
    guest_check(users == 1, "%d", users);
    return 0;
}
