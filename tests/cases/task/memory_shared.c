//# expect: resumes
//# tasks: 5
/* Processes that share their memory (CLONE_VM without CLONE_THREAD): one that runs in the memory of the
 * root, with signal handlers of its own, one in that of a child, and one in that of a sibling (CLONE_PARENT). They have no thread-local storage of their own, so they use
 * nothing of the C library but plain system calls. */
#include "../tree.h"

static atomic_int go, seen[5];
static volatile sig_atomic_t handled[5];
static char stacks[4][65536] __attribute__((aligned(64)));
static pid_t pids[5], *common;

static void raw_sleep(void)
{
    struct timespec pause = {0, 1000000};
    syscall(SYS_nanosleep, &pause, NULL);
}

static void on_signal(int signal)
{
    pid_t own = (pid_t)syscall(SYS_getpid);
    for (int i = 0; i < 5; i++)
        if (pids[i] == own)
            handled[i]++;
}

static void ignore(int signal)
{
}

static int sharer(void *number)
{
    int own = (int)(long)number;
    pids[own] = (pid_t)syscall(SYS_getpid);
    atomic_store(&seen[own], 1);
    while (!atomic_load(&go))
        raw_sleep();
    syscall(SYS_kill, pids[own], SIGUSR1);
    atomic_store(&seen[own], 2);
    syscall(SYS_exit_group, 10 + own);
    return 0;
}

static pid_t start(int number, unsigned long flags)
{
    char *top = stacks[number - 1] + sizeof stacks[0];
    pid_t child = clone(sharer, top, CLONE_VM | SIGCHLD | flags, (void *)(long)number);
    guest_check(child > 0);
    while (!atomic_load(&seen[number]))
        raw_sleep();
    return child;
}

static void parent(void)
{
    pid_t child = start(3, 0), sibling = start(4, CLONE_PARENT);
    int status;
    *common = sibling;
    tree_checkpoint_here();
    guest_check(seen[3] == 1 && seen[4] == 1 && seen[1] == 0 && pids[4] == sibling);
    atomic_store(&go, 1);
    guest_check(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 13);
    guest_check(seen[3] == 2);
    while (seen[4] != 2)
        raw_sleep();
}

int main(void)
{
    int status;
    struct sigaction action = {.sa_handler = on_signal};
    guest_check(sigaction(SIGUSR1, &action, NULL) == 0);
    common = guest_map(1, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS);
    pid_t forked = tree_start("parent", parent);
    tree_gather("parent");
    pids[0] = getpid();
    pid_t two = start(2, 0), sibling = *common;

    guest_checkpoint_here();

    guest_check(seen[2] == 1 && pids[2] == two && getpid() == pids[0]);
    /* Its own handlers are as they were. */
    action.sa_handler = ignore;
    guest_check(sigaction(SIGUSR1, &action, NULL) == 0);
    atomic_store(&go, 1);
    guest_check(waitpid(two, &status, 0) == two && WIFEXITED(status) && WEXITSTATUS(status) == 12, "%x", status);
    guest_check(seen[2] == 2 && handled[2] == 1 && handled[0] == 0, "%d", (int)handled[2]);
    guest_check(waitpid(sibling, &status, 0) == sibling && WEXITSTATUS(status) == 14, "%x", status);
    tree_finish(forked, "parent");
    return 0;
}
