//# expect: resumes
//# flavours: alone running killed again exec
//# dump: --allow epoll
//# may-differ: fd/*/watches.* what was left out, as was asked
//# may-differ: fd/*/ino and the inode of that
/* An epoll set watches a pipe that only a process has that is not saved, and it is left out as was asked; the rest stays. */
#include "sets.h"

int main(void)
{
    sets_pipe_at(77, 78);
    pid_t parent = getpid();
    guest_become_child();
    guest_check(getppid() == parent);
    int set = sets_new(), ends[2];
    guest_check(pipe(ends) == 0);
    sets_add(set, ends[1], EPOLLOUT, 2);
    sets_add(set, 77, EPOLLIN, 1);
    guest_check(close(77) == 0 && close(78) == 0);

    guest_checkpoint_here();

    sets_expect(set, 2, EPOLLOUT);
    return 0;
}
