//# expect: resumes
/* The alternate stack with SS_AUTODISARM, and a stack overflow that a handler survives on it. */
#include "../guest.h"
#include <setjmp.h>
#include <signal.h>

#ifndef SS_AUTODISARM
#define SS_AUTODISARM (1u << 31)
#endif

static sigjmp_buf back;
static void *fault;

static void caught(int signal, siginfo_t *info, void *context)
{
    fault = info->si_addr;
    siglongjmp(back, 1);
}

int main(void)
{
    static char stack[65536];
    stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack, .ss_flags = (int)SS_AUTODISARM}, found;
    struct sigaction action = {.sa_sigaction = caught, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    guest_check(sigaltstack(&alternate, NULL) == 0 && sigaction(SIGSEGV, &action, NULL) == 0);

    guest_checkpoint_here();

    guest_check(sigaltstack(NULL, &found) == 0);
    guest_check(found.ss_sp == stack && found.ss_size == sizeof stack && found.ss_flags == (int)SS_AUTODISARM, "%x",
                found.ss_flags);
    if (!sigsetjmp(back, 1)) {
        *(volatile int *)8 = 1;
        guest_fail("address 8 can be written");
    }
    guest_check(fault == (void *)8);
    return 0;
}
