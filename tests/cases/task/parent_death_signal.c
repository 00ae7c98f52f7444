//# expect: resumes
//# tasks: 5
/* A signal that a child gets when its parent ends: not from the checkpoint, once from that end, and none where none was
 * asked for. */
#include "../tree.h"

static volatile sig_atomic_t told;

static void on_signal(int signal)
{
    told++;
}

static void child(void)
{
    pid_t parent = getppid();
    int asked = tree_is("asks") ? SIGUSR1 : 0, found = -1;
    signal(SIGUSR1, on_signal);
    guest_check(prctl(PR_SET_PDEATHSIG, asked) == 0);
    tree_checkpoint_here();
    guest_check(told == 0 && getppid() == parent);
    guest_check(prctl(PR_GET_PDEATHSIG, &found) == 0 && found == asked);
    tree_event_of(tree_tell, "checked", guest_member);
    while (getppid() == parent)
        usleep(1000);
    usleep(10000);
    guest_check(told == (asked != 0), "%d", told);
}

static void parent(void)
{
    tree_start(tree_is("parent of asks") ? "asks" : "asks not", child);
    tree_checkpoint_here();
    tree_await("checked.asks");
    tree_await("checked.asks not");
}

int main(void)
{
    pid_t one = tree_start("parent of asks", parent), two = tree_start("parent of other", parent);
    tree_gather("parent of asks", "parent of other", "asks", "asks not");

    guest_checkpoint_here();

    tree_finish(one, "parent of asks");
    tree_finish(two, "parent of other");
    tree_all_done("asks", "asks not");
    return 0;
}
