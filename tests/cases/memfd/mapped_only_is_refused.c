//# expect: refused "which we may not open"
//# flavours: alone user
/* A memfd that is only mapped can be opened only with CAP_CHECKPOINT_RESTORE (/proc/PID/map_files): without it, it is
 * refused. */
#include "../guest.h"

int main(void)
{
    int fd = memfd_create("only mapped", 0);
    guest_check(fd >= 0 && ftruncate(fd, GUEST_PAGE) == 0);
    char *map = mmap(NULL, GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    guest_check(map != MAP_FAILED && close(fd) == 0);
    strcpy(map, "words");

    guest_checkpoint_here();

    guest_check(!strcmp(map, "words"));
    return 0;
}
