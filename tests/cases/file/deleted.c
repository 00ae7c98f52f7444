//# expect: resumes
//# may-differ: fd/5/ino a second copy was made under a name for a moment, which is not that of its inode
//# may-differ: fd/5/flags O_TMPFILE says how a file was made, and the copy is opened through /proc
//# may-differ: fd/5/link its name is the number of an inode that is gone, which another file can have got
//# show: file presence=deleted
//# show-first: file presence=unnamed
/* Files without a name: deleted, deleted and opened twice, never named (O_TMPFILE). Their contents, holes and offsets are
 * carried along. */
#include "../guest.h"

int main(void)
{
    char page[GUEST_PAGE];
    int fd = guest_new_file("file", "");
    int reader = open(guest_path("file"), O_RDONLY);
    guest_fill(page, sizeof page, 1);
    guest_check(write(fd, page, sizeof page) == sizeof page);
    guest_check(ftruncate(fd, 100 << 20) == 0 && pwrite(fd, page, sizeof page, 50 << 20) == sizeof page);
    guest_check(fchmod(fd, 0640) == 0 && lseek(fd, 7, SEEK_SET) == 7 && lseek(reader, 9, SEEK_SET) == 9);
    guest_check(unlink(guest_path("file")) == 0);
    int unnamed = open(guest_home, O_TMPFILE | O_RDWR, 0600);
    guest_check(unnamed >= 0, "this filesystem has no O_TMPFILE");
    guest_check(write(unnamed, "never named", 11) == 11);

    guest_checkpoint_here();

    struct stat one, two;
    guest_check(fstat(fd, &one) == 0 && fstat(reader, &two) == 0);
    guest_check(one.st_ino == two.st_ino && one.st_nlink == 0 && one.st_size == 100 << 20 && (one.st_mode & 0777) == 0640);
    guest_check(one.st_blocks * 512 < 1 << 20, "its holes are filled: %ld blocks", (long)one.st_blocks);
    guest_check(lseek(fd, 0, SEEK_CUR) == 7 && lseek(reader, 0, SEEK_CUR) == 9);
    guest_check(pread(reader, page, sizeof page, 0) == sizeof page && guest_filled(page, sizeof page, 1));
    guest_check(pread(reader, page, sizeof page, 50 << 20) == sizeof page && guest_filled(page, sizeof page, 1));
    guest_check(pwrite(fd, "new", 3, 20) == 3 && pread(reader, page, 3, 20) == 3 && !memcmp(page, "new", 3));
    guest_check(access(guest_path("file"), F_OK) == -1);
    guest_check(pread(unnamed, page, 11, 0) == 11 && !memcmp(page, "never named", 11));
    guest_check(fstat(unnamed, &one) == 0 && one.st_nlink == 0 && lseek(unnamed, 0, SEEK_CUR) == 11);
    return 0;
}
