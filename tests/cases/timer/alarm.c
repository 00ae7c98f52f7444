//# expect: resumes
/* An alarm that is due during the wait after the resume: it comes, once, and not earlier than it would have. */
#include "../guest.h"
#include <signal.h>

static volatile sig_atomic_t alarms;
static long began, rang;

static void caught(int signal)
{
    alarms++;
    rang = guest_now_ms() - began;
}

int main(void)
{
    signal(SIGALRM, caught);
    began = guest_now_ms();
    alarm(3);

    guest_checkpoint_here();

    for (int i = 0; i < 10000 && !alarms; i++)
        usleep(1000);
    guest_check(alarms == 1);
    guest_check(rang >= 2900, "%ld ms", rang);
    usleep(100000);
    guest_check(alarms == 1);
    return 0;
}
