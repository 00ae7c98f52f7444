//# expect: resumes
//# needs: capability sys_admin
//# tasks: 2
//# flavours: alone running killed again twice exec namespace
//# show: namespace kind=time
//# show: namespace kind=cgroup
//# may-differ: timens_offsets the host's clocks have gone on meanwhile
/* A tree in a time and a cgroup namespace of its own: its clocks go on, and those that stand still meanwhile do. */
#include "../tree.h"

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif

static long then_ms, then_real_ms;

static long clock_ms(clockid_t clock)
{
    struct timespec now;
    guest_check(clock_gettime(clock, &now) == 0);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void check(void)
{
    const long slack_ms = 500;
    long passed_ms = clock_ms(CLOCK_MONOTONIC) - then_ms;
    guest_check(passed_ms >= 0 && passed_ms <= clock_ms(CLOCK_REALTIME) - then_real_ms + slack_ms, "%ld ms", passed_ms);
    guest_check(clock_ms(CLOCK_MONOTONIC) > 1000000000l && clock_ms(CLOCK_BOOTTIME) > 2000000000l);
    /* The same by a system call, without the vdso. */
    struct timespec now;
    guest_check(syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now) == 0);
    guest_check(labs(now.tv_sec * 1000 + now.tv_nsec / 1000000 - clock_ms(CLOCK_MONOTONIC)) < 5000);
}

static void member(void)
{
    tree_checkpoint_here();
    check();
}

int main(void)
{
    if (unshare(CLONE_NEWTIME) < 0)
        guest_skip("this kernel has no time namespaces");
    guest_check(unshare(CLONE_NEWCGROUP) == 0);
    int fd = open("/proc/self/timens_offsets", O_WRONLY | O_CLOEXEC);
    guest_check(fd >= 0 && dprintf(fd, "monotonic 1000000 5\nboottime 2000000 0\n") > 0 && close(fd) == 0);
    fd = open("/proc/self/ns/time_for_children", O_RDONLY | O_CLOEXEC);
    guest_check(fd >= 0 && setns(fd, CLONE_NEWTIME) == 0 && close(fd) == 0);
    then_ms = clock_ms(CLOCK_MONOTONIC);
    then_real_ms = clock_ms(CLOCK_REALTIME);
    pid_t child = tree_start("member", member);
    tree_gather("member");
    guest_checkpoint_here();
    check();
    tree_finish(child, "member");
    return 0;
}
