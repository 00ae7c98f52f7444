//# expect: resumes
//# show: epoll quiet=true
/* Eventfds, all of which have the same inode: a hundred that are watched by numbers that lead to others now; edges that were
 * told and not; one that has fired. */
#include "sets.h"
#include <sys/eventfd.h>

enum { COUNT = 100, BASE = 200, EDGES = 310, ONCE };

int main(void)
{
    int set = sets_new(), edges = sets_new();
    for (int i = 0; i < COUNT; i++) {
        int fd = eventfd(i % 5 == 0, EFD_NONBLOCK);
        guest_check(fd >= 0 && dup2(fd, BASE + i) == BASE + i && close(fd) == 0);
        sets_add(set, BASE + i, EPOLLIN, i);
    }
    /* Round by one: what was N is N + 1. */
    int last = dup(BASE + COUNT - 1);
    for (int i = COUNT - 2; i >= 0; i--)
        guest_check(dup2(BASE + i, BASE + i + 1) == BASE + i + 1);
    guest_check(dup2(last, BASE) == BASE && close(last) == 0);
    int edge = eventfd(3, 0), once = eventfd(0, 0);
    guest_check(dup2(edge, EDGES) == EDGES && close(edge) == 0 && dup2(once, ONCE) == ONCE && close(once) == 0);
    sets_add(edges, EDGES, EPOLLIN | EPOLLET, EDGES);
    sets_expect(edges, EDGES, EPOLLIN);
    sets_add(edges, ONCE, EPOLLOUT | EPOLLONESHOT, ONCE);
    sets_expect(edges, ONCE, EPOLLOUT);

    guest_checkpoint_here();

    sets_quiet(edges);
    guest_check(eventfd_write(EDGES, 1) == 0 && eventfd_write(ONCE, 1) == 0);
    sets_expect(edges, EDGES, EPOLLIN);
    struct epoll_event found[SETS_MAX];
    guest_check(sets_ready(set, found) == COUNT / 5);
    for (int i = 0; i < COUNT; i++) {
        /* Only who was added by a number can be removed by it, and that is another one now. */
        guest_check(sets_control(set, EPOLL_CTL_DEL, BASE + i, 0, 0) == -1 && errno == ENOENT);
    }
    for (int i = 0; i < COUNT; i++) {
        eventfd_t value;
        int at = BASE + (i + 1) % COUNT;
        guest_check((eventfd_read(at, &value) == 0) == (i % 5 == 0), "%d", i);
    }
    sets_quiet(set);
    guest_check(eventfd_write(BASE + 43, 1) == 0);
    sets_expect(set, 42, EPOLLIN);
    guest_check(dup2(BASE + 43, BASE + 42) == BASE + 42 && sets_control(set, EPOLL_CTL_DEL, BASE + 42, 0, 0) == 0);
    sets_quiet(set);
    return 0;
}
