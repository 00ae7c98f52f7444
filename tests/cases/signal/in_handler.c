//# expect: resumes
/* Inside a handler on an alternate stack, itself interrupted by another handler: both return to where they came from, with
 * the masks and registers of before. */
#include "../guest.h"
#include <signal.h>
#include <ucontext.h>

static char *stack;
static volatile sig_atomic_t depth;

static void inner(int signal, siginfo_t *info, void *context)
{
    stack_t now;
    depth = 2;
    guest_checkpoint_here();
    guest_check(sigaltstack(NULL, &now) == 0 && (now.ss_flags & SS_ONSTACK), "on the alternate stack");
    char here;
    guest_check(&here > stack && &here < stack + 32 * GUEST_PAGE);
    sigset_t mask;
    guest_check(sigprocmask(SIG_BLOCK, NULL, &mask) == 0);
    guest_check(sigismember(&mask, SIGUSR1) == 1 && sigismember(&mask, SIGUSR2) == 1 && !sigismember(&mask, SIGHUP));
    guest_check(info->si_value.sival_int == 9);
    ((ucontext_t *)context)->uc_mcontext.gregs[REG_R15] ^= 0; /* the frame is still there to be written */
    depth = 3;
}

static void outer(int signal, siginfo_t *info, void *context)
{
    depth = 1;
    sigqueue(getpid(), SIGUSR2, (union sigval){.sival_int = 9});
    guest_check(depth == 3, "%d", depth);
    depth = 4;
}

int main(void)
{
    stack = guest_map(32, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
    stack_t alternate = {.ss_sp = stack, .ss_size = 32 * GUEST_PAGE}, found;
    guest_check(sigaltstack(&alternate, NULL) == 0);
    struct sigaction action = {.sa_sigaction = outer, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    guest_check(sigaction(SIGUSR1, &action, NULL) == 0);
    action.sa_sigaction = inner;
    guest_check(sigaction(SIGUSR2, &action, NULL) == 0);
    volatile double number = 0.1;
    guest_check(raise(SIGUSR1) == 0);
    guest_check(depth == 4 && number + 0.2 > 0.3 && number + 0.2 < 0.31);
    sigset_t mask;
    guest_check(sigprocmask(SIG_BLOCK, NULL, &mask) == 0);
    guest_check(!sigismember(&mask, SIGUSR1) && !sigismember(&mask, SIGUSR2));
    guest_check(sigaltstack(NULL, &found) == 0 && !found.ss_flags && found.ss_sp == stack);
    return 0;
}
