//# expect: resumes
//# tasks: 4
//# show: mapping shared=true
/* Shared anonymous memory between a parent and its children: all of it, a part of it, at another address, with another
 * protection, and where the parent has unmapped it. */
#include "../tree.h"

enum { PAGES = 8 };

static atomic_int *counter;
static char *whole, *gone;

static void add(void)
{
    for (int i = 0; i < 1000; i++)
        atomic_fetch_add(counter, 1);
    tree_event_of(tree_tell, "added", guest_member);
}

static void first(void)
{
    guest_check(munmap(whole, 2 * GUEST_PAGE) == 0);
    guest_fill(gone, GUEST_PAGE, 5);
    tree_checkpoint_here();
    add();
    guest_check(guest_filled(whole + 2 * GUEST_PAGE, GUEST_PAGE, 2));
    guest_check(guest_filled(gone + GUEST_PAGE, GUEST_PAGE, 6), "what the other child wrote");
    tree_await("written");
    guest_check(guest_filled(whole + 3 * GUEST_PAGE, GUEST_PAGE, 77));
    guest_fill(gone, GUEST_PAGE, 55);
    tree_tell("answered");
}

static void grandchild(void)
{
    tree_checkpoint_here();
    add();
}

static void second(void)
{
    char *moved = mremap(whole, PAGES * GUEST_PAGE, PAGES * GUEST_PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
                         guest_map(PAGES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS));
    guest_check(moved != MAP_FAILED && mprotect(moved, PAGES * GUEST_PAGE, PROT_READ) == 0);
    guest_fill(gone + GUEST_PAGE, GUEST_PAGE, 6);
    pid_t child = tree_start("grandchild", grandchild);
    tree_checkpoint_here();
    add();
    tree_await("written");
    guest_check(guest_filled(moved, GUEST_PAGE, 0) && guest_filled(moved + 3 * GUEST_PAGE, GUEST_PAGE, 77));
    tree_await("answered");
    guest_check(guest_filled(gone, GUEST_PAGE, 55));
    tree_finish(child, "grandchild");
}

int main(void)
{
    counter = guest_map(1, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS);
    whole = guest_map(PAGES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS);
    gone = guest_map(2, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS);
    for (int page = 0; page < PAGES / 2; page++)
        guest_fill(whole + page * GUEST_PAGE, GUEST_PAGE, page);
    pid_t one = tree_start("first", first), two = tree_start("second", second);
    tree_gather("first", "second", "grandchild");
    guest_check(munmap(gone, 2 * GUEST_PAGE) == 0);

    guest_checkpoint_here();

    add();
    tree_await("added.first");
    tree_await("added.second");
    tree_await("added.grandchild");
    guest_check(*counter == 4000, "%d", *counter);
    guest_check(guest_zero(whole + PAGES / 2 * GUEST_PAGE, PAGES / 2 * GUEST_PAGE));
    guest_fill(whole + 3 * GUEST_PAGE, GUEST_PAGE, 77);
    tree_tell("written");
    tree_finish(one, "first");
    tree_finish(two, "second");
    return 0;
}
