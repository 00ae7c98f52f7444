//# expect: resumes
//# show: mapping backing=object shared=false offset=8192
/* A private mapping of a file: written pages are its own, the others the file's, and the file is never changed. */
#include "../guest.h"

#define PAGES 16

int main(void)
{
    int fd = guest_new_file("file", "");
    char page[GUEST_PAGE];
    for (int i = 0; i < PAGES + 2; i++) {
        guest_fill(page, sizeof page, i);
        guest_check(write(fd, page, sizeof page) == sizeof page);
    }
    char *map = mmap(NULL, PAGES * GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 2 * GUEST_PAGE);
    char *read_only = mmap(NULL, PAGES * GUEST_PAGE, PROT_READ, MAP_PRIVATE, fd, 0);
    guest_check(map != MAP_FAILED && read_only != MAP_FAILED);
    guest_check(close(fd) == 0);
    for (int i = 0; i < PAGES; i += 4)
        guest_fill(map + i * GUEST_PAGE, GUEST_PAGE, 1000 + i);
    guest_check(guest_filled(map + GUEST_PAGE, GUEST_PAGE, 3)); /* read, so present, and the file's */

    guest_checkpoint_here();

    for (int i = 0; i < PAGES; i++)
        guest_check(guest_filled(map + i * GUEST_PAGE, GUEST_PAGE, i % 4 ? i + 2 : 1000 + i), "page %d", i);
    guest_check(guest_filled(read_only + 5 * GUEST_PAGE, GUEST_PAGE, 5));
    guest_fill(map + GUEST_PAGE, GUEST_PAGE, 77);
    fd = open(guest_path("file"), O_RDONLY);
    for (int i = 0; i < PAGES + 2; i++) {
        guest_check(read(fd, page, sizeof page) == sizeof page);
        guest_check(guest_filled(page, sizeof page, i), "page %d of the file", i);
    }
    return 0;
}
