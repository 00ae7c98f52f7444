//# expect: resumes
//# show: descriptor position=10
/* Regular files: offsets, access modes, O_APPEND, beyond the end, and at offsets above 4 GiB. */
#include "../guest.h"

int main(void)
{
    char text[32] = {0};
    int fd = guest_new_file("file", "0123456789abcdef");
    int reader = open(guest_path("file"), O_RDONLY), appender = open(guest_path("log"), O_WRONLY | O_APPEND | O_CREAT, 0640);
    int sparse = guest_new_file("sparse", "");
    guest_check(reader >= 0 && appender >= 0);
    guest_check(lseek(fd, 10, SEEK_SET) == 10 && lseek(reader, 3, SEEK_SET) == 3);
    guest_check(write(appender, "before ", 7) == 7);
    guest_check(ftruncate(sparse, 6l << 30) == 0 && lseek(sparse, 5l << 30, SEEK_SET) == 5l << 30);

    guest_checkpoint_here();

    guest_check(lseek(fd, 0, SEEK_CUR) == 10 && lseek(reader, 0, SEEK_CUR) == 3 && lseek(sparse, 0, SEEK_CUR) == 5l << 30);
    guest_check(read(reader, text, 4) == 4 && !strcmp(text, "3456"));
    guest_check(write(reader, "x", 1) == -1 && errno == EBADF);
    guest_check(read(appender, text, 1) == -1 && errno == EBADF);
    guest_check((fcntl(appender, F_GETFL) & (O_APPEND | O_ACCMODE)) == (O_APPEND | O_WRONLY));
    guest_check(write(appender, guest_who, 5) == 5);
    struct stat status;
    guest_check(fstat(appender, &status) == 0 && status.st_size >= 12 && status.st_nlink == 1);
    guest_check(pwrite(fd, "ABC", 3, 13) == 3 && pread(reader, text, 16, 0) == 16 && !memcmp(text + 13, "ABC", 3));
    return 0;
}
