//# expect: refused "signalfd"
/* A signalfd is named, and refused. */
#include "../guest.h"
#include <signal.h>
#include <sys/signalfd.h>

int main(void)
{
    sigset_t set;
    sigemptyset(&set);
    int fd = signalfd(-1, &set, 0);
    guest_check(fd >= 0);

    guest_checkpoint_here();

    guest_check(fcntl(fd, F_GETFD) >= 0, "the refusal has hurt");
    return 0;
}
