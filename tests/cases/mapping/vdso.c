//# expect: resumes
//# show: mapping backing=vdso
/* The kernel's own pages: the vdso stands where it stood, and gives the right time without a system call. */
#include "../guest.h"
#include <sched.h>
#include <sys/auxv.h>
#include <sys/time.h>

static bool is_mapped(unsigned long address, const char *name)
{
    char line[512];
    unsigned long start, end;
    bool found = false;
    FILE *maps = fopen("/proc/self/maps", "r");
    while (fgets(line, sizeof line, maps))
        if (sscanf(line, "%lx-%lx", &start, &end) == 2 && start == address && strstr(line, name))
            found = true;
    fclose(maps);
    return found;
}

int main(void)
{
    unsigned long vdso = getauxval(AT_SYSINFO_EHDR);
    guest_check(vdso && is_mapped(vdso, "[vdso]"));
    struct timespec before, direct, through;
    clock_gettime(CLOCK_REALTIME, &before);

    guest_checkpoint_here();

    guest_check(getauxval(AT_SYSINFO_EHDR) == vdso && is_mapped(vdso, "[vdso]"));
    static const clockid_t clocks[] = {CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_MONOTONIC_RAW};
    for (int i = 0; i < 4; i++) {
        guest_check(syscall(SYS_clock_gettime, clocks[i], &direct) == 0);
        guest_check(clock_gettime(clocks[i], &through) == 0);
        long ms = (through.tv_sec - direct.tv_sec) * 1000 + (through.tv_nsec - direct.tv_nsec) / 1000000;
        guest_check(ms >= 0 && ms < 2000, "clock %d is off by %ld ms", clocks[i], ms);
    }
    clock_gettime(CLOCK_REALTIME, &through);
    guest_check(through.tv_sec >= before.tv_sec);
    struct timeval now;
    /* The clock of time(2) is a tick behind, and so may be in the second before. */
    guest_check(gettimeofday(&now, NULL) == 0 && time(NULL) >= now.tv_sec - 1);
    guest_check(sched_getcpu() >= 0);
    return 0;
}
