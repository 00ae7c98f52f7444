//# expect: resumes
//# may-differ: fd/3/ino only its normalized form, which depends on its name
//# may-differ: fd/4/ino the same
//# may-differ: fd/5/ino the same
//# may-differ: fd/6/ino the same
//# may-differ: fd/3/link it never had a name, and that has its number
//# may-differ: fd/3/flags O_TMPFILE says how a file was made, and the copy is opened through /proc
//# image-below: 8 MiB
/* What belongs to files whose content the image carries: holes, of gigabytes too, extended attributes, permissions,
 * times. */
#include "../guest.h"
#include <sys/xattr.h>

#define GIB (1l << 30)

static int unlinked(const char *name)
{
    int fd = guest_new_file(name, "");
    guest_check(unlink(guest_path(name)) == 0);
    return fd;
}

int main(void)
{
    static const char capability[] = "\1\0\0\2\0\4\0\0\0\0\0\0\0\0\0\0\0\0\0\0"; /* cap_net_bind_service, not effective */
    struct timespec times[2] = {{1000000000, 123456789}, {900000000, 987654321}};
    char value[64];
    int temporary = open(guest_home, O_TMPFILE | O_RDWR, 0600);
    guest_check(temporary == 3);
    int sparse = unlinked("sparse"), dressed = unlinked("dressed"), memory = memfd_create("dressed", 0);
    guest_check(pwrite(temporary, "t", 1, GIB) == 1);
    guest_check(pwrite(sparse, "head", 4, 0) == 4 && pwrite(sparse, "middle", 6, 3 * GIB + 5) == 6);
    guest_check(ftruncate(sparse, 6 * GIB + 1) == 0);
    guest_check(write(dressed, "abc", 3) == 3 && fchmod(dressed, 0640) == 0);
    bool has_user = fsetxattr(dressed, "user.test", "one\0two", 7, 0) == 0;
    has_user = has_user && fsetxattr(dressed, "user.empty", "", 0, 0) == 0;
    bool has_memory = fsetxattr(memory, "user.test", "memory", 6, 0) == 0;
    bool has_capability = fsetxattr(dressed, "security.capability", capability, 20, 0) == 0;
    /* a list for u::rw-, user 1: r--, g::r--, m::r--, o::--- */
    static const unsigned char list[] = {2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 4, 0, 0, 0, 0, 0,
        4, 0, 4, 0, 255, 255, 255, 255, 16, 0, 4, 0, 255, 255, 255, 255, 32, 0, 0, 0, 255, 255, 255, 255};
    bool has_list = fsetxattr(dressed, "system.posix_acl_access", list, sizeof list, 0) == 0;
    guest_check(futimens(dressed, times) == 0 && futimens(memory, times) == 0);

    guest_checkpoint_here();

    struct stat now;
    guest_check(fstat(temporary, &now) == 0 && now.st_size == GIB + 1 && now.st_blocks < 64, "%ld", (long)now.st_blocks);
    guest_check(lseek(temporary, 0, SEEK_DATA) > GIB - 65536);
    guest_check(pread(temporary, value, 1, GIB) == 1 && value[0] == 't');
    guest_check(fstat(sparse, &now) == 0 && now.st_size == 6 * GIB + 1 && now.st_blocks < 64, "%ld", (long)now.st_blocks);
    guest_check(lseek(sparse, 0, SEEK_HOLE) <= 65536 && lseek(sparse, 65536, SEEK_DATA) > 3 * GIB - 65536);
    guest_check(lseek(sparse, 4 * GIB, SEEK_DATA) == -1 && errno == ENXIO);
    guest_check(pread(sparse, value, 6, 3 * GIB + 5) == 6 && !memcmp(value, "middle", 6));
    guest_check(pread(sparse, value, 5, 0) == 5 && !memcmp(value, "head", 5));
    guest_check(fstat(dressed, &now) == 0 && (now.st_mode & 07777) == 0640 && now.st_nlink == 0);
    guest_check(now.st_atim.tv_sec == 1000000000 && now.st_atim.tv_nsec == 123456789, "%ld", now.st_atim.tv_sec);
    guest_check(now.st_mtim.tv_sec == 900000000 && now.st_mtim.tv_nsec == 987654321, "%ld", now.st_mtim.tv_sec);
    guest_check(fstat(memory, &now) == 0 && now.st_mtim.tv_nsec == 987654321 && now.st_atim.tv_nsec == 123456789);
    guest_check(!has_user || (fgetxattr(dressed, "user.test", value, 64) == 7 && !memcmp(value, "one\0two", 7)));
    guest_check(!has_user || fgetxattr(dressed, "user.empty", value, 64) == 0);
    guest_check(!has_memory || (fgetxattr(memory, "user.test", value, 64) == 6 && !memcmp(value, "memory", 6)));
    /* In a user namespace the owner of the file is nobody that the kernel would take it from. */
    guest_check(!has_capability || geteuid() != 0 || fgetxattr(dressed, "security.capability", value, 64) >= 20);
    guest_check(!has_list || fgetxattr(dressed, "system.posix_acl_access", value, 64) == sizeof list);
    return 0;
}
