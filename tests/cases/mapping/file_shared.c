//# expect: resumes
//# show: mapping shared=true backing=object
/* A shared mapping of a file is still the file. */
#include "../guest.h"

int main(void)
{
    int fd = guest_new_file("counter", "");
    guest_check(ftruncate(fd, 2 * GUEST_PAGE) == 0);
    int *page = mmap(NULL, GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, GUEST_PAGE);
    int *view = mmap(NULL, GUEST_PAGE, PROT_READ, MAP_SHARED, fd, GUEST_PAGE);
    guest_check(page != MAP_FAILED && view != MAP_FAILED && close(fd) == 0);
    for (int i = 0; i < 4; i++)
        page[i] = 41;

    guest_checkpoint_here();

    int mine = guest_index(), value = 0; /* those that run at the same time have the file in common */
    guest_check(page[mine] == 41);
    page[mine] += 1;
    guest_check(view[mine] == 42, "two mappings of one file");
    fd = open(guest_path("counter"), O_RDWR);
    guest_check(pread(fd, &value, 4, GUEST_PAGE + 4 * mine) == 4 && value == 42, "the file has %d", value);
    value = 43;
    guest_check(pwrite(fd, &value, 4, GUEST_PAGE + 4 * mine) == 4 && page[mine] == 43);
    return 0;
}
