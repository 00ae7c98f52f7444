//# expect: resumes
//# terminal: controlling
//# flavours: alone running killed again exec
//# show: terminal rows=33 columns=101 controlling=true
/* A program at its terminal: settings, window size, what is typed, /dev/tty, the foreground. */
#include "../guest.h"
#include <sys/ioctl.h>
#include <termios.h>

int main(void)
{
    struct termios before, after;
    struct winsize size = {33, 101, 0, 0};
    int copy = dup(1), alias = open("/dev/tty", O_RDWR);
    guest_check(copy >= 0 && alias >= 0 && isatty(0) && isatty(1) && isatty(2));
    guest_check(tcgetattr(0, &before) == 0);
    before.c_lflag &= ~ECHO;
    before.c_cc[VINTR] = 7;
    before.c_iflag |= IGNBRK;
    guest_check(tcsetattr(0, TCSANOW, &before) == 0 && tcgetattr(0, &before) == 0);
    guest_check(ioctl(0, TIOCSWINSZ, &size) == 0);

    guest_checkpoint_here();

    char line[64] = {0};
    guest_check(isatty(0) && isatty(1) && isatty(2) && isatty(copy) && isatty(alias));
    guest_check(tcgetattr(alias, &after) == 0);
    guest_check(before.c_lflag == after.c_lflag && before.c_iflag == after.c_iflag && before.c_oflag == after.c_oflag &&
                    before.c_cflag == after.c_cflag && !memcmp(before.c_cc, after.c_cc, sizeof before.c_cc),
                "the settings are others");
    memset(&size, 0, sizeof size);
    guest_check(ioctl(copy, TIOCGWINSZ, &size) == 0 && size.ws_row == 33 && size.ws_col == 101);
    guest_check(tcgetpgrp(0) == getpgrp(), "it is in the background");
    guest_check(read(0, line, sizeof line - 1) == 18 && !strcmp(line, "typed by a person\n"), "%s", line);
    guest_check(write(2, "it answers\n", 11) == 11);
    return 0;
}
