//# expect: refused "on its way through fd 41 is a pidfd"
/* A pidfd that waits in a socket is named, and is still there. */
#include "sockets.h"

int main(void)
{
    int own = (int)syscall(SYS_pidfd_open, getpid(), 0);
    guest_check(own >= 0);
    sockets_pair(SOCK_STREAM, 40, 41);
    sockets_pass(40, "x", &own, 1);
    guest_check(close(own) == 0);

    guest_checkpoint_here();

    sockets_take(41, "x", &own, 1);
    return 0;
}
