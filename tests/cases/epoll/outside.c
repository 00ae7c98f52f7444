//# expect: refused "watches what was its fd 77"
/* An epoll set watches a pipe that only a process has that is not saved. */
#include "sets.h"

int main(void)
{
    sets_pipe_at(77, 78);
    pid_t parent = getpid();
    guest_become_child();
    guest_check(getppid() == parent);
    int set = sets_new();
    sets_add(set, 77, EPOLLIN, 1);
    guest_check(close(77) == 0 && close(78) == 0);

    guest_checkpoint_here();

    sets_quiet(set);
    return 0;
}
