//# expect: resumes
//# needs: huge-pages 2
/* A memfd of huge pages, and two descriptions of one memfd. */
#include "../guest.h"

#define HUGE (2ul << 20)

int main(void)
{
    int fd = memfd_create("huge", MFD_HUGETLB), one = memfd_create("twice", 0);
    char path[32];
    guest_check(fd >= 0 && one >= 0 && ftruncate(fd, 2 * HUGE) == 0 && write(one, "0123456789", 10) == 10);
    snprintf(path, sizeof path, "/proc/self/fd/%d", one);
    int two = open(path, O_RDONLY);
    guest_check(two >= 0 && lseek(two, 3, SEEK_SET) == 3);
    char *map = mmap(NULL, HUGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, HUGE);
    guest_check(map != MAP_FAILED);
    guest_fill(map, HUGE, 1);

    guest_checkpoint_here();

    guest_check(guest_filled(map, HUGE, 1));
    struct stat status;
    guest_check(fstat(fd, &status) == 0 && status.st_blksize == HUGE && status.st_size == 2 * HUGE);
    guest_check(lseek(one, 0, SEEK_CUR) == 10 && lseek(two, 0, SEEK_CUR) == 3);
    guest_check(pwrite(one, "X", 1, 3) == 1 && read(two, path, 1) == 1 && path[0] == 'X', "two memfds");
    guest_check(write(two, "x", 1) == -1 && errno == EBADF);
    return 0;
}
