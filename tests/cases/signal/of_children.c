//# expect: resumes
//# tasks: 4
/* Pending signals of a parent that say which child ended or stopped, with all that they say, and a SIGCHLD that is ignored:
 * then no zombie stays. */
#include "../tree.h"

static void ends(void)
{
    _exit(9);
}

static void member(void)
{
    tree_checkpoint_here();
    tree_await("looked");
    tree_event_of(tree_tell, "done", guest_member);
    _exit(0);
}

static void ignores(void)
{
    signal(SIGCHLD, SIG_IGN);
    pid_t child = tree_start("reaped", member);
    tree_in_place();
    tree_wait();
    tree_await("looked");
    int status;
    guest_check(waitpid(child, &status, 0) == -1 && errno == ECHILD);
}

int main(void)
{
    sigset_t set;
    siginfo_t info;
    struct timespec at_once = {0, 0};
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    guest_check(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
    pid_t other = tree_start("ignores", ignores);
    tree_gather("ignores", "reaped");
    pid_t child = tree_start("ends", ends);
    guest_check(waitid(P_PID, child, &info, WEXITED | WNOWAIT) == 0);

    guest_checkpoint_here();

    memset(&info, 0, sizeof info);
    guest_check(sigtimedwait(&set, &info, &at_once) == SIGCHLD);
    guest_check(info.si_pid == child && info.si_code == CLD_EXITED && info.si_status == 9 && info.si_uid == getuid(), "%d %d %d",
                info.si_pid, info.si_code, info.si_status);
    guest_check(sigtimedwait(&set, &info, &at_once) == -1 && errno == EAGAIN);
    int status;
    guest_check(waitpid(child, &status, WNOHANG) == child && WEXITSTATUS(status) == 9);
    tree_tell("looked");
    tree_finish(other, "ignores");
    tree_all_done("reaped");
    return 0;
}
