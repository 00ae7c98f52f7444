//# expect: resumes
//# needs: capability sys_nice
//# flavours: alone running killed again exec
/* Every thread is scheduled in its own way: real-time, idle, deadline, below zero. */
#include "../guest.h"
#include <sched.h>
#include <signal.h>
#include <sys/resource.h>

#ifndef SCHED_FLAG_RESET_ON_FORK
#define SCHED_FLAG_RESET_ON_FORK 1
#endif
#ifndef SCHED_DEADLINE
#define SCHED_DEADLINE 6
#endif

struct attributes {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
    uint32_t util_min, util_max;
};

static const struct attributes wanted[] = {
    {.policy = SCHED_FIFO, .priority = 3},
    {.policy = SCHED_RR, .priority = 5, .flags = SCHED_FLAG_RESET_ON_FORK},
    {.policy = SCHED_IDLE, .nice = 4},
    {.policy = SCHED_DEADLINE, .runtime = 1000000, .deadline = 20000000, .period = 50000000},
    {.policy = SCHED_OTHER, .nice = -11},
};
static atomic_int arrived, stop;
static bool has[5];

static void *run(void *argument)
{
    int me = (int)(intptr_t)argument;
    struct attributes mine = wanted[me], found;
    mine.size = sizeof mine;
    if (mine.policy == SCHED_IDLE) /* which leaves the nice value alone */
        guest_check(setpriority(PRIO_PROCESS, 0, mine.nice) == 0);
    /* a group of processes may have no real-time or deadline bandwidth */
    has[me] = syscall(SYS_sched_setattr, 0, &mine, 0) == 0;
    guest_check(has[me] || errno == EPERM || errno == EBUSY, "policy %d", mine.policy);
    guest_check(prctl(PR_SET_TIMERSLACK, 70000 + me) == 0);
    guest_check(prctl(PR_SET_PDEATHSIG, SIGRTMIN + me) == 0);
    arrived++;
    while (!stop)
        usleep(1000);
    guest_check(syscall(SYS_sched_getattr, 0, &found, sizeof found, 0) == 0);
    if (has[me])
        guest_check(found.policy == mine.policy && found.flags == mine.flags && found.nice == mine.nice &&
                        found.priority == mine.priority &&
                        /* of other policies the runtime is a slice that the kernel chose */
                        (mine.policy != SCHED_DEADLINE || found.runtime == mine.runtime) &&
                        found.deadline == mine.deadline && found.period == mine.period,
                    "thread %d: policy %u flags %lx nice %d priority %u", me, found.policy, found.flags, found.nice,
                    found.priority);
    if (me == 2 || me == 4) /* real-time threads have no slack */
        guest_check(prctl(PR_GET_TIMERSLACK) == 70000 + me);
    int signal = 0;
    guest_check(prctl(PR_GET_PDEATHSIG, &signal) == 0 && signal == SIGRTMIN + me, "%d", signal);
    return NULL;
}

int main(void)
{
    struct guest_thread threads[5];
    for (intptr_t i = 0; i < 5; i++)
        guest_spawn(&threads[i], run, (void *)i);
    while (arrived < 5)
        usleep(100);
    guest_check(has[2] && has[4]);

    guest_checkpoint_here();

    stop = 1;
    for (int i = 0; i < 5; i++)
        guest_join(&threads[i]);
    return 0;
}
