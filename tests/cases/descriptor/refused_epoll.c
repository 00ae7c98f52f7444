//# expect: refused "epoll"
/* An epoll set is named, and refused. */
#include "../guest.h"
#include <sys/epoll.h>

int main(void)
{
    int fd = epoll_create1(0);
    guest_check(fd >= 0);

    guest_checkpoint_here();

    guest_check(fcntl(fd, F_GETFD) >= 0, "the refusal has hurt");
    return 0;
}
