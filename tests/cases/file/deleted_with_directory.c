//# expect: resumes
//# may-differ: fd/3/link its directory is gone, so the copy is in the one above
//# may-differ: fd/3/ino only its normalized form, which depends on that name
//# may-differ: fd/3/flags O_TMPFILE says how a file was made, and the copy is opened through /proc
//# show: file presence=deleted
/* A file that was deleted with its directory, as the end of a temporary directory does it. */
#include "../guest.h"

int main(void)
{
    guest_check(mkdir(guest_path("directory"), 0700) == 0);
    int fd = guest_new_file("directory/file", "0123456789");
    guest_check(lseek(fd, 4, SEEK_SET) == 4);
    guest_check(unlink(guest_path("directory/file")) == 0 && rmdir(guest_path("directory")) == 0);

    guest_checkpoint_here();

    char text[11] = "";
    struct stat now;
    guest_check(fstat(fd, &now) == 0 && now.st_nlink == 0 && lseek(fd, 0, SEEK_CUR) == 4);
    guest_check(pread(fd, text, 10, 0) == 10 && strcmp(text, "0123456789") == 0, "%s", text);
    guest_check(access(guest_path("directory"), F_OK) == -1);
    return 0;
}
