//# expect: resumes
//# flavours: alone running killed
/* More runs of present pages than sixteen bits can count: the image has an extended number of program headers. */
#include "../guest.h"

#define COUNT 70000ul

int main(void)
{
    char *area = guest_map(2 * COUNT, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
    guest_check(madvise(area, 2 * COUNT * GUEST_PAGE, MADV_NOHUGEPAGE) == 0);
    for (unsigned long i = 0; i < COUNT; i++)
        *(unsigned long *)(area + 2 * i * GUEST_PAGE) = i + 1;

    guest_checkpoint_here();

    for (unsigned long i = 0; i < COUNT; i++)
        guest_check(*(unsigned long *)(area + 2 * i * GUEST_PAGE) == i + 1, "page %lu", 2 * i);
    for (unsigned long i = 0; i < COUNT; i += 1000)
        guest_check(*(unsigned long *)(area + (2 * i + 1) * GUEST_PAGE) == 0);
    return 0;
}
