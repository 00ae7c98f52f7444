//# expect: refused "pid"
/* A pidfd is named, and refused. */
#include "../guest.h"


int main(void)
{
    int fd = syscall(SYS_pidfd_open, getpid(), 0);
    guest_check(fd >= 0);

    guest_checkpoint_here();

    guest_check(fcntl(fd, F_GETFD) >= 0, "the refusal has hurt");
    return 0;
}
