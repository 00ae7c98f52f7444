//# expect: resumes
//# tasks: 4
/* A shell at a pseudo-terminal of its parent: its session, a job in the foreground, another one. What is typed reaches who is in
 * front, by signals too. */
#include "../tree.h"
#include <sys/ioctl.h>
#include <termios.h>

static int master;
static char path[64];
static volatile sig_atomic_t interrupted;

static void interrupt(int signal)
{
    interrupted = signal;
}

static void job(void)
{
    struct sigaction action = {.sa_handler = interrupt};
    guest_check(sigaction(SIGINT, &action, NULL) == 0);
    tree_checkpoint_here();
    guest_check(tcgetpgrp(0) == getpgrp() && getpgrp() == getpid() && getsid(0) == getppid());
    long start = guest_now_ms();
    tree_tell("listens");
    while (!interrupted)
        tree_pause(start, TREE_PATIENCE_MS, "the interrupt");
    char line[32] = {0};
    guest_check(read(0, line, sizeof line - 1) == 5 && !strcmp(line, "word\n"), "%s", line);
}

static void behind(void)
{
    struct sigaction action = {.sa_handler = interrupt};
    guest_check(sigaction(SIGINT, &action, NULL) == 0);
    tree_checkpoint_here();
    guest_check(tcgetpgrp(0) != getpgrp());
    tree_await("done.job");
    guest_check(!interrupted, "an interrupt reached the background");
}

static void shell(void)
{
    guest_check(setsid() == getpid());
    int slave = open(path, O_RDWR);
    guest_check(slave >= 0 && dup2(slave, 0) == 0 && close(slave) == 0 && close(master) == 0);
    guest_check(tcgetsid(0) == getpid());
    signal(SIGTTOU, SIG_IGN);
    int named = open("/dev/tty", O_RDWR | O_NONBLOCK);
    guest_check(named >= 0);
    pid_t first = tree_start("job", job), second = tree_start("behind", behind);
    guest_check(setpgid(first, first) == 0 && setpgid(second, second) == 0 && tcsetpgrp(0, first) == 0);
    tree_await("place.job");
    tree_await("place.behind");
    tree_checkpoint_here();
    char link[64] = {0}, place[32];
    snprintf(place, sizeof place, "/proc/self/fd/%d", named);
    guest_check(readlink(place, link, sizeof link) > 0 && !strcmp(link, "/dev/tty"), "%s", link);
    guest_check(tcgetsid(named) == getpid() && (fcntl(named, F_GETFL) & (O_ACCMODE | O_NONBLOCK)) == (O_RDWR | O_NONBLOCK));
    int alias = open("/dev/tty", O_RDWR);
    guest_check(alias >= 0 && tcgetsid(alias) == getpid() && tcgetpgrp(0) == first);
    tree_finish(first, "job");
    tree_finish(second, "behind");
    guest_check(tcsetpgrp(0, getpgrp()) == 0);
}

int main(void)
{
    int number, locked = 0;
    char text[256] = {0};
    struct termios settings;
    master = posix_openpt(O_RDWR | O_NOCTTY);
    guest_check(master >= 0 && ioctl(master, TIOCSPTLCK, &locked) == 0 && ioctl(master, TIOCGPTN, &number) == 0);
    snprintf(path, sizeof path, "/dev/pts/%d", number);
    guest_check(tcgetattr(master, &settings) == 0);
    settings.c_lflag &= ~ECHO;
    guest_check(tcsetattr(master, TCSANOW, &settings) == 0);
    pid_t pid = tree_start("shell", shell);
    tree_gather("shell");

    guest_checkpoint_here();

    tree_await("listens");
    guest_check(write(master, "\003", 1) == 1);
    guest_check(write(master, "word\n", 5) == 5);
    tree_finish(pid, "shell");
    guest_check(read(master, text, sizeof text) < 0 && errno == EIO, "nobody has the slave: `%s`", text);
    return 0;
}
