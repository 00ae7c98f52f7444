//# expect: resumes
//# flavours: alone running killed again exec user
//# show: lock kind=flock exclusive=true
//# show: lock kind=posix start=10 len_bytes=5
//# show: lock kind=open_file
/* Locks on files: of a description (flock, open file description locks) and of the process (POSIX), for reading and for
 * writing, of ranges. A child sees them, as it owns none. */
#include "../guest.h"
#include <sys/file.h>

static int look(int fd, short type, off_t start, off_t length)
{
    struct flock lock = {.l_type = type, .l_start = start, .l_len = length};
    guest_check(fcntl(fd, F_GETLK, &lock) == 0);
    return lock.l_type;
}

int main(void)
{
    int whole = guest_new_file("flock", "x"), shared = guest_new_file("shared", "x");
    int ranges = guest_new_file("posix", "0123456789abcdefghij"), ofd = guest_new_file("ofd", "0123456789");
    guest_check(flock(whole, LOCK_EX) == 0 && flock(shared, LOCK_SH) == 0);
    struct flock writing = {.l_type = F_WRLCK, .l_start = 10, .l_len = 5}, reading = {.l_type = F_RDLCK, .l_start = 100};
    guest_check(fcntl(ranges, F_SETLK, &writing) == 0 && fcntl(ranges, F_SETLK, &reading) == 0);
    struct flock open_file = {.l_type = F_WRLCK, .l_start = 2, .l_len = 3};
    guest_check(fcntl(ofd, F_OFD_SETLK, &open_file) == 0);

    guest_checkpoint_here();

    pid_t child = fork();
    if (child == 0) {
        int other = open(guest_path("flock"), O_RDWR), second = open(guest_path("shared"), O_RDWR);
        guest_check(flock(other, LOCK_SH | LOCK_NB) == -1 && errno == EWOULDBLOCK, "flock");
        guest_check(flock(second, LOCK_SH | LOCK_NB) == 0 && flock(second, LOCK_EX | LOCK_NB) == -1, "shared flock");
        int posix = open(guest_path("posix"), O_RDWR), third = open(guest_path("ofd"), O_RDWR);
        guest_check(look(posix, F_RDLCK, 10, 5) == F_WRLCK && look(posix, F_RDLCK, 14, 1) == F_WRLCK);
        guest_check(look(posix, F_WRLCK, 15, 85) == F_UNLCK && look(posix, F_WRLCK, 0, 10) == F_UNLCK);
        guest_check(look(posix, F_RDLCK, 100, 0) == F_UNLCK && look(posix, F_WRLCK, 1000, 1) == F_RDLCK);
        guest_check(look(third, F_RDLCK, 2, 3) == F_WRLCK && look(third, F_WRLCK, 5, 10) == F_UNLCK);
        _exit(0);
    }
    int status;
    guest_check(waitpid(child, &status, 0) == child && status == 0);
    guest_check(flock(whole, LOCK_UN) == 0);
    int other = open(guest_path("flock"), O_RDWR);
    guest_check(flock(other, LOCK_EX | LOCK_NB) == 0, "a lock of nobody is left");
    return 0;
}
