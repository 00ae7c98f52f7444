//# expect: refused "is hidden by what is mounted at"
//# needs: capability sys_admin
/* A file below a directory on which something was mounted later: no path leads there. */
#include "../guest.h"
#include <sys/mount.h>

int main(void)
{
    guest_check(mkdir(guest_path("covered"), 0755) == 0);
    int fd = guest_new_file("covered/file", "text");
    guest_check(mount("tmpfs", guest_path("covered"), "tmpfs", 0, NULL) == 0);

    guest_checkpoint_here();

    guest_check(umount2(guest_path("covered"), MNT_DETACH) == 0 && fd >= 0);
    return 0;
}
