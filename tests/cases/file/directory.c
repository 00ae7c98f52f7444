//# expect: resumes
/* A directory in the middle of being read: every name comes exactly once. */
#include "../guest.h"
#include <dirent.h>

#define COUNT 300

int main(void)
{
    static int seen[COUNT];
    char name[64];
    guest_check(mkdir(guest_path("many"), 0777) == 0);
    for (int i = 0; i < COUNT; i++) {
        snprintf(name, sizeof name, "many/%d", i);
        close(guest_new_file(name, ""));
    }
    DIR *folder = opendir(guest_path("many"));
    guest_check(folder != NULL);
    /* by hand, in small portions, so that little of it is in the library's buffer */
    char buffer[512];
    int total = 0, portions = 0;
    for (;; portions++) {
        if (portions == 5)
            guest_checkpoint_here();
        long length = syscall(SYS_getdents64, dirfd(folder), buffer, sizeof buffer);
        guest_check(length >= 0);
        if (length == 0)
            break;
        for (long at = 0; at < length;) {
            struct dirent64 *entry = (struct dirent64 *)(buffer + at);
            at += entry->d_reclen;
            if (entry->d_name[0] != '.')
                seen[atoi(entry->d_name)]++, total++;
        }
    }
    guest_check(portions > 10 && total == COUNT, "%d names in %d portions", total, portions);
    for (int i = 0; i < COUNT; i++)
        guest_check(seen[i] == 1, "%d came %d times", i, seen[i]);
    return 0;
}
