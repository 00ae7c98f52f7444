//# expect: resumes
//# show: signalfd mask=0x800000200
//# show: signalfd mask=0
/* Signalfds, and the signals that wait to be read from them, in order and with all that belongs to them. */
#include "../guest.h"
#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>

static bool is_ready(int fd)
{
    struct pollfd asked = {.fd = fd, .events = POLLIN};
    guest_check(poll(&asked, 1, 0) >= 0);
    return asked.revents == POLLIN;
}

static struct signalfd_siginfo take(int fd)
{
    struct signalfd_siginfo info;
    guest_check(read(fd, &info, sizeof info) == sizeof info);
    return info;
}

int main(void)
{
    sigset_t none, some, every;
    int queued = SIGRTMIN + 2;
    struct signalfd_siginfo info;
    sigemptyset(&none);
    sigfillset(&every);
    sigemptyset(&some);
    sigaddset(&some, SIGUSR1);
    sigaddset(&some, queued);
    guest_check(queued == 36 && sigprocmask(SIG_BLOCK, &some, NULL) == 0);
    int fd = signalfd(-1, &some, SFD_NONBLOCK), empty = signalfd(-1, &none, SFD_CLOEXEC | SFD_NONBLOCK);
    int all = signalfd(-1, &every, 0);
    guest_check(fd >= 0 && empty >= 0 && all >= 0);
    guest_check(sigqueue(getpid(), queued, (union sigval){.sival_int = 1}) == 0 && kill(getpid(), SIGUSR1) == 0);
    guest_check(sigqueue(getpid(), queued, (union sigval){.sival_int = 2}) == 0);

    guest_checkpoint_here();

    guest_check(is_ready(fd) && is_ready(all) && !is_ready(empty));
    guest_check(fcntl(empty, F_GETFD) == FD_CLOEXEC && fcntl(all, F_GETFL) == O_RDWR);
    info = take(fd);
    guest_check(info.ssi_signo == SIGUSR1 && info.ssi_code == SI_USER && info.ssi_uid == getuid());
    info = take(all);
    guest_check(info.ssi_signo == (uint32_t)queued && info.ssi_code == SI_QUEUE && info.ssi_int == 1, "%d", info.ssi_int);
    guest_check(read(empty, &info, sizeof info) == -1 && errno == EAGAIN);
    info = take(fd);
    guest_check(info.ssi_signo == (uint32_t)queued && info.ssi_int == 2, "%d", info.ssi_int);
    guest_check(read(fd, &info, sizeof info) == -1 && errno == EAGAIN && !is_ready(all));
    guest_check(kill(getpid(), SIGUSR1) == 0 && is_ready(fd) && !is_ready(empty));
    guest_check(signalfd(empty, &some, 0) == empty && is_ready(empty) && take(empty).ssi_signo == SIGUSR1);
    return 0;
}
