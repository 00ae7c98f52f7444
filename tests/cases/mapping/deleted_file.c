//# expect: resumes
//# show: mapping presence=deleted
/* Mappings of a file that no path leads to any more, shared and private. */
#include "../guest.h"

#define PAGES 8

int main(void)
{
    int fd = guest_new_file("file", "");
    char page[GUEST_PAGE];
    for (int i = 0; i < PAGES; i++) {
        guest_fill(page, sizeof page, i);
        guest_check(write(fd, page, sizeof page) == sizeof page);
    }
    char *shared = mmap(NULL, PAGES * GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    char *view = mmap(NULL, PAGES * GUEST_PAGE, PROT_READ, MAP_SHARED, fd, 0);
    char *own = mmap(NULL, PAGES * GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    guest_check(shared != MAP_FAILED && view != MAP_FAILED && own != MAP_FAILED && close(fd) == 0);
    guest_fill(shared, GUEST_PAGE, 100);
    guest_fill(own + GUEST_PAGE, GUEST_PAGE, 101);
    guest_check(unlink(guest_path("file")) == 0);

    guest_checkpoint_here();

    for (int i = 0; i < PAGES; i++) {
        guest_check(guest_filled(shared + i * GUEST_PAGE, GUEST_PAGE, i == 0 ? 100 : i), "shared %d", i);
        guest_check(guest_filled(own + i * GUEST_PAGE, GUEST_PAGE, i == 0 ? 100 : i == 1 ? 101 : i), "own %d", i);
    }
    guest_fill(shared + 2 * GUEST_PAGE, GUEST_PAGE, 102);
    guest_check(guest_filled(view + 2 * GUEST_PAGE, GUEST_PAGE, 102));
    struct stat gone;
    guest_check(stat(guest_path("file"), &gone) == -1 && errno == ENOENT, "nothing comes back under its name");
    return 0;
}
