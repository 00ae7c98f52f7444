//# expect: refused "which is not of the tree"
/* A pidfd of a process that is not saved is named, and refused. */
#include "../guest.h"

int main(void)
{
    int fd = (int)syscall(SYS_pidfd_open, getppid(), 0);
    guest_check(fd >= 0);

    guest_checkpoint_here();

    guest_check(fcntl(fd, F_GETFD) >= 0, "the refusal has hurt");
    return 0;
}
