//# expect: resumes
//# needs: kernel 6.9
//# show: epoll busy_poll_us=50 busy_poll_budget=16 prefer_busy_poll=true
/* How an epoll set polls network devices, its status flags and who gets SIGIO. */
#include "sets.h"
#include <sys/ioctl.h>

struct parameters {
    uint32_t time_us;
    uint16_t budget;
    uint8_t prefer, padding;
};

#define EPIOCSPARAMS_ _IOW(0x8A, 1, struct parameters)
#define EPIOCGPARAMS_ _IOR(0x8A, 2, struct parameters)

int main(void)
{
    struct parameters set_to = {50, 16, 1, 0}, found = {0};
    int set = sets_new();
    if (ioctl(set, EPIOCSPARAMS_, &set_to) < 0)
        guest_skip("this kernel does not poll network devices (CONFIG_NET_RX_BUSY_POLL)");
    guest_check(fcntl(set, F_SETFL, O_NONBLOCK) == 0 && fcntl(set, F_SETFD, FD_CLOEXEC) == 0);

    guest_checkpoint_here();

    guest_check(ioctl(set, EPIOCGPARAMS_, &found) == 0 && !memcmp(&found, &set_to, sizeof found));
    guest_check((fcntl(set, F_GETFL) & O_NONBLOCK) && fcntl(set, F_GETFD) == FD_CLOEXEC);
    sets_quiet(set);
    return 0;
}
