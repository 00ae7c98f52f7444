//# expect: refused "was unmounted while it was in use"
//# needs: capability sys_admin
/* A file of a filesystem that was taken off its place while the file was open. */
#include "../guest.h"
#include <sys/mount.h>

int main(void)
{
    guest_check(mkdir(guest_path("mounted"), 0755) == 0);
    guest_check(mount("tmpfs", guest_path("mounted"), "tmpfs", 0, NULL) == 0);
    int fd = guest_new_file("mounted/file", "text");
    guest_check(umount2(guest_path("mounted"), MNT_DETACH) == 0);

    guest_checkpoint_here();

    guest_check(fd >= 0);
    return 0;
}
