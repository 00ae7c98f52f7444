//# expect: refused "eventfd"
/* An eventfd is named, and refused. */
#include "../guest.h"
#include <sys/eventfd.h>

int main(void)
{
    int fd = eventfd(3, 0);
    guest_check(fd >= 0);

    guest_checkpoint_here();

    guest_check(fcntl(fd, F_GETFD) >= 0, "the refusal has hurt");
    return 0;
}
