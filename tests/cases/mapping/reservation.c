//# expect: resumes
//# show: mapping protection=0 vm_flags=~nr
/* Terabytes that are only reserved, as Go, the JVM and sanitizers do it, with a few pages in use far inside. */
#include "../guest.h"

#define TERABYTE (1ul << 40)

int main(void)
{
    char *empty = mmap(NULL, TERABYTE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    char *used = mmap(NULL, 4 * TERABYTE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    guest_check(empty != MAP_FAILED && used != MAP_FAILED);
    guest_check(mprotect(empty + TERABYTE - GUEST_PAGE, GUEST_PAGE, PROT_READ) == 0);
    char *inside = used + 3 * TERABYTE;
    guest_check(mprotect(inside, TERABYTE / 2, PROT_READ | PROT_WRITE) == 0);
    guest_fill(inside, GUEST_PAGE, 1);
    guest_fill(inside + TERABYTE / 4, GUEST_PAGE, 2);
    unsigned char present[4];

    guest_checkpoint_here();

    guest_check(guest_filled(inside, GUEST_PAGE, 1));
    guest_check(guest_filled(inside + TERABYTE / 4, GUEST_PAGE, 2));
    guest_check(mincore(inside + TERABYTE / 4 - GUEST_PAGE, 3 * GUEST_PAGE, present) == 0);
    guest_check(!(present[0] & 1) && (present[1] & 1) && !(present[2] & 1), "neighbours were touched");
    guest_check(mprotect(used, GUEST_PAGE, PROT_READ | PROT_WRITE) == 0);
    guest_check(guest_zero(used, GUEST_PAGE));
    guest_fill(used, GUEST_PAGE, 3);
    return 0;
}
