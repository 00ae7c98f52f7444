//# expect: resumes
//# tasks: 9
//# show: task state=zombie wait_status=768
//# show: task state=zombie wait_status=15
/* Children that have ended and were not waited for: by exit, by signals, after execve, as leaders of sessions and groups,
 * and below a child. No parent hears of it a second time. */
#include "../tree.h"

static atomic_int told;
static siginfo_t last;

static void on_child(int signal, siginfo_t *info, void *context)
{
    told++;
    last = *info;
}

static pid_t ended_by(int (*deed)(void))
{
    pid_t child = fork();
    guest_check(child >= 0);
    if (child == 0)
        _exit(deed());
    siginfo_t info;
    guest_check(waitid(P_PID, child, &info, WEXITED | WNOWAIT) == 0);
    return child;
}

static int exits(void)
{
    return 3;
}

static int is_terminated(void)
{
    raise(SIGTERM);
    return 0;
}

static int is_killed(void)
{
    raise(SIGKILL);
    return 0;
}

static int is_killed_by_real_time(void)
{
    raise(SIGRTMIN + 2);
    return 0;
}

static int leads_session(void)
{
    setsid();
    return 255;
}

static int executes(void)
{
    execl("/bin/false", "false", NULL);
    return 99;
}

static int status_of(pid_t child)
{
    int status = -1;
    siginfo_t info = {0};
    guest_check(waitid(P_PID, child, &info, WEXITED | WNOWAIT | WNOHANG) == 0 && info.si_pid == child);
    guest_check(info.si_code == (info.si_status && info.si_status < 50 && info.si_status != 3 && info.si_status != 1 ? CLD_KILLED : CLD_EXITED),
                "%d %d", info.si_code, info.si_status);
    guest_check(waitpid(child, &status, WNOHANG) == child);
    return status;
}

static void member(void)
{
    pid_t child = ended_by(exits);
    told = 0;
    tree_checkpoint_here();
    guest_check(told == 0, "%d: of %d, code %d", told, last.si_pid, last.si_code);
    guest_check(status_of(child) == 0x300);
    tree_await("looked");
}

int main(void)
{
    struct sigaction action = {.sa_sigaction = on_child, .sa_flags = SA_SIGINFO | SA_RESTART};
    guest_check(sigaction(SIGCHLD, &action, NULL) == 0);
    int (*deeds[])(void) = {exits, is_terminated, is_killed, is_killed_by_real_time, leads_session, executes};
    int statuses[] = {0x300, SIGTERM, SIGKILL, SIGRTMIN + 2, 0xff00, 0x100};
    pid_t children[6];
    for (int i = 0; i < 6; i++)
        children[i] = ended_by(deeds[i]);
    pid_t parent = tree_start("parent", member);
    tree_gather("parent");
    told = 0;

    guest_checkpoint_here();

    guest_check(told == 0, "%d: of %d, code %d", told, last.si_pid, last.si_code);
    tree_tell("looked");
    guest_check(getsid(children[4]) == children[4] && getpgid(children[4]) == children[4]);
    guest_check(setpgid(children[5], children[5]) == -1 && errno == EACCES);
    guest_check(setpgid(children[0], children[0]) == 0);
    for (int i = 0; i < 6; i++) {
        int status = status_of(children[i]);
        guest_check(status == statuses[i], "%d: %x", i, status);
    }
    tree_finish(parent, "parent");
    return 0;
}
