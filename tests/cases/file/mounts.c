//# expect: resumes
//# needs: capability sys_admin
//# flavours: alone running killed again exec
//# show: file filesystem=overlay
/* Files on mounts: of an overlay those of the lower directory, of the upper one, one that was copied up after it had been
 * opened and one that was deleted; the same file by two paths of a bind mount; mapped ones. */
#include "../guest.h"
#include <sys/mount.h>

static int open_at(const char *name, int flags)
{
    int fd = open(guest_path(name), flags);
    guest_check(fd >= 0, "%s", name);
    return fd;
}

static char first(int fd)
{
    char byte = 0;
    guest_check(pread(fd, &byte, 1, 0) == 1);
    return byte;
}

int main(void)
{
    static const char *const folders[] = {"lower", "upper", "work", "merged", "bound"};
    char options[3 * PATH_MAX + 512];
    for (int i = 0; i < 5; i++)
        guest_check(mkdir(guest_path(folders[i]), 0755) == 0);
    /* A colon in a path is that of the list of lower directories. */
    guest_check(chdir(guest_home) == 0);
    guest_check(close(guest_new_file("lower/low", "l")) == 0 && close(guest_new_file("lower/copied", "c")) == 0);
    guest_check(close(guest_new_file("lower/deleted", "d")) == 0 && close(guest_new_file("upper/up", "u")) == 0);
    snprintf(options, sizeof options, "lowerdir=lower,upperdir=upper,workdir=work");
    if (mount("overlay", "merged", "overlay", 0, options))
        guest_skip("overlays cannot be mounted here");
    guest_check(mount("lower", "bound", NULL, MS_BIND, NULL) == 0);
    int low = open_at("merged/low", O_RDONLY), up = open_at("merged/up", O_RDWR), copied = open_at("merged/copied", O_RDONLY);
    int deleted = open_at("merged/deleted", O_RDWR), folder = open_at("merged", O_RDONLY | O_DIRECTORY);
    int one = open_at("lower/low", O_RDONLY), two = open_at("bound/low", O_RDWR), writer = open_at("merged/copied", O_RDWR);
    guest_check(unlink(guest_path("merged/deleted")) == 0 && pwrite(writer, "C", 1, 0) == 1);
    char *of_low = mmap(NULL, GUEST_PAGE, PROT_READ, MAP_PRIVATE, low, 0);
    char *of_up = mmap(NULL, GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, up, 0);
    char *of_two = mmap(NULL, GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, two, 0);
    guest_check(of_low != MAP_FAILED && of_up != MAP_FAILED && of_two != MAP_FAILED && of_low[0] == 'l');

    guest_checkpoint_here();

    guest_check(first(low) == 'l' && first(copied) == 'C' && first(deleted) == 'd' && of_low[0] == 'l');
    of_up[0] = 'U';
    guest_check(first(up) == 'U' && access(guest_path("merged/deleted"), F_OK) == -1);
    guest_check(faccessat(folder, "copied", F_OK, 0) == 0 && faccessat(folder, "deleted", F_OK, 0) == -1);
    of_two[0] = 'L';
    guest_check(first(one) == 'L' && first(two) == 'L');
    of_two[0] = 'l';
    guest_check(umount2("merged", MNT_DETACH) == 0 && umount2("bound", MNT_DETACH) == 0);
    return 0;
}
