//# expect: resumes
//# show: descriptor number=700 close_on_exec=true
/* Descriptors that share one description, and such that do not; their numbers and their close-on-exec flags. */
#include "../guest.h"

int main(void)
{
    int fd = guest_new_file("file", "0123456789abcdef");
    guest_check(dup2(fd, 90) == 90 && dup3(fd, 700, O_CLOEXEC) == 700);
    int other = open(guest_path("file"), O_RDONLY | O_CLOEXEC);
    guest_check(other >= 0 && dup2(other, 91) == 91);
    guest_check(lseek(fd, 5, SEEK_SET) == 5 && lseek(other, 9, SEEK_SET) == 9);
    guest_check(close(0) == 0);

    guest_checkpoint_here();

    guest_check(fcntl(0, F_GETFD) == -1 && errno == EBADF, "a descriptor that was closed is open");
    guest_check(fcntl(fd, F_GETFD) == 0 && fcntl(90, F_GETFD) == 0 && fcntl(700, F_GETFD) == FD_CLOEXEC);
    guest_check(fcntl(other, F_GETFD) == FD_CLOEXEC && fcntl(91, F_GETFD) == 0);
    char byte;
    guest_check(read(90, &byte, 1) == 1 && byte == '5');
    guest_check(read(700, &byte, 1) == 1 && byte == '6');
    guest_check(read(fd, &byte, 1) == 1 && byte == '7');
    guest_check(read(91, &byte, 1) == 1 && byte == '9');
    guest_check(lseek(other, 0, SEEK_CUR) == 10 && lseek(fd, 0, SEEK_CUR) == 8);
    guest_check(fcntl(90, F_SETFL, O_APPEND) == 0 && (fcntl(fd, F_GETFL) & O_APPEND), "status flags are shared");
    for (int i = 3; i < 1000; i++)
        guest_check((fcntl(i, F_GETFD) >= 0) == (i == fd || i == other || i == 90 || i == 91 || i == 700), "%d", i);
    return 0;
}
