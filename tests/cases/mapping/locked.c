//# expect: resumes
//# show: mapping vm_flags=~lo
/* Memory that is locked, at once and on fault. That as much of it is present as before is seen from outside. */
#include "../guest.h"

#define PAGES 32

static long locked_kb(void)
{
    char line[256];
    long kb = -1;
    FILE *status = fopen("/proc/self/status", "r");
    while (fgets(line, sizeof line, status))
        sscanf(line, "VmLck: %ld", &kb);
    fclose(status);
    return kb;
}

int main(void)
{
    char *at_once = guest_map(PAGES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
    char *on_fault = guest_map(PAGES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
    guest_check(mlock(at_once, PAGES * GUEST_PAGE) == 0);
    guest_check(mlock2(on_fault, PAGES * GUEST_PAGE, MLOCK_ONFAULT) == 0);
    guest_fill(at_once, GUEST_PAGE, 1);
    guest_fill(on_fault + GUEST_PAGE, GUEST_PAGE, 2);
    long before = locked_kb();
    unsigned char present[PAGES];

    guest_checkpoint_here();

    guest_check(locked_kb() == before && before >= 2 * PAGES * 4, "%ld kB, were %ld", locked_kb(), before);
    guest_check(guest_filled(at_once, GUEST_PAGE, 1) && guest_filled(on_fault + GUEST_PAGE, GUEST_PAGE, 2));
    guest_check(mincore(at_once, PAGES * GUEST_PAGE, present) == 0);
    for (int i = 0; i < PAGES; i++)
        guest_check(present[i] & 1, "page %d of a locked range is not present", i);
    guest_check(mincore(on_fault, PAGES * GUEST_PAGE, present) == 0);
    guest_check((present[1] & 1) && !(present[0] & 1) && !(present[PAGES - 1] & 1));
    guest_check(munlock(at_once, PAGES * GUEST_PAGE) == 0);
    guest_check(locked_kb() == before - PAGES * 4);
    return 0;
}
