//# expect: resumes
/* A process that wrote over its argv, as servers do to show their state, and moved it with PR_SET_MM. */
#include "../guest.h"

int main(int argc, char **argv)
{
    static char title[64] = "guest: a title of its own";
    /* over the strings of argv and environ, which lie one behind the other */
    memset(argv[0], 0, strlen(argv[0]));
    strcpy(argv[0], "short");
    if (getuid() == 0) { /* CAP_SYS_RESOURCE */
        prctl(PR_SET_MM, PR_SET_MM_ARG_START, title, 0, 0);
        prctl(PR_SET_MM, PR_SET_MM_ARG_END, title + sizeof title, 0, 0);
    }
    char before[256] = {0}, after[256] = {0};
    int fd = open("/proc/self/cmdline", O_RDONLY);
    guest_check(read(fd, before, sizeof before) > 0 && close(fd) == 0);

    guest_checkpoint_here();

    fd = open("/proc/self/cmdline", O_RDONLY);
    guest_check(read(fd, after, sizeof after) > 0 && !memcmp(before, after, sizeof before), "%s, was %s", after, before);
    return 0;
}
