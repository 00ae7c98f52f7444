//# expect: resumes
//# show: filesystem umask=51
/* Working directory and umask. */
#include "../guest.h"

int main(void)
{
    char now[PATH_MAX];
    guest_check(mkdir(guest_path("here"), 0777) == 0 && chdir(guest_path("here")) == 0);
    umask(063);

    guest_checkpoint_here();

    guest_check(getcwd(now, sizeof now) && !strcmp(now, guest_path("here")), "%s", now);
    int fd = open(guest_who, O_CREAT | O_WRONLY, 0666);
    struct stat status;
    guest_check(fd >= 0 && fstat(fd, &status) == 0 && (status.st_mode & 0777) == 0604, "%o", status.st_mode);
    guest_check(access(guest_path("here/"), F_OK) == 0 && umask(0) == 063);
    return 0;
}
