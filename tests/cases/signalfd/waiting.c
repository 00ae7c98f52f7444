//# expect: resumes
//# flavours: alone running killed again exec namespace
/* A thread that waits inside of a signalfd for a signal goes on when it comes. */
#include "../guest.h"
#include <signal.h>
#include <sys/signalfd.h>

static int fd;
static struct signalfd_siginfo info;

static void *wait_for(void *argument)
{
    guest_check(read(fd, &info, sizeof info) == sizeof info);
    return NULL;
}

int main(void)
{
    struct guest_thread waiter;
    sigset_t some;
    sigemptyset(&some);
    sigaddset(&some, SIGTERM);
    guest_check(sigprocmask(SIG_BLOCK, &some, NULL) == 0);
    fd = signalfd(-1, &some, 0);
    guest_check(fd >= 0);
    guest_spawn(&waiter, wait_for, NULL);
    guest_wait_in_call(waiter.tid, SYS_read);

    guest_checkpoint_here();

    guest_check(info.ssi_signo == 0);
    guest_check(sigqueue(getpid(), SIGTERM, (union sigval){.sival_int = 5}) == 0);
    guest_join(&waiter);
    guest_check(info.ssi_signo == SIGTERM && info.ssi_int == 5);
    return 0;
}
