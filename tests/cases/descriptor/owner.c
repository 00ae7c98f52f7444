//# expect: resumes
//# show: descriptor owner_signal=40
/* Who gets the signals of a description (F_SETOWN, F_SETSIG), and O_ASYNC that makes them come. */
#include "../guest.h"
#include <signal.h>

static volatile sig_atomic_t caught;

static void handler(int signal)
{
    caught = signal;
}

int main(void)
{
    int ends[2], group[2], signal_alone[2];
    signal(40, handler);
    guest_check(pipe(ends) == 0 && pipe(group) == 0 && pipe(signal_alone) == 0);
    struct f_owner_ex own = {F_OWNER_PID, getpid()}, found;
    guest_check(fcntl(ends[0], F_SETOWN_EX, &own) == 0 && fcntl(ends[0], F_SETSIG, 40) == 0);
    guest_check(fcntl(ends[0], F_SETFL, O_ASYNC) == 0);
    guest_check(fcntl(group[0], F_SETOWN, -getpgrp()) == 0);
    guest_check(fcntl(signal_alone[0], F_SETSIG, 41) == 0);

    guest_checkpoint_here();

    guest_check(fcntl(ends[0], F_GETOWN_EX, &found) == 0);
    guest_check(found.type == F_OWNER_PID && found.pid == getpid(), "type %d pid %d", found.type, found.pid);
    guest_check(fcntl(ends[0], F_GETSIG) == 40 && (fcntl(ends[0], F_GETFL) & O_ASYNC));
    guest_check(fcntl(group[0], F_GETOWN_EX, &found) == 0 && found.type == F_OWNER_PGRP);
    guest_check(fcntl(group[0], F_GETSIG) == 0);
    guest_check(fcntl(signal_alone[0], F_GETSIG) == 41 && fcntl(signal_alone[0], F_GETOWN) == 0);
    guest_check(write(ends[1], "x", 1) == 1);
    for (int i = 0; i < 1000 && !caught; i++)
        usleep(1000);
    guest_check(caught == 40);
    return 0;
}
