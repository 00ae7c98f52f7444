//# expect: resumes
//# show: task has_execed=true
/* A program that was executed: its parent can no longer change its process group. That the flag is the same is seen from
 * outside, in field 9 of stat; here is seen that argv, environ and the auxiliary vector are what they were. */
#include "../guest.h"
#include <sys/auxv.h>

extern char **environ;

int main(int argc, char **argv)
{
    char command[256] = {0}, link[PATH_MAX] = {0};
    unsigned long page = getauxval(AT_PAGESZ), random = getauxval(AT_RANDOM), entry = getauxval(AT_ENTRY);
    unsigned char bytes[16];
    memcpy(bytes, (void *)random, 16);

    guest_checkpoint_here();

    guest_check(argc == 1 && strstr(argv[0], "execed") && !strcmp(getenv("LANG"), "C"));
    int fd = open("/proc/self/cmdline", O_RDONLY);
    guest_check(read(fd, command, sizeof command - 1) > 0 && !strcmp(command, argv[0]), "%s", command);
    guest_check(getauxval(AT_PAGESZ) == page && getauxval(AT_RANDOM) == random && getauxval(AT_ENTRY) == entry);
    guest_check(!memcmp(bytes, (void *)random, 16));
    uint64_t vector[128] = {0};
    fd = open("/proc/self/auxv", O_RDONLY);
    guest_check(read(fd, vector, sizeof vector) > 0);
    for (int i = 0; vector[i]; i += 2)
        guest_check(vector[i] == AT_HWCAP /* glibc's own */ || getauxval(vector[i]) == vector[i + 1], "entry %lu", (unsigned long)vector[i]);
    guest_check(readlink("/proc/self/exe", link, sizeof link - 1) > 0);
    if (getuid() == 0)
        guest_check(strstr(link, "execed") != NULL, "%s", link);
    return 0;
}
