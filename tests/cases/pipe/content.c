//# expect: resumes
//# show: pipe content_bytes=70000 capacity_bytes=131072
/* Pipes with what is in them, their capacity, and packets of O_DIRECT. */
#include "../guest.h"
#include <sys/ioctl.h>

int main(void)
{
    int full[2], packets[2], empty[2], available;
    static char text[70000], got[70000];
    guest_fill(text, sizeof text, 1);
    guest_check(pipe(full) == 0 && pipe2(packets, O_DIRECT) == 0 && pipe2(empty, O_NONBLOCK | O_CLOEXEC) == 0);
    guest_check(fcntl(full[0], F_SETPIPE_SZ, 131072) == 131072 && fcntl(empty[0], F_SETPIPE_SZ, 4096) == 4096);
    guest_check(write(full[1], text, sizeof text) == sizeof text);
    guest_check(write(packets[1], "one", 3) == 3 && write(packets[1], "second", 6) == 6 && write(packets[1], "3", 1) == 1);

    guest_checkpoint_here();

    guest_check(fcntl(full[0], F_GETPIPE_SZ) == 131072 && fcntl(empty[1], F_GETPIPE_SZ) == 4096);
    guest_check(ioctl(full[0], FIONREAD, &available) == 0 && available == sizeof text, "%d", available);
    for (size_t have = 0; have < sizeof text;) {
        ssize_t part = read(full[0], got + have, sizeof got - have);
        guest_check(part > 0);
        have += part;
    }
    guest_check(!memcmp(text, got, sizeof text));
    guest_check(read(packets[0], got, 100) == 3 && !memcmp(got, "one", 3));
    guest_check(read(packets[0], got, 2) == 2 && !memcmp(got, "se", 2)); /* the rest of a packet is lost */
    guest_check(read(packets[0], got, 100) == 1 && got[0] == '3');
    guest_check(read(empty[0], got, 1) == -1 && errno == EAGAIN);
    guest_check(write(empty[1], "x", 1) == 1 && read(empty[0], got, 1) == 1);
    guest_check((fcntl(packets[1], F_GETFL) & O_DIRECT) && (fcntl(empty[0], F_GETFL) & O_NONBLOCK));
    return 0;
}
