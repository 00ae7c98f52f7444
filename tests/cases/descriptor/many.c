//# expect: resumes
//# tasks: 2
//# resume-descriptors: 330
/* Two tables of two hundred descriptors each, the same at other numbers: a circle of all, many pairs that have changed places,
 * some that stay. Under the limit there is no room for them all above their numbers. */
#include "../tree.h"
#include <sys/eventfd.h>
#include <sys/resource.h>

enum { COUNT = 200, FIRST = 20 };

/* Which event descriptor stands at a number of the child. */
static int moved(int i)
{
    if (i < COUNT / 2)
        return (i + 1) % (COUNT / 2);
    return i < COUNT / 2 + 20 ? i : i ^ 1;
}

static int same(int i)
{
    return i;
}

static void expect_all(int (*which)(int))
{
    for (int i = 0; i < COUNT; i++) {
        uint64_t value = 0;
        int flags = fcntl(FIRST + i, F_GETFD);
        guest_check(read(FIRST + i, &value, sizeof value) == sizeof value && value == (uint64_t)which(i) + 1,
                    "%d has %lu", i, (unsigned long)value);
        value = (uint64_t)which(i) + 1;
        guest_check(write(FIRST + i, &value, sizeof value) == sizeof value);
        guest_check(flags == (i % 3 ? 0 : FD_CLOEXEC), "%d has flags %d", i, flags);
    }
}

static void child(void)
{
    static int aside[COUNT];
    for (int i = 0; i < COUNT; i++)
        guest_check((aside[i] = fcntl(FIRST + i, F_DUPFD, FIRST + COUNT)) >= 0);
    for (int i = 0; i < COUNT; i++)
        guest_check(dup3(aside[moved(i)], FIRST + i, i % 3 ? 0 : O_CLOEXEC) == FIRST + i);
    for (int i = 0; i < COUNT; i++)
        guest_check(close(aside[i]) == 0);
    struct rlimit low = {250, 330};
    guest_check(setrlimit(RLIMIT_NOFILE, &low) == 0);
    tree_checkpoint_here();
    tree_await("turn of the child");
    expect_all(moved);
}

int main(void)
{
    struct rlimit high = {2 * COUNT + 100, 2 * COUNT + 100}, low = {250, 330};
    if (setrlimit(RLIMIT_NOFILE, &high))
        guest_skip("the limit of open descriptors is too low");
    for (int i = 0; i < COUNT; i++) {
        int fd = eventfd(i + 1, 0);
        guest_check(dup3(fd, FIRST + i, i % 3 ? 0 : O_CLOEXEC) == FIRST + i);
        guest_check(close(fd) == 0);
    }
    pid_t pid = tree_start("child", child);
    guest_check(setrlimit(RLIMIT_NOFILE, &low) == 0);
    tree_gather("child");

    guest_checkpoint_here();

    expect_all(same);
    tree_tell("turn of the child");
    tree_finish(pid, "child");
    return 0;
}
