//# expect: resumes
/* Code that the program wrote itself: in memory, in a patched page of its own text, and in a read-only page that became
 * executable. */
#include "../guest.h"

static const unsigned char answer[] = {0xb8, 42, 0, 0, 0, 0xc3}; /* mov eax, 42; ret */

__attribute__((noinline, aligned(4096))) static int patched(void)
{
    __asm__ volatile("nop; nop; nop; nop; nop; nop; nop; nop");
    return 1;
}

int main(void)
{
    char *both = guest_map(1, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS);
    char *sealed = guest_map(1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
    memcpy(both, answer, sizeof answer);
    memcpy(sealed, answer, sizeof answer);
    guest_check(mprotect(sealed, GUEST_PAGE, PROT_READ | PROT_EXEC) == 0);
    char *text = (char *)((uintptr_t)patched & ~(GUEST_PAGE - 1));
    guest_check(mprotect(text, GUEST_PAGE, PROT_READ | PROT_WRITE | PROT_EXEC) == 0);
    memcpy((void *)patched, answer, sizeof answer);
    guest_check(mprotect(text, GUEST_PAGE, PROT_READ | PROT_EXEC) == 0);
    int (*volatile call_patched)(void) = patched;

    guest_checkpoint_here();

    guest_check(((int (*)(void))both)() == 42);
    guest_check(((int (*)(void))sealed)() == 42);
    guest_check(call_patched() == 42);
    both[1] = 43;
    guest_check(((int (*)(void))both)() == 43);
    return 0;
}
