//# expect: resumes
//# needs: config ANON_VMA_NAME
//# show: mapping name=~the
/* Names of anonymous memory (PR_SET_VMA_ANON_NAME). That they are the same afterwards is seen in /proc/PID/maps. */
#include "../guest.h"

#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif

int main(void)
{
    char *one = guest_map(16, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
    char *two = guest_map(16, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS);
    guest_check(prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, one, 8 * GUEST_PAGE, "the first half") == 0);
    guest_check(prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, two, 16 * GUEST_PAGE, "shared words") == 0);
    guest_fill(one, 16 * GUEST_PAGE, 1);

    guest_checkpoint_here();

    guest_check(guest_filled(one, 16 * GUEST_PAGE, 1));
    char line[512];
    int found = 0;
    FILE *maps = fopen("/proc/self/maps", "r");
    while (fgets(line, sizeof line, maps))
        found += !!strstr(line, "[anon:the first half]") + !!strstr(line, "[anon_shmem:shared words]");
    guest_check(found == 2, "%d", found);
    return 0;
}
