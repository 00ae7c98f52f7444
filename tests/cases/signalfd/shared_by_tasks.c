//# expect: resumes
//# tasks: 3
/* A signalfd that tasks share: each reads its own signals from it, and a mask that one changes holds for the other. */
#include "../tree.h"
#include <sys/signalfd.h>

static int fd;
static sigset_t some;

static void expect(int signal)
{
    struct signalfd_siginfo info;
    guest_check(read(fd, &info, sizeof info) == sizeof info && info.ssi_signo == (uint32_t)signal, "%d", signal);
    guest_check(read(fd, &info, sizeof info) == -1 && errno == EAGAIN);
}

static void child(void)
{
    guest_check(kill(getpid(), SIGUSR2) == 0);
    tree_checkpoint_here();
    expect(SIGUSR2);
    guest_check(kill(getpid(), SIGHUP) == 0);
    tree_tell("turn of root");
    tree_await("turn of child");
    expect(SIGHUP);
}

static void bystander(void)
{
    guest_check(close(fd) == 0);
    tree_checkpoint_here();
}

int main(void)
{
    sigemptyset(&some);
    sigaddset(&some, SIGUSR1);
    sigaddset(&some, SIGUSR2);
    sigset_t blocked = some;
    sigaddset(&blocked, SIGHUP);
    guest_check(sigprocmask(SIG_BLOCK, &blocked, NULL) == 0);
    fd = signalfd(-1, &some, SFD_NONBLOCK);
    pid_t one = tree_start("child", child), two = tree_start("bystander", bystander);
    guest_check(kill(getpid(), SIGUSR1) == 0);
    tree_gather("child", "bystander");

    guest_checkpoint_here();

    expect(SIGUSR1);
    tree_await("turn of root");
    guest_check(signalfd(fd, &blocked, 0) == fd);
    tree_tell("turn of child");
    tree_finish(one, "child");
    tree_finish(two, "bystander");
    return 0;
}
