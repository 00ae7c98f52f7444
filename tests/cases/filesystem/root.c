//# expect: resumes
//# needs: capability sys_chroot
//# flavours: alone running killed again exec twice
/* A root directory of its own, with a working directory inside of it. */
#include "../guest.h"

int main(void)
{
    guest_check(mkdir(guest_path("sub"), 0777) == 0);
    guest_check(chroot(guest_home) == 0 && chdir("/sub") == 0);
    strcpy(guest_home, ""); /* where the runner's files are from now on */

    guest_checkpoint_here();

    char now[64];
    guest_check(getcwd(now, sizeof now) && !strcmp(now, "/sub"), "%s", now);
    guest_check(access("/proc", F_OK) == -1 && errno == ENOENT, "it has got out");
    struct stat above, root;
    guest_check(stat("/..", &above) == 0 && stat("/", &root) == 0 && above.st_ino == root.st_ino);
    guest_check(access("/sub", F_OK) == 0);
    return 0;
}
