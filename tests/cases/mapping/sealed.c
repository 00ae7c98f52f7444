//# expect: resumes
//# needs: kernel 6.10
//# show: mapping vm_flags=~sl
/* A sealed mapping (mseal) can still not be changed. */
#include "../guest.h"

#ifndef SYS_mseal
#define SYS_mseal 462
#endif

int main(void)
{
    char *area = guest_map(8, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
    guest_fill(area, 8 * GUEST_PAGE, 1);
    guest_check(mprotect(area, 8 * GUEST_PAGE, PROT_READ) == 0);
    guest_check(syscall(SYS_mseal, area, 4 * GUEST_PAGE, 0ul) == 0);

    guest_checkpoint_here();

    guest_check(guest_filled(area, 8 * GUEST_PAGE, 1));
    guest_check(mprotect(area, GUEST_PAGE, PROT_READ | PROT_WRITE) == -1 && errno == EPERM, "the seal is gone");
    guest_check(munmap(area + 3 * GUEST_PAGE, GUEST_PAGE) == -1 && errno == EPERM, "the seal is gone");
    guest_check(mprotect(area + 4 * GUEST_PAGE, GUEST_PAGE, PROT_READ | PROT_WRITE) == 0, "it is sealed too far");
    return 0;
}
