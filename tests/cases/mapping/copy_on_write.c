//# expect: resumes
//# tasks: 6
//# image-below: 72 MiB
/* 64 MiB that four children were forked with, and a child of one of them. Each changed some pages; all others are the same
 * pages in memory, and stand in the image once. */
#include "../tree.h"

enum { PAGES = 64 * 256, CHANGED = 40 };

static char *memory;

static uint32_t seed_of(int page, int who)
{
    return who && page % 400 == who * 7 ? page + who * 100000 : page;
}

static void change(int who)
{
    int changed = 0;
    for (int page = 0; page < PAGES; page++)
        if (seed_of(page, who) != (uint32_t)page) {
            guest_fill(memory + page * GUEST_PAGE, GUEST_PAGE, seed_of(page, who));
            changed++;
        }
    guest_check(changed >= CHANGED, "%d", changed);
}

static void check(int who, int before)
{
    for (int page = 0; page < PAGES; page++) {
        uint32_t seed = seed_of(page, who);
        if (seed == (uint32_t)page)
            seed = seed_of(page, before);
        if (!guest_filled(memory + page * GUEST_PAGE, GUEST_PAGE, seed))
            guest_fail("%d: page %d", who, page);
    }
    guest_check(true);
}

static void grandchild(void)
{
    change(5);
    tree_checkpoint_here();
    check(5, 4);
}

static void member(void)
{
    int who = guest_member[0] - '0';
    pid_t child = 0;
    change(who);
    if (who == 4)
        child = tree_start("5", grandchild);
    tree_checkpoint_here();
    check(who, 0);
    /* What one writes now is its own. */
    guest_fill(memory + 100 * GUEST_PAGE, GUEST_PAGE, who);
    tree_event_of(tree_tell, "written", guest_member);
    tree_await("read");
    guest_check(guest_filled(memory + 100 * GUEST_PAGE, GUEST_PAGE, who));
    if (child)
        tree_finish(child, "5");
}

int main(void)
{
    memory = guest_map(PAGES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
    guest_check(madvise(memory, PAGES * GUEST_PAGE, MADV_NOHUGEPAGE) == 0);
    for (int page = 0; page < PAGES; page++)
        guest_fill(memory + page * GUEST_PAGE, GUEST_PAGE, page);
    const char *names[] = {"1", "2", "3", "4"};
    pid_t children[4];
    for (int i = 0; i < 4; i++)
        children[i] = tree_start(names[i], member);
    tree_gather("1", "2", "3", "4", "5");

    guest_checkpoint_here();

    tree_await("written.1");
    tree_await("written.2");
    tree_await("written.3");
    tree_await("written.4");
    check(0, 0);
    tree_tell("read");
    for (int i = 0; i < 4; i++)
        tree_finish(children[i], names[i]);
    return 0;
}
