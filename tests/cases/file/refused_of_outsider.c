//# expect: refused "which is not of the tree"
/* A file in /proc of a process that is not saved: its id may be another's by then. It is named, and refused. */
#include "../guest.h"

int main(void)
{
    char path[64], text[16] = "";
    snprintf(path, sizeof path, "/proc/%d/stat", getppid());
    int fd = open(path, O_RDONLY);
    guest_check(fd >= 0);

    guest_checkpoint_here();

    guest_check(pread(fd, text, sizeof text - 1, 0) > 0 && atoi(text) == getppid(), "the refusal has hurt");
    return 0;
}
