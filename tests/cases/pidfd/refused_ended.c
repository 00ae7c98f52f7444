//# expect: refused "a pidfd of a process that has ended and was waited for"
/* A pidfd of nobody is named, and refused. */
#include "../guest.h"

int main(void)
{
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    int fd = (int)syscall(SYS_pidfd_open, child, 0);
    guest_check(fd >= 0 && waitpid(child, NULL, 0) == child);

    guest_checkpoint_here();

    guest_check(fcntl(fd, F_GETFD) >= 0, "the refusal has hurt");
    return 0;
}
