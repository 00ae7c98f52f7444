//# expect: resumes
//# state: stopped
/* A process that a signal has stopped is stopped after the resume, and goes on with SIGCONT. */
#include "../guest.h"
#include <signal.h>

static volatile sig_atomic_t continued;

static void on_continue(int signal)
{
    continued++;
}

int main(void)
{
    signal(SIGCONT, on_continue);

    guest_checkpoint_here();

    guest_check(continued == 1, "%d", continued);
    return 0;
}
