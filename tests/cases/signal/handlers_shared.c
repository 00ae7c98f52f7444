//# expect: resumes
//# tasks: 2
/* Two processes with the same memory and the same signal handlers (CLONE_VM, CLONE_SIGHAND): a disposition that one changes
 * is changed in the other. The other uses plain system calls alone: it has no thread-local storage of its own. */
#include "../tree.h"

static atomic_int go, seen, second;
static atomic_int told;
static char stack[65536] __attribute__((aligned(64)));

static void raw_sleep(void)
{
    struct timespec pause = {0, 1000000};
    syscall(SYS_nanosleep, &pause, NULL);
}

static void before(int signal)
{
    told += 1;
}

static void after(int signal)
{
    told += 100;
}

static int sharer(void *unused)
{
    atomic_store(&seen, 1);
    while (!atomic_load(&go))
        raw_sleep();
    syscall(SYS_kill, (pid_t)syscall(SYS_getpid), SIGUSR1);
    atomic_store(&seen, 2);
    while (!atomic_load(&second))
        raw_sleep();
    syscall(SYS_kill, (pid_t)syscall(SYS_getpid), SIGUSR2);
    syscall(SYS_exit_group, 7);
    return 0;
}

int main(void)
{
    int status;
    signal(SIGUSR1, before);
    signal(SIGUSR2, before);
    pid_t child = clone(sharer, stack + sizeof stack, CLONE_VM | CLONE_SIGHAND | SIGCHLD, NULL);
    guest_check(child > 0);
    while (!atomic_load(&seen))
        raw_sleep();

    guest_checkpoint_here();

    guest_check(seen == 1 && told == 0);
    signal(SIGUSR1, after);
    atomic_store(&go, 1);
    while (atomic_load(&seen) != 2)
        raw_sleep();
    guest_check(told == 100, "%d", told);
    atomic_store(&second, 1);
    guest_check(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 7, "%x", status);
    guest_check(told == 101, "%d", told);
    return 0;
}
