//# expect: resumes
/* Epoll sets that watch each other: four deep, one watched by two, the outermost with the lowest number, one that has fired;
 * and a hundred that are watched by numbers that are closed. */
#include "sets.h"

enum { COUNT = 100 };

int main(void)
{
    int ends[2], outer = sets_new(), second = sets_new(), third = sets_new(), inner = sets_new(), beside = sets_new();
    int many[COUNT], all = sets_new();
    guest_check(pipe(ends) == 0);
    sets_add(inner, ends[0], EPOLLIN, 4);
    sets_add(third, inner, EPOLLIN, 3);
    sets_add(second, third, EPOLLIN | EPOLLET, 2);
    sets_add(outer, second, EPOLLIN, 1);
    sets_add(beside, inner, EPOLLIN, 9);
    int watched = 0;
    for (int i = 0; i < COUNT; i++) {
        many[i] = sets_new();
        int other = dup(many[i]);
        sets_add(all, other, EPOLLIN, 100 + i);
        guest_check(close(other) == 0);
        if (i % 7 == 0) {
            sets_add(many[i], ends[1], EPOLLOUT, i);
            watched++;
        }
    }
    /* Two levels above the pipe, fired. */
    int fired = sets_new();
    sets_add(fired, many[0], EPOLLIN | EPOLLONESHOT, 77);
    sets_expect(fired, 77, EPOLLIN);
    sets_quiet(fired);

    guest_checkpoint_here();

    sets_quiet(outer);
    sets_quiet(beside);
    guest_check(write(ends[1], "x", 1) == 1);
    sets_expect(outer, 1, EPOLLIN);
    sets_expect(beside, 9, EPOLLIN);
    sets_expect(inner, 4, EPOLLIN);
    sets_expect(third, 3, EPOLLIN);
    sets_expect(second, 2, EPOLLIN);
    sets_quiet(second);
    sets_quiet(outer);
    struct epoll_event found[SETS_MAX];
    guest_check(sets_ready(all, found) == watched);
    for (int i = 0; i < watched; i++)
        guest_check(found[i].data.u64 % 7 == 100 % 7 && found[i].data.u64 < 100 + COUNT);
    for (int i = 0; i < COUNT; i += 7)
        sets_expect(many[i], i, EPOLLOUT);
    guest_check(sets_control(many[1], EPOLL_CTL_ADD, ends[0], EPOLLIN, 5) == 0);
    guest_check(sets_ready(all, found) == watched + 1);
    sets_quiet(fired);
    guest_check(sets_control(inner, EPOLL_CTL_ADD, outer, EPOLLIN, 5) == -1 && errno == ELOOP);
    return 0;
}
