//# expect: resumes
//# tasks: 8
/* Process groups whose leader has ended, is a zombie, or has moved to another group; and the root in a group that a child
 * leads. */
#include "../tree.h"

static void follow(pid_t group)
{
    guest_check(setpgid(0, group) == 0);
    tree_checkpoint_here();
    guest_check(getpgrp() == group);
}

static pid_t dead, zombie, moved, led;

static void follows_dead(void)
{
    follow(dead);
}

static void follows_zombie(void)
{
    follow(zombie);
}

static void follows_moved(void)
{
    follow(moved);
}

static void leads_and_ends(void)
{
    guest_check(setpgid(0, 0) == 0);
    tree_in_place();
    char event[64];
    snprintf(event, sizeof event, "end.%s", guest_member);
    tree_await(event);
    _exit(4);
}

static void leads_and_moves(void)
{
    guest_check(setpgid(0, 0) == 0);
    tree_tell("moved leads");
    tree_await("move");
    guest_check(setpgid(0, tree_root) == 0);
    tree_checkpoint_here();
    guest_check(getpgrp() == tree_root && getpgrp() != getpid());
}

static void leads(void)
{
    guest_check(setpgid(0, 0) == 0);
    tree_checkpoint_here();
    guest_check(getpgrp() == getpid() && getpgid(tree_root) == getpid());
}

static void stays(void)
{
    tree_checkpoint_here();
    guest_check(getpgrp() == tree_root && getpgid(tree_root) != tree_root);
}

int main(void)
{
    int status;
    dead = tree_start("dead", leads_and_ends);
    zombie = tree_start("zombie", leads_and_ends);
    moved = tree_start("moved", leads_and_moves);
    led = tree_start("leads", leads);
    pid_t stayed = tree_start("stays", stays);
    tree_gather("dead", "zombie", "leads", "stays");
    tree_await("moved leads");
    pid_t a = tree_start("a", follows_dead), b = tree_start("b", follows_zombie), c = tree_start("c", follows_moved);
    tree_gather("a", "b", "c");
    tree_tell("move");
    tree_tell("end.dead");
    tree_tell("end.zombie");
    guest_check(waitpid(dead, &status, 0) == dead && WEXITSTATUS(status) == 4);
    siginfo_t info;
    guest_check(waitid(P_PID, zombie, &info, WEXITED | WNOWAIT) == 0);
    tree_gather("moved");
    guest_check(setpgid(0, led) == 0);

    guest_checkpoint_here();

    guest_check(getpgrp() == led);
    guest_check(getpgid(zombie) == zombie);
    guest_check(waitpid(zombie, &status, 0) == zombie && WIFEXITED(status) && WEXITSTATUS(status) == 4);
    tree_finish(a, "a");
    tree_finish(b, "b");
    tree_finish(c, "c");
    tree_finish(moved, "moved");
    tree_finish(led, "leads");
    tree_finish(stayed, "stays");
    guest_check(setpgid(0, 0) == 0 && getpgrp() == getpid());
    return 0;
}
