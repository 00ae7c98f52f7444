//# expect: resumes
//# show: eventfd value=3 semaphore=false
//# show: eventfd value=2 semaphore=true
//# show: eventfd value=18446744073709551614 semaphore=false
/* Eventfds: nothing, a little, a semaphore, all that fits; blocking or not; under several numbers. */
#include "../guest.h"
#include <poll.h>
#include <sys/eventfd.h>

static short ready(int fd)
{
    struct pollfd asked = {.fd = fd, .events = POLLIN | POLLOUT};
    guest_check(poll(&asked, 1, 0) >= 0);
    return asked.revents;
}

static uint64_t take(int fd)
{
    uint64_t value = 0;
    return read(fd, &value, sizeof value) == sizeof value ? value : 0;
}

static bool give(int fd, uint64_t value)
{
    return write(fd, &value, sizeof value) == sizeof value;
}

int main(void)
{
    int nothing = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), some = eventfd(3, 0);
    int semaphore = eventfd(2, EFD_SEMAPHORE | EFD_NONBLOCK), full = eventfd(0, EFD_NONBLOCK);
    int own = eventfd(UINT32_MAX, EFD_NONBLOCK);
    guest_check(nothing >= 0 && some >= 0 && semaphore >= 0 && full >= 0 && own >= 0);
    guest_check(give(full, UINT64_MAX - 1));
    guest_check(dup2(some, 77) == 77);

    guest_checkpoint_here();

    guest_check(ready(nothing) == POLLOUT && ready(some) == (POLLIN | POLLOUT));
    guest_check(ready(semaphore) == (POLLIN | POLLOUT) && ready(full) == POLLIN);
    guest_check(take(nothing) == 0 && errno == EAGAIN);
    guest_check(fcntl(nothing, F_GETFD) == FD_CLOEXEC && !fcntl(some, F_GETFD));
    guest_check(fcntl(nothing, F_GETFL) == (O_RDWR | O_NONBLOCK) && fcntl(some, F_GETFL) == O_RDWR);
    guest_check(give(77, 5) && take(some) == 8);
    guest_check(fcntl(77, F_SETFL, O_NONBLOCK) == 0 && take(some) == 0 && errno == EAGAIN, "one description");
    guest_check(take(semaphore) == 1 && take(semaphore) == 1 && take(semaphore) == 0 && errno == EAGAIN);
    guest_check(!give(full, 1) && errno == EAGAIN);
    guest_check(take(full) == UINT64_MAX - 1 && give(full, 1) && ready(full) == (POLLIN | POLLOUT));
    guest_check(take(own) == UINT32_MAX);
    return 0;
}
