//# expect: resumes
//# tasks: 2
/* Signalfds, timerfds and pidfds in epoll sets: a signal that waits and one that comes later, in a task and its child; a timer
 * that has expired and one that never will; a child that has not ended yet. */
#include "sets.h"
#include "../tree.h"
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

enum { SET = 20, SIGNALS = 22 };

static sigset_t mask;

static void check_signals(int set, int signals, int waiting)
{
    struct signalfd_siginfo info;
    sets_expect(set, 5, EPOLLIN);
    guest_check(read(signals, &info, sizeof info) == sizeof info && (int)info.ssi_signo == waiting);
    sets_quiet(set);
    guest_check(kill(getpid(), SIGUSR2) == 0);
    sets_expect(set, 5, EPOLLIN);
    guest_check(read(signals, &info, sizeof info) == sizeof info && info.ssi_signo == SIGUSR2);
    sets_quiet(set);
}

static void child(void)
{
    int set = sets_new(), signals = signalfd(-1, &mask, SFD_NONBLOCK);
    guest_check(signals >= 0);
    sets_add(set, signals, EPOLLIN, 5);
    guest_check(kill(getpid(), SIGUSR1) == 0);
    tree_checkpoint_here();
    check_signals(set, signals, SIGUSR1);
}

int main(void)
{
    sigemptyset(&mask);
    sigaddset(&mask, SIGUSR1);
    sigaddset(&mask, SIGUSR2);
    sigaddset(&mask, SIGTERM);
    guest_check(sigprocmask(SIG_BLOCK, &mask, NULL) == 0);
    int set = sets_new(), signals = signalfd(-1, &mask, SFD_NONBLOCK);
    guest_check(dup2(set, SET) == SET && close(set) == 0 && dup2(signals, SIGNALS) == SIGNALS && close(signals) == 0);
    sets_add(SET, SIGNALS, EPOLLIN, 5);
    pid_t one = tree_start("child", child);
    guest_check(kill(getpid(), SIGTERM) == 0);
    int timers = sets_new(), processes = sets_new(), expired = timerfd_create(CLOCK_MONOTONIC, 0), never = timerfd_create(CLOCK_MONOTONIC, 0);
    struct itimerspec soon = {.it_value = {0, 1000000}}, late = {.it_value = {100000, 0}};
    guest_check(timerfd_settime(expired, 0, &soon, NULL) == 0 && timerfd_settime(never, 0, &late, NULL) == 0);
    sets_add(timers, expired, EPOLLIN, 1);
    sets_add(timers, never, EPOLLIN | EPOLLET, 2);
    int process = (int)syscall(SYS_pidfd_open, one, 0), again = dup(process);
    guest_check(process >= 0);
    sets_add(processes, process, EPOLLIN, 3);
    sets_add(processes, again, EPOLLIN, 4);
    guest_check(close(again) == 0);
    usleep(20000);
    tree_gather("child");

    guest_checkpoint_here();

    check_signals(SET, SIGNALS, SIGTERM);
    sets_expect(timers, 1, EPOLLIN);
    uint64_t count;
    guest_check(read(expired, &count, 8) == 8 && count == 1);
    sets_quiet(timers);
    guest_check(timerfd_settime(never, 0, &soon, NULL) == 0);
    struct epoll_event found[2];
    guest_check(epoll_wait(timers, found, 2, 20000) == 1 && found[0].data.u64 == 2);
    while (tree_state(one) != 'Z')
        usleep(1000);
    sets_expect(processes, 3, EPOLLIN, 4, EPOLLIN);
    guest_check(sets_control(processes, EPOLL_CTL_DEL, process, 0, 0) == 0);
    sets_expect(processes, 4, EPOLLIN);
    tree_finish(one, "child");
    return 0;
}
