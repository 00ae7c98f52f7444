//# expect: refused "userfault"
/* A userfaultfd is named, and refused. */
#include "../guest.h"
#include <linux/userfaultfd.h>

int main(void)
{
    int fd = syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
    guest_check(fd >= 0);

    guest_checkpoint_here();

    guest_check(fcntl(fd, F_GETFD) >= 0, "the refusal has hurt");
    return 0;
}
