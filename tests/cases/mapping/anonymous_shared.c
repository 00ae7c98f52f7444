//# expect: resumes
//# show: mapping kind=shared_anonymous
/* Shared memory without a name: contents, pages that were never touched, two mappings of the same pages, and that a
 * child shares it. */
#include "../guest.h"

#define PAGES 32

int main(void)
{
    char *one = guest_map(PAGES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS);
    for (int i = 0; i < PAGES; i += 2)
        guest_fill(one + i * GUEST_PAGE, GUEST_PAGE, i);
    /* a second mapping of its second half: an old length of zero duplicates a shared mapping */
    char *two = mremap(one + PAGES / 2 * GUEST_PAGE, 0, PAGES / 2 * GUEST_PAGE, MREMAP_MAYMOVE);
    guest_check(two != MAP_FAILED);

    guest_checkpoint_here();

    for (int i = 0; i < PAGES; i++)
        if (i % 2)
            guest_check(guest_zero(one + i * GUEST_PAGE, GUEST_PAGE), "page %d", i);
        else
            guest_check(guest_filled(one + i * GUEST_PAGE, GUEST_PAGE, i), "page %d", i);
    guest_check(guest_filled(two, GUEST_PAGE, PAGES / 2));
    strcpy(two, "written through the second");
    guest_check(!strcmp(one + PAGES / 2 * GUEST_PAGE, "written through the second"));
    pid_t child = fork();
    if (child == 0) {
        strcpy(one, "written by a child");
        _exit(0);
    }
    int status;
    guest_check(waitpid(child, &status, 0) == child && status == 0);
    guest_check(!strcmp(one, "written by a child"));
    return 0;
}
