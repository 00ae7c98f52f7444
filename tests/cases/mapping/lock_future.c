//# expect: resumes
//# flavours: alone running killed again exec
//# show: mapping lock_future=2
/* mlockall(MCL_FUTURE): a mapping made after the resume is locked as well. */
#include "../guest.h"

int main(void)
{
    guest_check(mlockall(MCL_FUTURE) == 0);
    char *early = guest_map(4, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
    guest_fill(early, GUEST_PAGE, 1);

    guest_checkpoint_here();

    guest_check(guest_filled(early, GUEST_PAGE, 1));
    char *late = guest_map(4, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
    unsigned char present[4];
    guest_check(mincore(late, 4 * GUEST_PAGE, present) == 0);
    guest_check((present[0] & present[1] & present[2] & present[3] & 1) == 1, "a new mapping is not locked");
    return 0;
}
