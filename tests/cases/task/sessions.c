//# expect: resumes
//# tasks: 6
/* Sessions and groups of their own below the root: leaders with members, and groups inside of a session. */
#include "../tree.h"

static pid_t leader; /* of the session that a member is in */

static void member(void)
{
    pid_t group = getpgrp(), session = getsid(0);
    guest_check(session == leader);
    tree_checkpoint_here();
    guest_check(getpgrp() == group && getsid(0) == session);
}

static void group_leader(void)
{
    guest_check(setpgid(0, 0) == 0);
    pid_t child = tree_start("in group", member);
    tree_checkpoint_here();
    guest_check(getpgrp() == getpid() && getsid(0) == leader);
    guest_check(getpgid(child) == getpid() && getsid(child) == leader);
    tree_finish(child, "in group");
}

static void session_leader(void)
{
    guest_check(setsid() == getpid());
    leader = getpid();
    pid_t one = tree_start("in session", member), two = tree_start("group leader", group_leader);
    tree_checkpoint_here();
    guest_check(getsid(0) == getpid() && getpgrp() == getpid());
    guest_check(setsid() == -1 && errno == EPERM);
    guest_check(setpgid(two, 0) == 0, "it leads its group already");
    tree_finish(one, "in session");
    tree_finish(two, "group leader");
}

int main(void)
{
    if (tree_is("executed")) {
        guest_check(setsid() == getpid());
        tree_checkpoint_here();
        guest_check(getsid(0) == getpid() && getpgrp() == getpid());
        tree_done();
    }
    pid_t child = tree_start("session leader", session_leader), executed = tree_start_exec("executed");
    tree_gather("session leader", "in session", "group leader", "in group", "executed");

    guest_checkpoint_here();

    guest_check(getsid(child) == child && getsid(0) != child && getpgrp() == getpid());
    guest_check(setpgid(child, getpid()) == -1 && errno == EPERM, "it is a session leader");
    tree_finish(child, "session leader");
    tree_finish(executed, "executed");
    return 0;
}
