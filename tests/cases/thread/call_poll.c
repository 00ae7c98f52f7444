//# expect: resumes
//# flavours: alone running killed again exec
/* poll, ppoll and select, without a timeout and with one: the first kind waits on, the second may return EINTR in a copy
 * but never reports a timeout that has not come. */
#define _GNU_SOURCE
#include "../guest.h"
#include <poll.h>
#include <sys/select.h>

#define KINDS 6

static int ends[2], result[KINDS], error[KINDS];

static void *wait_here(void *argument)
{
    int kind = (int)(intptr_t)argument;
    struct pollfd one = {.fd = ends[0], .events = POLLIN};
    struct timespec minute = {60, 0};
    struct timeval minute_too = {60, 0};
    fd_set set;
    FD_ZERO(&set);
    FD_SET(ends[0], &set);
    switch (kind) {
    case 0: result[kind] = syscall(SYS_poll, &one, 1, -1); break;
    case 1: result[kind] = syscall(SYS_poll, &one, 1, 60000); break;
    case 2: result[kind] = syscall(SYS_ppoll, &one, 1, NULL, NULL, 8ul); break;
    case 3: result[kind] = syscall(SYS_ppoll, &one, 1, &minute, NULL, 8ul); break;
    case 4: result[kind] = syscall(SYS_select, ends[0] + 1, &set, NULL, NULL, NULL); break;
    case 5: result[kind] = syscall(SYS_select, ends[0] + 1, &set, NULL, NULL, &minute_too); break;
    }
    error[kind] = errno;
    guest_linger();
    return NULL;
}

int main(void)
{
    struct guest_thread threads[KINDS];
    static const long calls[KINDS] = {SYS_poll, SYS_poll, SYS_ppoll, SYS_ppoll, SYS_select, SYS_select};
    guest_check(pipe(ends) == 0);
    for (intptr_t kind = 0; kind < KINDS; kind++) {
        guest_spawn(&threads[kind], wait_here, (void *)kind);
        guest_wait_in_call(threads[kind].tid, calls[kind]);
    }

    guest_checkpoint_here();

    usleep(100000); /* those that return EINTR do it now, and those that wrongly end as well */
    guest_check(write(ends[1], "x", 1) == 1);
    for (int kind = 0; kind < KINDS; kind++)
        guest_join(&threads[kind]);
    for (int kind = 0; kind < KINDS; kind++) {
        /* only what waits with a restart block that nobody can read may end early: poll with a timeout */
        bool may_end_early = guest_was_resumed() && kind == 1;
        guest_check(result[kind] == 1 || (may_end_early && result[kind] == -1 && error[kind] == EINTR),
                    "kind %d: %d, error %d", kind, result[kind], error[kind]);
    }
    return 0;
}
