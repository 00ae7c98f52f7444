//# expect: resumes
//# may-differ: fd/3/link it is opened by the name that it still has
//# may-differ: fd/3/ino only its normalized form, which depends on that name
//# show: file presence=linked_elsewhere
/* A file whose name is gone while another link to it exists: the same inode must come back, not a copy. */
#include "../guest.h"

int main(void)
{
    int fd = guest_new_file("file", "0123456789");
    guest_check(link(guest_path("file"), guest_path("other")) == 0 && unlink(guest_path("file")) == 0);
    guest_check(lseek(fd, 4, SEEK_SET) == 4);

    guest_checkpoint_here();

    struct stat open_file, named;
    guest_check(fstat(fd, &open_file) == 0 && stat(guest_path("other"), &named) == 0);
    guest_check(open_file.st_ino == named.st_ino && open_file.st_dev == named.st_dev && named.st_nlink == 1, "a copy");
    guest_check(access(guest_path("file"), F_OK) == -1 && lseek(fd, 0, SEEK_CUR) == 4);
    return 0;
}
