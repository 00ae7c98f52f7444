//# expect: refused "connected to a process outside of the tree"
/* A pair whose other end is in a process that is not saved. */
#include "sockets.h"

int main(void)
{
    int ends[2];
    guest_check(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    guest_become_child();
    guest_check(close(ends[0]) == 0);

    guest_checkpoint_here();

    guest_check(send(ends[1], "x", 1, 0) == 1, "the refusal has hurt");
    return 0;
}
