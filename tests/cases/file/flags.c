//# expect: resumes
//# show: descriptor label=~path_only
/* Files opened in unusual ways: O_PATH, O_DIRECT, O_NOATIME, O_SYNC, O_NONBLOCK, O_PATH of a link, a directory. */
#include "../guest.h"

int main(void)
{
    static const int flags[] = {O_RDWR | O_DIRECT, O_RDONLY | O_NOATIME, O_WRONLY | O_SYNC, O_RDWR | O_DSYNC | O_NONBLOCK};
    int fds[4], modes[4];
    char target[32] = {0};
    close(guest_new_file("file", "0123456789abcdef"));
    close(guest_new_file("path_only", "x"));
    guest_check(symlink("nowhere", guest_path("link")) == 0);
    for (int i = 0; i < 4; i++) {
        fds[i] = open(guest_path("file"), flags[i]);
        if (fds[i] < 0 && errno == EINVAL)
            fds[i] = open(guest_path("file"), flags[i] & ~O_DIRECT); /* this filesystem has none */
        guest_check(fds[i] >= 0);
        modes[i] = fcntl(fds[i], F_GETFL);
    }
    int path = open(guest_path("path_only"), O_PATH), link = open(guest_path("link"), O_PATH | O_NOFOLLOW);
    int folder = open(guest_home, O_RDONLY | O_DIRECTORY | O_CLOEXEC), tree = open("/", O_PATH | O_DIRECTORY);
    guest_check(path >= 0 && link >= 0 && folder >= 0 && tree >= 0);

    guest_checkpoint_here();

    for (int i = 0; i < 4; i++)
        guest_check(fcntl(fds[i], F_GETFL) == modes[i], "%x was %x", fcntl(fds[i], F_GETFL), modes[i]);
    guest_check((fcntl(path, F_GETFL) & O_PATH) && read(path, target, 1) == -1 && errno == EBADF);
    guest_check(readlinkat(link, "", target, sizeof target) == 7 && !strcmp(target, "nowhere"));
    guest_check(openat(folder, "file", O_RDONLY) >= 0 && openat(tree, "proc", O_RDONLY) >= 0);
    return 0;
}
