//# expect: resumes
//# flavours: alone running killed again exec user
//# show: lock kind=lease
/* Leases: a reader's and a writer's; that one which somebody breaks sends its signal. */
#include "../guest.h"
#include <signal.h>

static volatile sig_atomic_t broken;

static void handler(int signal)
{
    broken++;
}

int main(void)
{
    signal(SIGIO, handler);
    close(guest_new_file("read", "x"));
    int reader = open(guest_path("read"), O_RDONLY), writer = guest_new_file("write", "x");
    guest_check(fcntl(reader, F_SETLEASE, F_RDLCK) == 0 && fcntl(writer, F_SETLEASE, F_WRLCK) == 0);

    guest_checkpoint_here();

    guest_check(broken == 0, "somebody opened the file");
    guest_check(fcntl(reader, F_GETLEASE) == F_RDLCK && fcntl(writer, F_GETLEASE) == F_WRLCK);
    guest_check(open(guest_path("read"), O_WRONLY | O_NONBLOCK) == -1 && errno == EWOULDBLOCK);
    for (int i = 0; i < 1000 && !broken; i++)
        usleep(1000);
    guest_check(broken == 1);
    guest_check(fcntl(reader, F_SETLEASE, F_UNLCK) == 0 && fcntl(writer, F_SETLEASE, F_UNLCK) == 0);
    return 0;
}
