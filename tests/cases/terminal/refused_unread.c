//# expect: refused "holds 5 bytes that nobody has read"
/* Bytes on their way through a pseudo-terminal are named, and are there still. */
#include "../guest.h"

int main(void)
{
    char found[8] = {0};
    int master = posix_openpt(O_RDWR | O_NOCTTY);
    guest_check(master >= 0 && unlockpt(master) == 0);
    int slave = open(ptsname(master), O_RDWR | O_NOCTTY);
    guest_check(slave >= 0 && write(slave, "shown", 5) == 5);

    guest_checkpoint_here();

    guest_check(read(master, found, sizeof found) == 5 && !strcmp(found, "shown"), "the refusal has hurt: `%s`", found);
    return 0;
}
