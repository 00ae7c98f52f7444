//# expect: resumes
//# needs: capability sys_admin
//# tasks: 3
//# flavours: alone running killed again twice exec namespace
//# show: namespace kind=user dumpers=true
//# show: namespace kind=user denies_groups=true
/* Two tasks of a tree in a user namespace of their own, and in a UTS namespace of that. */
#include "users.h"

static void below(void)
{
    tree_checkpoint_here();
    users_check("ckpt-apart");
}

static void apart(void)
{
    users_unshare(CLONE_NEWUTS);
    guest_check(sethostname("ckpt-apart", 10) == 0);
    pid_t child = tree_start("below", below);
    tree_checkpoint_here();
    tree_finish(child, "below");
    users_check("ckpt-apart");
}

int main(void)
{
    char name[65] = {0};
    pid_t child = tree_start("apart", apart);
    tree_gather("apart", "below");
    guest_checkpoint_here();
    tree_finish(child, "apart");
    guest_check(gethostname(name, sizeof name - 1) == 0 && strcmp(name, "ckpt-apart"));
    return 0;
}
