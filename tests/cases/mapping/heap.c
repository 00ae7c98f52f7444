//# expect: resumes
/* The heap that brk moves: its contents, its end, and that it can still grow and shrink. */
#include "../guest.h"

int main(void)
{
    char *start = sbrk(100 * GUEST_PAGE);
    guest_check(start != (void *)-1);
    guest_fill(start, 50 * GUEST_PAGE, 1);
    char *end = sbrk(0);
    char *blocks[200];
    for (int i = 0; i < 200; i++) {
        blocks[i] = malloc(i * 37 + 4);
        guest_fill(blocks[i], (i * 37 + 4) & ~3, i);
    }
    char *end_after_malloc = sbrk(0);

    guest_checkpoint_here();

    guest_check(sbrk(0) == end_after_malloc);
    guest_check(guest_filled(start, 50 * GUEST_PAGE, 1));
    guest_check(guest_zero(start + 50 * GUEST_PAGE, end - start - 50 * GUEST_PAGE));
    for (int i = 0; i < 200; i++)
        guest_check(guest_filled(blocks[i], (i * 37 + 4) & ~3, i), "block %d", i);
    guest_check(sbrk(10 * GUEST_PAGE) == end_after_malloc);
    guest_fill(end_after_malloc, 10 * GUEST_PAGE, 2);
    guest_check(brk(end_after_malloc) == 0);
    guest_check(sbrk(0) == end_after_malloc);
    for (int i = 0; i < 200; i++)
        free(blocks[i]);
    return 0;
}
