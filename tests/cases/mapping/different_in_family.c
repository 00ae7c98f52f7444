//# expect: resumes
//# tasks: 5
/* Mappings of a parent and of its children that differ in their protection, flags, size and heap. */
#include "../tree.h"
#include <sys/resource.h>

enum { PAGES = 16 };

static char *memory, *library;

static bool can_write(char *address)
{
    int ends[2];
    guest_check(pipe(ends) == 0 && write(ends[1], "x", 1) == 1);
    bool can = read(ends[0], address, 1) == 1;
    guest_check(can || errno == EFAULT);
    guest_check(close(ends[0]) == 0 && close(ends[1]) == 0);
    return can;
}

static void read_only(void)
{
    guest_check(mprotect(memory, 8 * GUEST_PAGE, PROT_READ) == 0);
    guest_check(mprotect(memory + 8 * GUEST_PAGE, 4 * GUEST_PAGE, PROT_NONE) == 0);
    tree_checkpoint_here();
    guest_check(guest_filled(memory, 8 * GUEST_PAGE, 1) && !can_write(memory) && !can_write(memory + 8 * GUEST_PAGE));
    guest_check(mprotect(memory + 8 * GUEST_PAGE, 4 * GUEST_PAGE, PROT_READ) == 0);
    guest_check(can_write(memory + 12 * GUEST_PAGE));
}

static void grows(void)
{
    char *end = sbrk(0), *more = sbrk(64 * GUEST_PAGE);
    guest_check(more == end);
    guest_fill(more, GUEST_PAGE, 8);
    guest_check(mlock(memory, 2 * GUEST_PAGE) == 0);
    guest_check(madvise(memory + 4 * GUEST_PAGE, GUEST_PAGE, MADV_DONTDUMP) == 0);
    guest_check(madvise(memory + 5 * GUEST_PAGE, GUEST_PAGE, MADV_RANDOM) == 0);
    tree_checkpoint_here();
    guest_check(sbrk(0) == end + 64 * GUEST_PAGE && guest_filled(more, GUEST_PAGE, 8));
    guest_check(can_write(memory) && guest_filled(memory + GUEST_PAGE, GUEST_PAGE, 0) == false);
}

static void executable(void)
{
    guest_check(mprotect(memory, GUEST_PAGE, PROT_READ | PROT_EXEC) == 0);
    guest_check(mprotect(library, GUEST_PAGE, PROT_READ | PROT_WRITE) == 0);
    *(volatile char *)library = 0;
    tree_checkpoint_here();
    guest_check(can_write(library) && !can_write(memory));
}

static void no_inheritance(void)
{
    unsigned char present;
    /* MADV_DONTFORK and MADV_WIPEONFORK of the parent's. */
    guest_check(mincore(memory + 14 * GUEST_PAGE, GUEST_PAGE, &present) == -1 && errno == ENOMEM);
    guest_check(guest_zero(memory + 15 * GUEST_PAGE, GUEST_PAGE));
    tree_checkpoint_here();
    guest_check(mincore(memory + 14 * GUEST_PAGE, GUEST_PAGE, &present) == -1 && errno == ENOMEM);
    guest_check(guest_zero(memory + 15 * GUEST_PAGE, GUEST_PAGE));
}

int main(void)
{
    memory = guest_map(PAGES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
    guest_fill(memory, 8 * GUEST_PAGE, 1);
    guest_fill(memory + 8 * GUEST_PAGE, 8 * GUEST_PAGE, 2);
    int own = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    library = mmap(NULL, GUEST_PAGE, PROT_READ, MAP_PRIVATE, own, 0);
    guest_check(library != MAP_FAILED && close(own) == 0);
    guest_check(madvise(memory + 14 * GUEST_PAGE, GUEST_PAGE, MADV_DONTFORK) == 0);
    guest_check(madvise(memory + 15 * GUEST_PAGE, GUEST_PAGE, MADV_WIPEONFORK) == 0);
    pid_t one = tree_start("read only", read_only), two = tree_start("grows", grows);
    pid_t three = tree_start("executable", executable), four = tree_start("no inheritance", no_inheritance);
    tree_gather("read only", "grows", "executable", "no inheritance");

    guest_checkpoint_here();

    guest_check(guest_filled(memory, 8 * GUEST_PAGE, 1) && guest_filled(memory + 8 * GUEST_PAGE, 8 * GUEST_PAGE, 2));
    guest_check(can_write(memory) && !can_write(library) && !memcmp(library, "\177ELF", 4));
    tree_finish(one, "read only");
    tree_finish(two, "grows");
    tree_finish(three, "executable");
    tree_finish(four, "no inheritance");
    return 0;
}
