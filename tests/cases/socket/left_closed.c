//# expect: resumes
//# dump: --allow socket
//# may-differ: fd/9/flags it comes back closed
//# may-differ: fd/9/ino it comes back closed
//# may-differ: fd/9/link it comes back closed
//# may-differ: fd/9/mnt_id it comes back closed
//# may-differ: fd/9/pos it comes back closed
//# may-differ: shared/fd/9 it comes back closed
/* A socket that cannot be saved comes back closed if that was allowed, and stays open in who was left running. */
#include "../guest.h"
#include <sys/socket.h>

int main(void)
{
    int fd = socket(AF_VSOCK, SOCK_STREAM, 0);
    guest_check(fd >= 0 && dup2(fd, 9) == 9 && close(fd) == 0);

    guest_checkpoint_here();

    if (guest_was_resumed())
        guest_check(fcntl(9, F_GETFD) == -1 && errno == EBADF);
    else
        guest_check(fcntl(9, F_GETFD) >= 0);
    return 0;
}
