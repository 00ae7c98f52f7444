//# expect: resumes
/* Thread-local variables (fs base) and the gs base. */
#include "../guest.h"
#include <asm/prctl.h>

static __thread uint64_t local[512] = {7};

int main(void)
{
    uint64_t *place = malloc(64);
    uint64_t fs, gs, value;
    place[1] = 0x1234567890abcdef;
    local[511] = 42;
    guest_check(syscall(SYS_arch_prctl, ARCH_SET_GS, place) == 0);
    guest_check(syscall(SYS_arch_prctl, ARCH_GET_FS, &fs) == 0);

    guest_checkpoint_here();

    guest_check(local[0] == 7 && local[511] == 42);
    guest_check(syscall(SYS_arch_prctl, ARCH_GET_GS, &gs) == 0 && gs == (uintptr_t)place);
    guest_check(syscall(SYS_arch_prctl, ARCH_GET_FS, &value) == 0 && value == fs);
    __asm__ volatile("movq %%gs:8, %0" : "=r"(value));
    guest_check(value == 0x1234567890abcdef);
    return 0;
}
