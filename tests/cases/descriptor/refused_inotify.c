//# expect: refused "inotify"
/* An inotify instance is named, and refused. */
#include "../guest.h"
#include <sys/inotify.h>

int main(void)
{
    int fd = inotify_init1(0);
    guest_check(fd >= 0);

    guest_checkpoint_here();

    guest_check(fcntl(fd, F_GETFD) >= 0, "the refusal has hurt");
    return 0;
}
