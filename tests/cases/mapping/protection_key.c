//# expect: resumes
/* A range under a protection key, and the rights to it in the thread's register. */
#include "../guest.h"
#include <setjmp.h>
#include <signal.h>

static sigjmp_buf back;

static void caught(int signal)
{
    siglongjmp(back, 1);
}

int main(void)
{
    int key = pkey_alloc(0, 0);
    if (key < 0)
        guest_skip("this processor has no protection keys");
    char *area = guest_map(16, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
    guest_fill(area, 16 * GUEST_PAGE, 1);
    guest_check(pkey_mprotect(area, 16 * GUEST_PAGE, PROT_READ | PROT_WRITE, key) == 0);
    guest_check(pkey_set(key, PKEY_DISABLE_WRITE) == 0);
    signal(SIGSEGV, caught);

    guest_checkpoint_here();

    guest_check(pkey_get(key) == PKEY_DISABLE_WRITE);
    guest_check(guest_filled(area, 16 * GUEST_PAGE, 1));
    if (!sigsetjmp(back, 1)) {
        *(volatile char *)area = 1;
        guest_fail("the key did not protect");
    }
    guest_check(pkey_set(key, 0) == 0);
    guest_fill(area, 16 * GUEST_PAGE, 2);
    guest_check(pkey_free(key) == 0, "the key is not allocated");
    return 0;
}
