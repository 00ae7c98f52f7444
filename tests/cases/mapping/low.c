//# expect: resumes
/* Mappings at the edges of the address space: the lowest a process may have, the lowest 4 GiB, above the stack. */
#include "../guest.h"

int main(void)
{
    static const uintptr_t places[] = {0x10000, 0x40000000, 0x7fffffff0000 - 0x1000, 0x7ffffffef000 - 0x2000};
    char *maps[4];
    int count = 0;
    for (int i = 0; i < 4; i++) {
        char *map = mmap((void *)places[i], GUEST_PAGE, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
        if (map != MAP_FAILED) /* something may stand there by chance */
            guest_fill(maps[count++] = map, GUEST_PAGE, i);
    }
    guest_check(count >= 2, "%d", count);
    char *low = mmap(NULL, 4 * GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    guest_check(low != MAP_FAILED);
    guest_fill(low, 4 * GUEST_PAGE, 9);

    guest_checkpoint_here();

    for (int i = 0; i < count; i++)
        guest_check(!guest_zero(maps[i], GUEST_PAGE), "mapping %d", i);
    guest_check(guest_filled(low, 4 * GUEST_PAGE, 9));
    return 0;
}
