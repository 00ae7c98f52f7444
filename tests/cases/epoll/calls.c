//# expect: resumes
//# flavours: alone running killed again exec namespace
/* Threads that wait in epoll_wait, epoll_pwait and epoll_pwait2: without a timeout they go on, with one they are told EINTR or
 * find what is ready; none waits for ever, and none finds what is not there. */
#include "sets.h"
#include <poll.h>
#include <signal.h>

enum { CALLS = 6 };

static int sets[CALLS], ends[CALLS][2];

static int call(int which, struct epoll_event *found)
{
    struct timespec minute = {60, 0};
    sigset_t none;
    sigemptyset(&none);
    switch (which) {
    case 0:
        return epoll_wait(sets[which], found, 4, -1);
    case 1:
        return epoll_pwait(sets[which], found, 4, -1, &none);
    case 2:
        return (int)syscall(SYS_epoll_pwait2, sets[which], found, 4, NULL, &none, 8);
    case 3:
        return epoll_wait(sets[which], found, 4, 60000);
    case 4:
        return epoll_pwait(sets[which], found, 4, 60000, NULL);
    default:
        return (int)syscall(SYS_epoll_pwait2, sets[which], found, 4, &minute, NULL, 8);
    }
}

static void *wait_in(void *argument)
{
    int which = (int)(intptr_t)argument;
    struct epoll_event found[4];
    int count = call(which, found), error = errno;
    if (which < 3)
        guest_check(count == 1, "call %d", which);
    else if (count < 0) {
        guest_check(error == EINTR, "call %d", which);
        guest_linger();
        count = epoll_wait(sets[which], found, 4, -1);
    }
    guest_check(count == 1 && found[0].data.u64 == 1000u + which && found[0].events == EPOLLIN, "call %d", which);
    return NULL;
}

int main(void)
{
    static const long numbers[CALLS] = {SYS_epoll_wait, SYS_epoll_pwait, SYS_epoll_pwait2,
                                        SYS_epoll_wait, SYS_epoll_pwait, SYS_epoll_pwait2};
    struct guest_thread threads[CALLS];
    for (int i = 0; i < CALLS; i++) {
        guest_check(pipe(ends[i]) == 0);
        sets[i] = sets_new();
        sets_add(sets[i], ends[i][0], EPOLLIN, 1000 + i);
        guest_spawn(&threads[i], wait_in, (void *)(intptr_t)i);
    }
    for (int i = 0; i < CALLS; i++)
        guest_wait_in_call(atomic_load(&threads[i].tid), numbers[i]);

    guest_checkpoint_here();

    for (int i = 0; i < CALLS; i++)
        guest_check(write(ends[i][1], "x", 1) == 1);
    for (int i = 0; i < CALLS; i++)
        guest_join(&threads[i]);
    return 0;
}
