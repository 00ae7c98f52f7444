//# expect: resumes
//# flavours: alone running killed again exec namespace user
//# show: terminal packet_mode=true exclusive=true rows=31 columns=97
//# show: terminal locked=true closed=false
//# show: terminal closed=true
/* Pseudo-terminals of which one process has both ends: numbers, settings, size, modes, what each end was opened with. */
#include "../guest.h"
#include <poll.h>
#include <sys/ioctl.h>
#include <termios.h>

static int pair(int *slave, int flags)
{
    int master = posix_openpt(O_RDWR | O_NOCTTY), locked = 0, number = -1;
    char path[64];
    guest_check(master >= 0 && ioctl(master, TIOCSPTLCK, &locked) == 0 && ioctl(master, TIOCGPTN, &number) == 0);
    snprintf(path, sizeof path, "/dev/pts/%d", number);
    *slave = open(path, flags | O_NOCTTY);
    guest_check(*slave >= 0);
    return master;
}

static void expect(int fd, const char *wanted)
{
    char found[64] = {0};
    ssize_t length = read(fd, found, sizeof found - 1);
    guest_check(length == (ssize_t)strlen(wanted) && !strcmp(found, wanted), "%d: `%s`", (int)length, found);
}

int main(void)
{
    struct winsize size = {31, 97, 5, 6}, found;
    struct termios settings, after;
    int slave, gone, locked = 1, on = 1, number = -1, before = -1;
    int cooked = pair(&slave, O_RDWR), closed = pair(&gone, O_RDONLY), fresh = posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK);
    guest_check(fresh >= 0 && close(gone) == 0 && ioctl(cooked, TIOCGPTN, &before) == 0);
    char path[64];
    snprintf(path, sizeof path, "/dev/pts/%d", before);
    int second = open(path, O_RDONLY | O_NOCTTY | O_NONBLOCK), third = open(path, O_WRONLY | O_NOCTTY);
    guest_check(second >= 0 && third >= 0 && fchmod(slave, 0640) == 0);
    guest_check(tcgetattr(slave, &settings) == 0);
    settings.c_lflag &= ~ECHO;
    settings.c_cc[VINTR] = 7;
    settings.c_oflag &= ~ONLCR;
    guest_check(tcsetattr(slave, TCSANOW, &settings) == 0 && tcgetattr(slave, &settings) == 0);
    guest_check(ioctl(slave, TIOCSWINSZ, &size) == 0 && ioctl(slave, TIOCEXCL) == 0);
    guest_check(ioctl(cooked, TIOCPKT, &on) == 0 && ioctl(fresh, TIOCSPTLCK, &locked) == 0);

    guest_checkpoint_here();

    struct stat node, named;
    guest_check(ioctl(cooked, TIOCGPTN, &number) == 0 && number == before, "%d, not %d", number, before);
    guest_check(!strcmp(ttyname(slave), path) && fstat(slave, &node) == 0 && (node.st_mode & 0777) == 0640);
    guest_check(stat(path, &named) == 0 && named.st_ino == node.st_ino && named.st_dev == node.st_dev);
    guest_check(tcgetattr(slave, &after) == 0);
    guest_check(settings.c_lflag == after.c_lflag && settings.c_iflag == after.c_iflag && settings.c_oflag == after.c_oflag &&
                    settings.c_cflag == after.c_cflag && !memcmp(settings.c_cc, after.c_cc, sizeof after.c_cc),
                "the settings are others");
    guest_check(ioctl(second, TIOCGWINSZ, &found) == 0 && !memcmp(&found, &size, sizeof size));
    int exclusive = 0, packets = 0;
    guest_check(ioctl(slave, TIOCGEXCL, &exclusive) == 0 && exclusive && ioctl(cooked, TIOCGPKT, &packets) == 0 && packets);
    locked = 0;
    guest_check(ioctl(fresh, TIOCGPTLCK, &locked) == 0 && locked == 1);

    guest_check(write(cooked, "typed\n", 6) == 6);
    expect(slave, "typed\n");
    errno = 0;
    guest_check(read(second, path, 1) < 0 && errno == EAGAIN && read(third, path, 1) < 0 && write(second, "x", 1) < 0);
    guest_check(write(third, "shown\n", 6) == 6);
    char packet[64] = {0};
    guest_check(read(cooked, packet, sizeof packet) == 7 && packet[0] == TIOCPKT_DATA && !strcmp(packet + 1, "shown\n"));
    struct pollfd ready = {.fd = closed};
    guest_check(poll(&ready, 1, 0) == 1 && ready.revents == POLLHUP, "its slave is closed: %x", ready.revents);
    ready.fd = fresh;
    guest_check(poll(&ready, 1, 0) == 0, "its slave was never open: %x", ready.revents);
    return 0;
}
