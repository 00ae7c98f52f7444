//# expect: resumes
/* Thousands of mappings, next to each other and apart. */
#include "../guest.h"

#define COUNT 8000

int main(void)
{
    char *area = guest_map(4 * COUNT, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS);
    for (int i = 0; i < COUNT; i++) {
        char *place = area + 4 * i * GUEST_PAGE;
        guest_check(mprotect(place, GUEST_PAGE, PROT_READ | PROT_WRITE) == 0);
        memset(place, i % 255 + 1, 64);
    }
    for (int i = 1; i < COUNT; i += 100)
        guest_check(munmap(area + 4 * i * GUEST_PAGE, 2 * GUEST_PAGE) == 0);

    guest_checkpoint_here();

    for (int i = 0; i < COUNT; i++)
        if (i % 100 != 1)
            guest_check((unsigned char)area[4 * i * GUEST_PAGE + 63] == i % 255 + 1, "mapping %d", i);
    return 0;
}
