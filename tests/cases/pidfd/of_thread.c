//# expect: resumes
//# needs: kernel 6.9
//# flavours: alone running killed again exec namespace
/* A pidfd of a thread (PIDFD_THREAD) tells of its end, not of the process's. */
#include "../guest.h"
#include <poll.h>

#define THREAD_FLAG O_EXCL

static atomic_int may_end;

static void *wait_for(void *argument)
{
    while (!atomic_load(&may_end))
        usleep(1000);
    return NULL;
}

int main(void)
{
    struct guest_thread thread;
    guest_spawn(&thread, wait_for, NULL);
    int fd = (int)syscall(SYS_pidfd_open, thread.tid, THREAD_FLAG), own = (int)syscall(SYS_pidfd_open, getpid(), 0);
    guest_check(fd >= 0 && own >= 0);

    guest_checkpoint_here();

    struct pollfd asked[] = {{.fd = fd, .events = POLLIN}, {.fd = own, .events = POLLIN}};
    guest_check(poll(asked, 2, 0) == 0);
    guest_check(fcntl(fd, F_GETFL) & THREAD_FLAG);
    atomic_store(&may_end, 1);
    guest_check(poll(asked, 2, 10000) == 1 && asked[0].revents & POLLIN && !asked[1].revents);
    guest_join(&thread);
    return 0;
}
