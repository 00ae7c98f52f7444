//# expect: resumes
//# show: epoll quiet=true
//# show: epoll quiet=false
/* EPOLLONESHOT before and after it has fired, whatever the target is like then, and EPOLLET whose edges were told or not;
 * EPOLLEXCLUSIVE. */
#include "sets.h"

enum { EMPTY = 40, EMPTY_WRITER, READY, READY_WRITER, FULL, FULL_WRITER, HUNG, HUNG_WRITER, ARMED, ARMED_WRITER };
enum { TOLD = 60, TOLD_WRITER, FRESH, FRESH_WRITER };

/* Has one target fire, and nothing else. */
static void fire(int set, uint64_t data, uint32_t events)
{
    sets_expect(set, data, events);
    sets_quiet(set);
}

static void check_once(int once)
{
    char text[16];
    sets_quiet(once);
    guest_check(write(EMPTY_WRITER, "x", 1) == 1);
    guest_check(read(FULL, text, 1) == 1);
    sets_quiet(once);
    guest_check(close(READY_WRITER) == 0);
    sets_quiet(once);
    guest_check(write(ARMED_WRITER, "x", 1) == 1);
    fire(once, ARMED, EPOLLIN);
    guest_check(sets_control(once, EPOLL_CTL_MOD, EMPTY, EPOLLIN | EPOLLONESHOT, 1) == 0);
    fire(once, 1, EPOLLIN);
    guest_check(sets_control(once, EPOLL_CTL_MOD, READY, EPOLLIN, 2) == 0);
    sets_expect(once, 2, EPOLLIN | EPOLLHUP);
    guest_check(sets_control(once, EPOLL_CTL_DEL, READY, 0, 0) == 0);
    sets_quiet(once);
}

int main(void)
{
    char text[16];
    int once = sets_new(), told = sets_new(), fresh = sets_new(), exclusive = sets_new();
    for (int reader = EMPTY; reader <= ARMED; reader += 2)
        sets_pipe_at(reader, reader + 1);
    sets_pipe_at(TOLD, TOLD_WRITER);
    sets_pipe_at(FRESH, FRESH_WRITER);
    guest_check(fcntl(FULL_WRITER, F_SETPIPE_SZ, 4096) == 4096);

    /* Fired while there was something to read, which is gone. */
    sets_add(once, EMPTY, EPOLLIN | EPOLLONESHOT, EMPTY);
    guest_check(write(EMPTY_WRITER, "x", 1) == 1);
    fire(once, EMPTY, EPOLLIN);
    guest_check(read(EMPTY, text, 1) == 1);
    /* There is something still. */
    sets_add(once, READY, EPOLLIN | EPOLLONESHOT | EPOLLET, READY);
    guest_check(write(READY_WRITER, "rest", 4) == 4);
    fire(once, READY, EPOLLIN);
    /* Fired while there was room, and none is left. */
    sets_add(once, FULL_WRITER, EPOLLOUT | EPOLLONESHOT, FULL_WRITER);
    fire(once, FULL_WRITER, EPOLLOUT);
    char page[4096] = {1};
    guest_check(write(FULL_WRITER, page, sizeof page) == sizeof page);
    /* The other end is gone. */
    sets_add(once, HUNG, EPOLLONESHOT, HUNG);
    guest_check(close(HUNG_WRITER) == 0);
    fire(once, HUNG, EPOLLHUP);
    sets_add(once, ARMED, EPOLLIN | EPOLLONESHOT, ARMED);

    /* An edge that was told: what is left to read is nothing new. */
    sets_add(told, TOLD, EPOLLIN | EPOLLET, TOLD);
    guest_check(write(TOLD_WRITER, "left", 4) == 4);
    fire(told, TOLD, EPOLLIN);
    sets_add(told, EMPTY, EPOLLIN | EPOLLET, EMPTY);
    /* One that was not. */
    sets_add(fresh, FRESH, EPOLLIN | EPOLLET, FRESH);
    guest_check(write(FRESH_WRITER, "new", 3) == 3);
    sets_add(exclusive, TOLD, EPOLLIN | EPOLLEXCLUSIVE | EPOLLET, 5);
    sets_add(exclusive, EMPTY_WRITER, EPOLLOUT | EPOLLEXCLUSIVE, 6);

    guest_checkpoint_here();

    sets_quiet(told);
    guest_check(write(TOLD_WRITER, "x", 1) == 1);
    fire(told, TOLD, EPOLLIN);
    fire(fresh, FRESH, EPOLLIN);
    guest_check(write(FRESH_WRITER, "x", 1) == 1);
    fire(fresh, FRESH, EPOLLIN);
    sets_expect(exclusive, 5, EPOLLIN, 6, EPOLLOUT);
    sets_expect(exclusive, 6, EPOLLOUT);
    guest_check(sets_control(exclusive, EPOLL_CTL_MOD, TOLD, EPOLLIN, 5) == -1 && errno == EINVAL);
    check_once(once);
    guest_check(read(TOLD, text, 16) == 5 && !memcmp(text, "leftx", 5));
    guest_check(read(READY, text, 16) == 4 && !memcmp(text, "rest", 4));
    guest_check(read(EMPTY, text, 16) == 1 && text[0] == 'x');
    guest_check(fcntl(FULL_WRITER, F_GETPIPE_SZ) == 4096);
    return 0;
}
