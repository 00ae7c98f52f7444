//# expect: resumes
//# tasks: 4
/* Eventfds that tasks share: what one gives another takes, one that waits for it inside of the call, one after execve, and
 * under other numbers. Two that are alike are two. */
#include "../tree.h"
#include <sys/eventfd.h>

enum { PASSED = 20 };

static int bell, apart;

static void give(int fd, uint64_t value)
{
    guest_check(write(fd, &value, sizeof value) == sizeof value);
}

static void waiter(void)
{
    guest_check(dup2(bell, 40) == 40 && close(bell) == 0);
    tree_in_place();
    uint64_t value = guest_take(40);
    tree_wait();
    guest_check(value == 5, "%llu", (unsigned long long)value);
    tree_tell("rung");
}

static void giver(void)
{
    tree_checkpoint_here();
    tree_await("turn of giver");
    guest_check(guest_take(apart) == 7 && fcntl(apart, F_GETFL) & O_NONBLOCK);
    give(apart, 8);
    give(bell, 5);
}

int main(void)
{
    if (tree_is("executed")) {
        tree_checkpoint_here();
        tree_await("turn of executed");
        guest_check(guest_take(PASSED) == 8);
        give(PASSED, 9);
        tree_tell("turn of root");
        tree_done();
    }
    bell = eventfd(0, EFD_CLOEXEC), apart = eventfd(0, EFD_CLOEXEC);
    guest_check(bell >= 0 && apart >= 0 && dup2(apart, PASSED) == PASSED);
    pid_t one = tree_start("waiter", waiter), two = tree_start("giver", giver), three = tree_start_exec("executed");
    tree_gather("waiter", "giver", "executed");
    tree_await_call(one, SYS_read);

    guest_checkpoint_here();

    give(apart, 7);
    guest_check(fcntl(apart, F_SETFL, O_NONBLOCK) == 0);
    tree_tell("turn of giver");
    tree_await("rung");
    tree_tell("turn of executed");
    tree_await("turn of root");
    guest_check(guest_take(apart) == 9);
    tree_finish(one, "waiter");
    tree_finish(two, "giver");
    tree_finish(three, "executed");
    return 0;
}
