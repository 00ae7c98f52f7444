//# expect: resumes
/* Character devices that have no state. */
#include "../guest.h"

int main(void)
{
    static const char *const names[] = {"/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"};
    int fds[5];
    for (int i = 0; i < 5; i++)
        guest_check((fds[i] = open(names[i], i == 2 ? O_WRONLY | O_NONBLOCK : O_RDWR)) >= 0, "%s", names[i]);

    guest_checkpoint_here();

    char bytes[64], more[64];
    guest_check(read(fds[0], bytes, 64) == 0 && write(fds[0], bytes, 64) == 64);
    memset(bytes, 1, 64);
    guest_check(read(fds[1], bytes, 64) == 64 && guest_zero(bytes, 64));
    guest_check(write(fds[2], bytes, 1) == -1 && errno == ENOSPC);
    guest_check(read(fds[3], bytes, 64) == 64 && read(fds[4], more, 64) == 64 && memcmp(bytes, more, 64));
    guest_check(!guest_zero(bytes, 64));
    return 0;
}
