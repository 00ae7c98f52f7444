//# expect: resumes
/* Memory in transparent huge pages, one of them with a hole. */
#include "../guest.h"

#define HUGE (2ul << 20)

int main(void)
{
    char *room = guest_map(5 * HUGE / GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
    char *area = (char *)(((uintptr_t)room + HUGE - 1) & ~(HUGE - 1));
    /* may be switched off on this machine: then these are ordinary pages */
    madvise(area, 4 * HUGE, MADV_HUGEPAGE);
    guest_fill(area, 3 * HUGE, 1);
    guest_check(madvise(area + HUGE + 16 * GUEST_PAGE, 4 * GUEST_PAGE, MADV_DONTNEED) == 0);

    guest_checkpoint_here();

    guest_check(guest_filled(area, HUGE, 1));
    guest_check(guest_zero(area + HUGE + 16 * GUEST_PAGE, 4 * GUEST_PAGE));
    uint32_t *words = (uint32_t *)area, *other = malloc(3 * HUGE);
    guest_fill(other, 3 * HUGE, 1);
    size_t hole = (HUGE + 16 * GUEST_PAGE) / 4, hole_end = hole + GUEST_PAGE;
    for (size_t i = 0; i < 3 * HUGE / 4; i++)
        if (i < hole || i >= hole_end)
            if (words[i] != other[i])
                guest_fail("word %zu", i);
    guest_check(guest_zero(area + 3 * HUGE, HUGE));
    guest_fill(area, 4 * HUGE, 2);
    return 0;
}
