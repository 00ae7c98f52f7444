//# expect: refused "it has come into a pid namespace in another way than by fork"
//# tasks: 4
//# needs: capability sys_admin
/* A task that was made in a pid namespace by one that entered it with setns(2), as nsenter(1) does. */
#include "../tree.h"

static void lives(void)
{
    tree_inside();
    guest_check(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0);
    tree_in_place();
    for (;;)
        pause();
}

static void enters(void)
{
    char path[64];
    guest_check(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0);
    snprintf(path, sizeof path, "/proc/%s/ns/pid", getenv("INIT"));
    int namespace = open(path, O_RDONLY | O_CLOEXEC);
    guest_check(namespace >= 0 && setns(namespace, CLONE_NEWPID) == 0 && close(namespace) == 0);
    tree_start("guest", lives);
    for (;;)
        pause();
}

int main(void)
{
    char init[16];
    snprintf(init, sizeof init, "%d", (int)tree_clone("init", CLONE_NEWPID | SIGCHLD, lives));
    guest_check(setenv("INIT", init, 1) == 0);
    tree_start("enters", enters);
    tree_await("place.init");
    tree_await("place.guest");
    guest_checkpoint_here();
    guest_check(kill(tree_root, 0) == 0);
    return 0;
}
