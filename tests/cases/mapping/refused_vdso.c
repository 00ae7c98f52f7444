//# expect: refused "vdso"
/* A program that has unmapped its vdso is named, and refused. */
#include "../guest.h"

int main(void)
{
    char line[512];
    unsigned long start = 0, end = 0;
    FILE *maps = fopen("/proc/self/maps", "r");
    while (fgets(line, sizeof line, maps))
        if (strstr(line, "[vdso]"))
            guest_check(sscanf(line, "%lx-%lx", &start, &end) == 2);
    fclose(maps);
    guest_check(start && munmap((void *)start, end - start) == 0);

    guest_announce();
    /* guest_wait() looks at the clock, through the vdso. */
    while (!guest_told())
        usleep(1000);

    guest_check(getpid() > 0, "the refusal has hurt");
    return 0;
}
