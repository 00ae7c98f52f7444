//# expect: resumes
//# needs: kernel 6.13
/* Guard regions: pages that end whoever touches them, without a mapping of their own. */
#include "../guest.h"
#include <setjmp.h>
#include <signal.h>

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103
#endif

static sigjmp_buf back;

static void caught(int signal)
{
    siglongjmp(back, 1);
}

static bool is_guarded(volatile char *place)
{
    if (sigsetjmp(back, 1))
        return true;
    (void)*place;
    return false;
}

int main(void)
{
    signal(SIGSEGV, caught);
    char *area = guest_map(64, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
    guest_fill(area, 64 * GUEST_PAGE, 1);
    guest_check(madvise(area, GUEST_PAGE, MADV_GUARD_INSTALL) == 0);
    guest_check(madvise(area + 30 * GUEST_PAGE, 4 * GUEST_PAGE, MADV_GUARD_INSTALL) == 0);
    char *untouched = guest_map(64, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
    guest_check(madvise(untouched + 10 * GUEST_PAGE, GUEST_PAGE, MADV_GUARD_INSTALL) == 0);

    guest_checkpoint_here();

    for (int page = 0; page < 64; page++) {
        bool expected = page == 0 || (page >= 30 && page < 34);
        guest_check(is_guarded(area + page * GUEST_PAGE) == expected, "page %d", page);
        guest_check(is_guarded(untouched + page * GUEST_PAGE) == (page == 10), "untouched page %d", page);
    }
    guest_check(madvise(area, 64 * GUEST_PAGE, MADV_GUARD_REMOVE) == 0);
    guest_check(!is_guarded(area) && guest_zero(area, GUEST_PAGE));
    return 0;
}
