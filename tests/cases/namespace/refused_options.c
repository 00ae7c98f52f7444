//# expect: refused "nosuid"
//# needs: capability sys_admin
/* In a mount namespace with the host's mounts, one of which is stricter: as a copy of the host's it would be writable, or more,
 * again. */
#include "../guest.h"
#include <sched.h>
#include <sys/mount.h>
#include <sys/statvfs.h>

int main(void)
{
    guest_check(unshare(CLONE_NEWNS) == 0 && mount("", "/", "none", MS_PRIVATE | MS_REC, NULL) == 0);
    guest_check(mount("", "/", "none", MS_REMOUNT | MS_BIND | MS_NOSUID | MS_RELATIME, NULL) == 0);

    guest_checkpoint_here();

    struct statvfs found;
    guest_check(statvfs("/", &found) == 0 && (found.f_flag & ST_NOSUID));
    return 0;
}
