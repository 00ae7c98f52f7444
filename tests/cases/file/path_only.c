//# expect: resumes
/* O_PATH descriptors of what open(2) would not just open: a socket, a FIFO, a symbolic link, devices, a file that may not
 * be read; files of the kernel's own filesystems, whose sizes and times mean nothing. */
#include "../guest.h"
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

static int path_only(const char *path, mode_t type)
{
    struct stat found;
    int fd = open(path, O_PATH | O_NOFOLLOW);
    guest_check(fd >= 0 && fstat(fd, &found) == 0 && (found.st_mode & S_IFMT) == type, "%s", path);
    return fd;
}

static void expect(int fd, mode_t type)
{
    struct stat found;
    guest_check(fstat(fd, &found) == 0 && (found.st_mode & S_IFMT) == type, "%d", fd);
    guest_check((fcntl(fd, F_GETFL) & O_PATH) && read(fd, &found, 1) == -1 && errno == EBADF);
}

int main(void)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "socket"};
    int socket_fd = socket(AF_UNIX, SOCK_STREAM, 0);
    guest_check(bind(socket_fd, (void *)&name, sizeof name) == 0 && close(socket_fd) == 0);
    guest_check(mkfifo("fifo", 0600) == 0 && symlink("to nowhere", "link") == 0);
    guest_check(close(guest_new_file("closed", "x")) == 0 && chmod("closed", 0) == 0);
    int sockets = path_only("socket", S_IFSOCK), fifo = path_only("fifo", S_IFIFO), link = path_only("link", S_IFLNK);
    int closed = path_only("closed", S_IFREG), terminal = path_only("/dev/tty", S_IFCHR), null = path_only("/dev/null", S_IFCHR);
    char before[64] = "", text[64] = "", after[64] = "";
    int version = open("/proc/version", O_RDONLY), hostname = open("/proc/sys/kernel/osrelease", O_RDONLY);
    int sysfs = open("/sys/kernel/uevent_seqnum", O_RDONLY), sys = open("/sys/kernel/mm", O_RDONLY | O_DIRECTORY);
    guest_check(version >= 0 && hostname >= 0 && sysfs >= 0 && sys >= 0);
    guest_check(read(version, before, 14) == 14 && !memcmp(before, "Linux version ", 14));
    guest_check(pread(hostname, before, 63, 0) > 0);

    guest_checkpoint_here();

    expect(sockets, S_IFSOCK);
    expect(fifo, S_IFIFO);
    expect(closed, S_IFREG);
    expect(terminal, S_IFCHR);
    expect(null, S_IFCHR);
    expect(link, S_IFLNK);
    guest_check(readlinkat(link, "", text, sizeof text) == 10 && !memcmp(text, "to nowhere", 10));
    guest_check(pread(hostname, after, 63, 0) > 0 && !strcmp(before, after));
    guest_check(read(version, text, 8) == 8 && !memcmp(text, after, strlen(after) < 8 ? strlen(after) - 1 : 8));
    guest_check(pread(sysfs, text, 63, 0) > 0 && openat(sys, "transparent_hugepage", O_RDONLY) >= 0);
    return 0;
}
