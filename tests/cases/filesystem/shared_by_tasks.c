//# expect: resumes
//# tasks: 4
/* Working directory and umask that two tasks share (CLONE_FS), and such that a fork has copied. */
#include "../tree.h"

static void expect_at(const char *name)
{
    char place[PATH_MAX];
    guest_check(getcwd(place, sizeof place) && strcmp(place, *name ? guest_path(name) : guest_home) == 0, "%s", place);
}

static void sharer(void)
{
    tree_checkpoint_here();
    expect_at("one");
    guest_check(chdir("../two") == 0 && umask(0151) == 0137);
    tree_tell("moved");
}

static void owner(void)
{
    guest_check(chdir("one") == 0);
    pid_t child = tree_clone("sharer", CLONE_FS | SIGCHLD, sharer);
    umask(0137);
    tree_checkpoint_here();
    tree_await("moved");
    expect_at("two");
    guest_check(umask(0) == 0151);
    tree_finish(child, "sharer");
}

static void forked(void)
{
    tree_checkpoint_here();
    tree_await("moved");
    expect_at("");
    guest_check(umask(0) == 022);
}

int main(void)
{
    umask(022);
    guest_check(mkdir("one", 0777) == 0 && mkdir("two", 0777) == 0);
    pid_t one = tree_start("owner", owner), two = tree_start("forked", forked);
    tree_gather("owner", "sharer", "forked");

    guest_checkpoint_here();

    tree_finish(one, "owner");
    tree_finish(two, "forked");
    return 0;
}
