//# expect: refused "a file whose path is longer than Linux tells"
/* A file so deep that its path has more than PATH_MAX bytes. */
#include "../guest.h"

int main(void)
{
    char name[251];
    memset(name, 'a', 250);
    name[250] = 0;
    for (int i = 0; i < 20; i++)
        guest_check(mkdir(name, 0755) == 0 && chdir(name) == 0);
    int fd = open("file", O_RDWR | O_CREAT, 0600), deepest = open(".", O_RDONLY | O_DIRECTORY);
    guest_check(fd >= 0 && deepest >= 0 && chdir(guest_home) == 0);

    guest_checkpoint_here();

    /* No path leads there for who would remove it. */
    guest_check(fcntl(fd, F_GETFD) == 0 && fchdir(deepest) == 0 && unlink("file") == 0);
    for (int i = 0; i < 20; i++)
        guest_check(chdir("..") == 0 && rmdir(name) == 0);
    return 0;
}
