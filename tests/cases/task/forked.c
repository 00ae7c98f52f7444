//# expect: resumes
//# flavours: alone running killed again
//# show: task has_execed=false
/* A process that has not called execve since its fork: its parent can still put it into another process group. */
#include "../guest.h"

int main(void)
{
    guest_become_child();

    guest_checkpoint_here();

    char line[1024] = {0};
    unsigned long flags = 0;
    int fd = open("/proc/self/stat", O_RDONLY);
    guest_check(read(fd, line, sizeof line - 1) > 0);
    guest_check(sscanf(strrchr(line, ')') + 2, "%*c %*d %*d %*d %*d %*d %lu", &flags) == 1);
    guest_check(flags & 0x40, "PF_FORKNOEXEC: %lx", flags);
    return 0;
}
