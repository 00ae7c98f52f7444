//# expect: resumes
//# tasks: 5
/* Pidfds of the process itself, of a sibling, of a child that has ended, of the parent: each is of whom it was, whether
 * opened by its holder or inherited, and what several tasks share is one. */
#include "../tree.h"
#include <poll.h>

#ifndef P_PIDFD
#define P_PIDFD 3
#endif

enum { TARGET = 30, AGAIN = 31, ENDED = 32, SELF = 33, PARENT = 34 };

static atomic_int hit;

static void on_signal(int signal)
{
    atomic_store(&hit, signal);
}

static void open_at(int number, pid_t pid)
{
    int fd = (int)syscall(SYS_pidfd_open, pid, 0);
    guest_check(fd >= 0 && dup3(fd, number, O_CLOEXEC) == number && close(fd) == 0);
}

static int send_to(int number, int signal)
{
    return (int)syscall(SYS_pidfd_send_signal, number, signal, NULL, 0);
}

static bool has_ended(int number)
{
    struct pollfd asked = {.fd = number, .events = POLLIN};
    guest_check(poll(&asked, 1, 0) >= 0);
    return asked.revents & POLLIN;
}

static void target(void)
{
    guest_check(signal(SIGUSR1, on_signal) != SIG_ERR);
    tree_checkpoint_here();
    for (long start = guest_now_ms(); !atomic_load(&hit) && guest_now_ms() - start < 10000;)
        usleep(1000);
    guest_check(hit == SIGUSR1, "no signal has come");
    guest_check(fcntl(TARGET, F_GETFD) == -1, "a descriptor that it has not");
}

static void sender(void)
{
    open_at(PARENT, tree_root);
    guest_check(dup2(TARGET, AGAIN) == AGAIN && close(TARGET) == 0);
    tree_checkpoint_here();
    tree_await("turn of sender");
    guest_check(fcntl(AGAIN, F_GETFL) & O_NONBLOCK, "it is not shared");
    guest_check(!fcntl(AGAIN, F_GETFD) && fcntl(PARENT, F_GETFD) == FD_CLOEXEC);
    guest_check(send_to(AGAIN, SIGUSR1) == 0 && send_to(PARENT, SIGUSR2) == 0);
}

static void late(void)
{
    tree_checkpoint_here();
    guest_check(!has_ended(SELF) && send_to(SELF, 0) == 0 && has_ended(ENDED));
}

int main(void)
{
    siginfo_t info = {0};
    guest_check(signal(SIGUSR2, on_signal) != SIG_ERR);
    pid_t one = tree_start("target", target);
    open_at(TARGET, one);
    pid_t two = tree_start("sender", sender), ended = fork();
    if (ended == 0)
        _exit(7);
    open_at(ENDED, ended);
    open_at(SELF, getpid());
    pid_t three = tree_start("late", late);
    tree_gather("target", "sender", "late");
    tree_await_state(ended, 'Z');

    guest_checkpoint_here();

    guest_check(has_ended(ENDED) && !has_ended(TARGET) && !has_ended(SELF));
    guest_check(send_to(SELF, 0) == 0 && send_to(TARGET, 0) == 0);
    guest_check(fcntl(TARGET, F_SETFL, O_NONBLOCK) == 0);
    guest_check(waitid(P_PIDFD, TARGET, &info, WEXITED) == -1 && errno == EAGAIN);
    tree_tell("turn of sender");
    struct pollfd asked = {.fd = TARGET, .events = POLLIN};
    int ready;
    while ((ready = poll(&asked, 1, 10000)) < 0 && errno == EINTR)
        ;
    guest_check(ready == 1);
    tree_finish(one, "target");
    tree_finish(two, "sender");
    tree_finish(three, "late");
    guest_check(hit == SIGUSR2);
    guest_check(waitid(P_PIDFD, ENDED, &info, WEXITED) == 0 && info.si_pid == ended && info.si_status == 7);
    guest_check(send_to(TARGET, 0) == -1 && errno == ESRCH);
    return 0;
}
