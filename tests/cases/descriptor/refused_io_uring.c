//# expect: refused "io_uring"
/* An io_uring instance is named, and refused. */
#include "../guest.h"
#include <linux/io_uring.h>

int main(void)
{
    struct io_uring_params parameters = {0};
    int fd = syscall(SYS_io_uring_setup, 4, &parameters);
    guest_check(fd >= 0);

    guest_checkpoint_here();

    guest_check(fcntl(fd, F_GETFD) >= 0, "the refusal has hurt");
    return 0;
}
