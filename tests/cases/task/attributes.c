//# expect: resumes
//# show: task name=a)_(_b child_subreaper=true
/* What belongs to the process as a whole: name, personality, subreaper, badness, what a core dump would hold, huge pages
 * switched off, the time-stamp counter, membarrier. */
#include "../guest.h"
#include <linux/membarrier.h>
#include <sys/personality.h>

static void put(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY);
    guest_check(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text), "%s", path);
    close(fd);
}

static bool reads(const char *path, const char *text)
{
    char found[64] = {0};
    int fd = open(path, O_RDONLY);
    bool same = fd >= 0 && read(fd, found, sizeof found - 1) > 0 && !strcmp(found, text);
    close(fd);
    return same;
}

int main(void)
{
    guest_check(prctl(PR_SET_NAME, "a)_(_b") == 0);
    guest_check(personality(ADDR_NO_RANDOMIZE | ADDR_COMPAT_LAYOUT) >= 0);
    guest_check(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
    put("/proc/self/oom_score_adj", "123");
    put("/proc/self/coredump_filter", "0x7f");
    guest_check(prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0) == 0);
    guest_check(syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0);

    guest_checkpoint_here();

    char name[16];
    int reaps = 0;
    guest_check(prctl(PR_GET_NAME, name) == 0 && !strcmp(name, "a)_(_b"), "%s", name);
    guest_check(personality(0xffffffff) == (ADDR_NO_RANDOMIZE | ADDR_COMPAT_LAYOUT), "%x", personality(0xffffffff));
    guest_check(prctl(PR_GET_CHILD_SUBREAPER, &reaps) == 0 && reaps == 1);
    guest_check(reads("/proc/self/oom_score_adj", "123\n") && reads("/proc/self/coredump_filter", "0000007f\n"));
    guest_check(prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0) == 1);
    guest_check(syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) == 0, "it is not registered");
    return 0;
}
