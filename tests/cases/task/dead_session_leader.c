//# expect: resumes
//# tasks: 5
//# show: task child_subreaper=true
/* A session and two groups whose leaders are dead. Their members came to the root, which is a subreaper. */
#include "../tree.h"

static pid_t dead_leader, dead_group;

static void member(void)
{
    pid_t group = getpgrp(), session = getsid(0);
    while (getppid() != tree_root)
        usleep(1000);
    tree_checkpoint_here();
    guest_check(getpgrp() == group && getsid(0) == session && getppid() == tree_root);
    guest_check(kill(session, 0) == -1 && errno == ESRCH, "the leader lives");
    if (group == session) {
        tree_await("done.c");
        tree_await("done.d");
    } else {
        guest_check(setpgid(0, session) == 0, "the dead leader's group is there");
    }
}

static void other_group(void)
{
    guest_check(setpgid(0, 0) == 0);
    tree_start("c", member);
    tree_start("d", member);
    tree_tell("the group stands");
    _exit(0);
}

static void leader(void)
{
    guest_check(setsid() == getpid());
    tree_start("a", member);
    tree_start("b", member);
    pid_t group = tree_start("other group", other_group);
    tree_await("the group stands");
    char text[32];
    snprintf(text, sizeof text, "%d", (int)group);
    guest_write_file("group", text);
    _exit(0);
}

static pid_t read_group(void)
{
    FILE *file = fopen(guest_path("group"), "r");
    int pid = 0;
    guest_check(file && fscanf(file, "%d", &pid) == 1 && fclose(file) == 0);
    return pid;
}

int main(void)
{
    guest_check(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
    dead_leader = tree_start("leader", leader);
    int status;
    guest_check(waitpid(dead_leader, &status, 0) == dead_leader && status == 0);
    dead_group = read_group();
    guest_check(waitpid(dead_group, &status, 0) == dead_group && status == 0);
    tree_gather("a", "b", "c", "d");

    guest_checkpoint_here();

    guest_check(kill(dead_leader, 0) == -1 && errno == ESRCH && kill(dead_group, 0) == -1 && errno == ESRCH);
    for (int i = 0; i < 4; i++)
        guest_check(waitpid(-1, &status, 0) > 0 && status == 0, "%x", status);
    guest_check(waitpid(-1, &status, 0) == -1 && errno == ECHILD);
    tree_all_done("a", "b", "c", "d");
    return 0;
}
