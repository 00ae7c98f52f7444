//# expect: resumes
//# tasks: 4
/* What parent and children unmapped, mapped anew, moved or gave back after the fork: memory that only children have, other
 * memory in its place, and pages that only one of them emptied. */
#include "../tree.h"

enum { PAGES = 64 };

static char *memory, *place;

static char *page(int number)
{
    return memory + number * GUEST_PAGE;
}

static void expect(int from, int to, uint32_t shift)
{
    for (int i = from; i < to; i++)
        guest_check(guest_filled(page(i), GUEST_PAGE, i + shift), "page %d", i);
}

static void keeps(void)
{
    tree_checkpoint_here();
    expect(0, PAGES, 1);
}

static void changes(void)
{
    guest_check(munmap(page(8), 8 * GUEST_PAGE) == 0);
    guest_check(madvise(page(24), 8 * GUEST_PAGE, MADV_DONTNEED) == 0);
    guest_check(mmap(page(40), 4 * GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == page(40));
    guest_fill(page(41), GUEST_PAGE, 4141);
    /* The place of the parent's own: pages 48 to 52 go to where 56 to 60 were. */
    guest_check(mremap(page(48), 4 * GUEST_PAGE, 4 * GUEST_PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, page(56)) == page(56));
    tree_checkpoint_here();
    expect(0, 8, 1);
    guest_check(msync(page(8), 8 * GUEST_PAGE, MS_ASYNC) == -1 && errno == ENOMEM, "it is mapped");
    expect(16, 24, 1);
    guest_check(guest_zero(page(24), 8 * GUEST_PAGE));
    guest_check(guest_zero(page(40), GUEST_PAGE) && guest_filled(page(41), GUEST_PAGE, 4141));
    for (int i = 48; i < 52; i++)
        guest_check(guest_filled(page(i + 8), GUEST_PAGE, i + 1));
    expect(60, PAGES, 1);
}

static void late(void)
{
    tree_checkpoint_here();
    guest_check(guest_filled(place, GUEST_PAGE, 99) && guest_zero(place + GUEST_PAGE, GUEST_PAGE));
    expect(32, PAGES, 1);
}

int main(void)
{
    memory = guest_map(PAGES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
    for (int i = 0; i < PAGES; i++)
        guest_fill(page(i), GUEST_PAGE, i + 1);
    pid_t one = tree_start("keeps", keeps), two = tree_start("changes", changes);
    tree_gather("keeps", "changes");
    guest_check(munmap(page(0), 32 * GUEST_PAGE) == 0);
    place = mmap(page(4), 2 * GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    guest_check(place == page(4));
    guest_fill(place, GUEST_PAGE, 99);
    pid_t three = tree_start("late", late);
    tree_gather("late");
    guest_check(munmap(page(32), 16 * GUEST_PAGE) == 0);

    guest_checkpoint_here();

    guest_check(guest_filled(place, GUEST_PAGE, 99));
    expect(48, PAGES, 1);
    guest_check(msync(page(32), GUEST_PAGE, MS_ASYNC) == -1 && errno == ENOMEM, "it is mapped");
    tree_finish(one, "keeps");
    tree_finish(two, "changes");
    tree_finish(three, "late");
    return 0;
}
