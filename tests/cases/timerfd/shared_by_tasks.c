//# expect: resumes
//# tasks: 4
/* Timerfds that tasks share: what one arms another reads, also after execve; what one has taken is gone for the others; one that
 * was armed by who has closed it goes on. */
#include "../tree.h"
#include <sys/timerfd.h>

enum { PASSED = 20 };

static int timer, orphan;

static void arm(int fd, long s, long ns)
{
    struct itimerspec setting = {{0, 0}, {s, ns}};
    guest_check(timerfd_settime(fd, 0, &setting, NULL) == 0);
}

static void waiter(void)
{
    guest_check(close(orphan) == 0);
    tree_in_place();
    uint64_t ticks = guest_take(timer);
    tree_wait();
    guest_check(ticks == 1, "%lu", ticks);
    tree_tell("rung");
}

static void heir(void)
{
    tree_checkpoint_here();
    struct itimerspec now;
    guest_check(timerfd_gettime(orphan, &now) == 0);
    guest_check(now.it_value.tv_sec > 340 && now.it_value.tv_sec <= 400, "%ld", now.it_value.tv_sec);
    tree_await("turn of heir");
    arm(orphan, 0, 1000000);
    tree_tell("turn of executed");
}

int main(void)
{
    if (tree_is("executed")) {
        tree_checkpoint_here();
        tree_await("turn of executed");
        guest_check(guest_take(PASSED) == 1);
        guest_check(fcntl(PASSED, F_SETFL, O_NONBLOCK) == 0);
        tree_tell("turn of root");
        tree_done();
    }
    timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC), orphan = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC);
    guest_check(timer >= 0 && orphan >= 0 && dup2(orphan, PASSED) == PASSED);
    arm(orphan, 400, 0);
    pid_t one = tree_start("waiter", waiter), two = tree_start("heir", heir), three = tree_start_exec("executed");
    guest_check(close(orphan) == 0 && close(PASSED) == 0);
    tree_gather("waiter", "heir", "executed");
    tree_await_call(one, SYS_read);

    guest_checkpoint_here();

    arm(timer, 0, 1000000);
    tree_await("rung");
    tree_tell("turn of heir");
    tree_await("turn of root");
    tree_finish(one, "waiter");
    tree_finish(two, "heir");
    tree_finish(three, "executed");
    return 0;
}
