//# expect: refused "which we may not open"
//# flavours: alone user
/* A mapping of a file without a name can be opened only with CAP_CHECKPOINT_RESTORE (/proc/PID/map_files): without it, it
 * is refused. */
#include "../guest.h"

int main(void)
{
    int fd = guest_new_file("file", "words");
    char *map = mmap(NULL, GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    guest_check(map != MAP_FAILED && close(fd) == 0 && unlink(guest_path("file")) == 0);

    guest_checkpoint_here();

    guest_check(!strcmp(map, "words"));
    return 0;
}
