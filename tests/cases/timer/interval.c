//# expect: resumes
//# show: timer interval_ns=7000000000
/* The three interval timers: what remained, what they repeat, and that they fire. */
#include "../guest.h"
#include <signal.h>
#include <sys/time.h>

static volatile sig_atomic_t alarms, profiles;

static void caught(int signal)
{
    if (signal == SIGALRM)
        alarms++;
    else
        profiles++;
}

int main(void)
{
    struct itimerval real = {{7, 0}, {500, 250000}}, user = {{3, 1000}, {100, 0}}, profile = {{0, 0}, {200, 0}}, now;
    signal(SIGALRM, caught);
    signal(SIGPROF, caught);
    guest_check(setitimer(ITIMER_REAL, &real, NULL) == 0 && setitimer(ITIMER_VIRTUAL, &user, NULL) == 0 &&
                setitimer(ITIMER_PROF, &profile, NULL) == 0);

    guest_checkpoint_here();

    guest_check(getitimer(ITIMER_REAL, &now) == 0);
    guest_check(now.it_interval.tv_sec == 7 && now.it_interval.tv_usec == 0);
    guest_check(now.it_value.tv_sec <= 500 && now.it_value.tv_sec > 440, "%ld", now.it_value.tv_sec);
    guest_check(getitimer(ITIMER_VIRTUAL, &now) == 0);
    guest_check(now.it_interval.tv_sec == 3 && now.it_interval.tv_usec == 1000);
    guest_check(now.it_value.tv_sec <= 100 && now.it_value.tv_sec > 90, "%ld", now.it_value.tv_sec);
    guest_check(getitimer(ITIMER_PROF, &now) == 0);
    guest_check(now.it_interval.tv_sec == 0 && now.it_interval.tv_usec == 0);
    guest_check(now.it_value.tv_sec <= 200 && now.it_value.tv_sec > 190, "%ld", now.it_value.tv_sec);
    real = (struct itimerval){{0, 20000}, {0, 20000}};
    guest_check(setitimer(ITIMER_REAL, &real, NULL) == 0);
    for (int i = 0; i < 5000 && alarms < 3; i++)
        usleep(1000);
    guest_check(alarms >= 3 && profiles == 0);
    return 0;
}
