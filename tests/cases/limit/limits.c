//# expect: resumes
//# show: limit soft=17 hard=33
/* Resource limits, some of them just above what the process has in use, or below what the loader needs. */
#include "../guest.h"
#include <sys/resource.h>

int main(void)
{
    struct rlimit before[RLIM_NLIMITS], now;
    char *big = guest_map(4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
    guest_fill(big, 4096 * GUEST_PAGE, 1);
    int high = dup2(0, 30);
    guest_check(high == 30);
    static const struct { int resource; rlim_t soft, hard; } set[] = {
        {RLIMIT_NOFILE, 17, 33},       {RLIMIT_CORE, 0, 123456},          {RLIMIT_FSIZE, 200000, 300000},
        {RLIMIT_DATA, 18 << 20, 1 << 30}, {RLIMIT_AS, 24 << 20, 1ul << 40}, {RLIMIT_STACK, 1 << 20, 1 << 24},
        {RLIMIT_MEMLOCK, 0, 0},        {RLIMIT_CPU, 100, 200},            {RLIMIT_SIGPENDING, 3, 5},
        {RLIMIT_NICE, 0, 0},           {RLIMIT_MSGQUEUE, 1, 2},           {RLIMIT_NPROC, 1, 100},
    };
    for (size_t i = 0; i < sizeof set / sizeof *set; i++) {
        struct rlimit value = {set[i].soft, set[i].hard};
        guest_check(setrlimit(set[i].resource, &value) == 0, "resource %d", set[i].resource);
    }
    for (int i = 0; i < RLIM_NLIMITS; i++)
        guest_check(getrlimit(i, &before[i]) == 0);

    guest_checkpoint_here();

    for (int i = 0; i < RLIM_NLIMITS; i++)
        guest_check(getrlimit(i, &now) == 0 && !memcmp(&now, &before[i], sizeof now), "resource %d: %lx %lx", i,
                    now.rlim_cur, now.rlim_max);
    guest_check(mmap(NULL, 8 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED, "RLIMIT_AS");
    guest_check(dup(0) == 3 && dup2(0, 20) == -1, "RLIMIT_NOFILE");
    guest_check(fcntl(30, F_GETFD) == 0 && guest_filled(big, 4096 * GUEST_PAGE, 1));
    return 0;
}
