//# expect: resumes
//# show: epoll number=40
/* An epoll set that watches sockets: ready and not, on edges that were told and were not, and fired once. */
#include "sets.h"
#include <sys/socket.h>

enum { READY = 40, QUIET, EDGE, NEW_EDGE, FIRED, FIRED_QUIET, PEERS = 50 };

int main(void)
{
    int set = sets_new(), edges = sets_new();
    for (int number = READY; number <= FIRED_QUIET; number++) {
        int ends[2];
        guest_check(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
        guest_check(dup2(ends[0], number) == number && dup2(ends[1], number + PEERS) == number + PEERS);
        guest_check(close(ends[0]) == 0 && close(ends[1]) == 0);
    }
    sets_add(set, READY, EPOLLIN, READY);
    sets_add(set, QUIET, EPOLLIN | EPOLLRDHUP, QUIET);
    sets_add(set, FIRED, EPOLLIN | EPOLLONESHOT, FIRED);
    sets_add(set, FIRED_QUIET, EPOLLIN | EPOLLONESHOT, FIRED_QUIET);
    guest_check(write(FIRED + PEERS, "x", 1) == 1 && write(FIRED_QUIET + PEERS, "x", 1) == 1);
    sets_expect(set, FIRED, EPOLLIN, FIRED_QUIET, EPOLLIN);
    char byte;
    guest_check(read(FIRED_QUIET, &byte, 1) == 1);
    guest_check(write(READY + PEERS, "x", 1) == 1);
    sets_add(edges, EDGE, EPOLLIN | EPOLLET, EDGE);
    sets_add(edges, NEW_EDGE, EPOLLIN | EPOLLET, NEW_EDGE);
    guest_check(write(EDGE + PEERS, "x", 1) == 1);
    sets_expect(edges, EDGE, EPOLLIN);
    sets_quiet(edges);

    guest_checkpoint_here();

    sets_expect(set, READY, EPOLLIN);
    sets_quiet(edges);
    guest_check(write(NEW_EDGE + PEERS, "x", 1) == 1);
    sets_expect(edges, NEW_EDGE, EPOLLIN);
    /* What has fired tells nothing, not even the end, until it is armed. */
    guest_check(close(FIRED_QUIET + PEERS) == 0);
    sets_expect(set, READY, EPOLLIN);
    guest_check(sets_control(set, EPOLL_CTL_MOD, FIRED, EPOLLIN, FIRED) == 0);
    sets_expect(set, READY, EPOLLIN, FIRED, EPOLLIN);
    guest_check(shutdown(QUIET + PEERS, SHUT_WR) == 0);
    sets_expect(set, READY, EPOLLIN, FIRED, EPOLLIN, QUIET, EPOLLIN | EPOLLRDHUP);
    return 0;
}
