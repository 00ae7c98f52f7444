//# expect: refused "of messages (mq_notify)"
/* Who is told of a message by a signal with a value, which Linux tells nobody, is named. */
#include "../guest.h"
#include <mqueue.h>
#include <signal.h>

static volatile sig_atomic_t told;

static void tell(int signal, siginfo_t *info, void *context)
{
    (void)signal, (void)context;
    told = info->si_value.sival_int;
}

int main(void)
{
    char name[64];
    struct sigaction action = {.sa_sigaction = tell, .sa_flags = SA_SIGINFO};
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1, .sigev_value.sival_int = 7};
    snprintf(name, sizeof name, "/notified-%d", (int)getpid());
    mqd_t queue = mq_open(name, O_WRONLY | O_CREAT | O_EXCL, 0600, NULL);
    guest_check(queue >= 0 && mq_unlink(name) == 0 && sigaction(SIGUSR1, &action, NULL) == 0);
    guest_check(mq_notify(queue, &event) == 0);

    guest_checkpoint_here();

    guest_check(mq_send(queue, "x", 1, 0) == 0 && told == 7, "the refusal has hurt");
    return 0;
}
