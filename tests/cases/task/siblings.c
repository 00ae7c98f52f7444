//# expect: resumes
//# tasks: 6
/* Children that a sibling made with CLONE_PARENT: they have its exit signal, and its memory until they change it. */
#include "../tree.h"

static int generation;

static void made(void)
{
    pid_t parent = getppid();
    generation += 100;
    tree_checkpoint_here();
    guest_check(getppid() == parent && generation == (parent == tree_root ? 102 : 103), "%d", generation);
}

static void maker(void)
{
    generation += 2;
    tree_clone("sibling", CLONE_PARENT | SIGCHLD, made);
    tree_checkpoint_here();
    guest_check(generation == 2);
    guest_check(waitpid(-1, NULL, __WALL) == -1 && errno == ECHILD, "its sibling is no child of its");
}

static void inner(void)
{
    generation += 2;
    tree_clone("inner sibling", CLONE_PARENT | SIGCHLD, made);
    tree_checkpoint_here();
}

static void middle(void)
{
    generation++;
    inner();
}

static void top(void)
{
    pid_t child = tree_clone("inner", SIGUSR2, middle);
    signal(SIGUSR2, SIG_IGN);
    tree_in_place();
    tree_wait();
    int status;
    for (int i = 0; i < 2; i++)
        guest_check(waitpid(-1, &status, __WALL) > 0 && status == 0);
    guest_check(child > 0);
}

int main(void)
{
    pid_t a = tree_start("maker", maker), b = tree_start("top", top);
    int status;
    tree_gather("maker", "top", "inner", "inner sibling", "sibling");

    guest_checkpoint_here();

    guest_check(generation == 0);
    tree_await("done.sibling");
    tree_finish(a, "maker");
    tree_finish(b, "top");
    guest_check(waitpid(-1, &status, 0) > 0 && status == 0);
    return 0;
}
