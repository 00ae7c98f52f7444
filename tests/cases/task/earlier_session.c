//# expect: resumes
//# flavours: alone running killed again exec
//# tasks: 7
/* Children that were forked before their parent made a session of its own, and others after that, in two generations:
 * the grandchild is in the session that its grandfather left. */
#include "../tree.h"

static void stay(void)
{
    pid_t group = getpgrp(), session = getsid(0), parent = getppid();
    tree_checkpoint_here();
    guest_check(getpgrp() == group && getsid(0) == session && getppid() == parent);
}

static void leave_late(void)
{
    pid_t earlier = tree_start("earlier grandchild", stay);
    tree_await("place.earlier grandchild");
    guest_check(setsid() == getpid());
    pid_t later = tree_start("later grandchild", stay);
    tree_checkpoint_here();
    guest_check(getsid(earlier) == getsid(tree_root) && getsid(later) == getpid() && getsid(0) == getpid());
    tree_finish(earlier, "earlier grandchild");
    tree_finish(later, "later grandchild");
}

static void leave(void)
{
    pid_t earlier = tree_start("earlier", leave_late);
    tree_await("place.earlier");
    guest_check(setsid() == getpid());
    pid_t later = tree_start("later", stay);
    tree_checkpoint_here();
    guest_check(getsid(earlier) == earlier && getsid(later) == getpid() && getsid(0) == getpid());
    tree_finish(earlier, "earlier");
    tree_finish(later, "later");
}

int main(void)
{
    if (tree_is("executed")) {
        stay();
        tree_done();
    }
    pid_t child = tree_start("leaver", leave), executed = tree_start_exec("executed");
    tree_gather("leaver", "earlier", "later", "earlier grandchild", "later grandchild", "executed");

    guest_checkpoint_here();

    tree_finish(child, "leaver");
    tree_finish(executed, "executed");
    return 0;
}
