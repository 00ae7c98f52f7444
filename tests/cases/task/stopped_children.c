//# expect: resumes
//# tasks: 5
//# show: task state=stopped stop_signal=19
/* Stopped children: the parent has heard of it and does not hear it twice; of one it has not asked yet. */
#include "../tree.h"

static atomic_int told;

static void on_child(int signal)
{
    told++;
}

static void member(void)
{
    tree_checkpoint_here();
    tree_await("asked");
}

int main(void)
{
    int status;
    signal(SIGCHLD, on_child);
    if (tree_is("executed")) {
        member();
        tree_done();
    }
    pid_t known = tree_start("known", member), unknown = tree_start("unknown", member);
    pid_t executed = tree_start_exec("executed"), by_terminal = tree_start("by terminal", member);
    tree_gather("known", "unknown", "executed", "by terminal");
    guest_check(kill(known, SIGSTOP) == 0 && waitpid(known, &status, WUNTRACED) == known && WIFSTOPPED(status));
    guest_check(kill(executed, SIGSTOP) == 0 && waitpid(executed, &status, WUNTRACED) == executed);
    guest_check(kill(by_terminal, SIGSTOP) == 0 && waitpid(by_terminal, &status, WUNTRACED) == by_terminal);
    guest_check(kill(unknown, SIGSTOP) == 0);
    tree_await_state(unknown, 'T');
    usleep(10000);
    told = 0;

    guest_checkpoint_here();

    guest_check(told == 0, "%d", told);
    guest_check(waitpid(known, &status, WUNTRACED | WCONTINUED | WNOHANG) == 0, "its stop is told twice");
    guest_check(waitpid(executed, &status, WUNTRACED | WCONTINUED | WNOHANG) == 0, "its stop is told twice");
    guest_check(waitpid(unknown, &status, WUNTRACED | WNOHANG) == unknown && WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP,
                "its stop is not told");
    guest_check(tree_state(known) == 'T' && tree_state(unknown) == 'T' && tree_state(executed) == 'T');
    guest_check(kill(known, SIGCONT) == 0 && waitpid(known, &status, WCONTINUED) == known && WIFCONTINUED(status));
    guest_check(kill(unknown, SIGCONT) == 0 && kill(executed, SIGCONT) == 0 && kill(by_terminal, SIGCONT) == 0);
    tree_tell("asked");
    tree_finish(known, "known");
    tree_finish(unknown, "unknown");
    tree_finish(executed, "executed");
    tree_finish(by_terminal, "by terminal");
    return 0;
}
