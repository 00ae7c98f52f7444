//# expect: resumes
//# terminal: controlling
//# flavours: alone running killed again exec
/* A terminal that is watched by three sets: for what is typed, for both, and once, which has fired. */
#include "sets.h"

int main(void)
{
    int set = sets_new(), both = sets_new(), once = sets_new();
    sets_add(set, 0, EPOLLIN, 10);
    sets_add(both, 0, EPOLLIN, 20);
    sets_add(both, 1, EPOLLOUT | EPOLLET, 21);
    sets_expect(both, 21, EPOLLOUT);
    sets_add(once, 1, EPOLLOUT | EPOLLONESHOT, 30);
    sets_expect(once, 30, EPOLLOUT);

    guest_checkpoint_here();

    struct epoll_event found[4];
    guest_check(epoll_wait(set, found, 4, 20000) == 1 && found[0].data.u64 == 10 && found[0].events == EPOLLIN);
    sets_quiet(once);
    guest_check(sets_control(once, EPOLL_CTL_MOD, 1, EPOLLOUT, 31) == 0);
    sets_expect(once, 31, EPOLLOUT);
    int count = sets_ready(both, found);
    guest_check(count >= 1, "%d", count);
    return 0;
}
