//# expect: resumes
//# flavours: alone killed again user
/* A directory of 30,000 names in the middle of being read: every name comes exactly once. */
#include "../guest.h"
#include <dirent.h>

enum { COUNT = 30000 };

int main(void)
{
    static unsigned char seen[COUNT];
    static char buffer[32768];
    char name[32];
    int total = 0, folder;
    guest_check(mkdir("names", 0777) == 0 && (folder = open("names", O_RDONLY | O_DIRECTORY)) >= 0);
    for (int i = 0; i < COUNT; i++) {
        snprintf(name, sizeof name, "%d", i);
        guest_check(mknodat(folder, name, S_IFREG | 0600, 0) == 0, "%s", name);
    }
    for (int portions = 0;; portions++) {
        if (portions == 10)
            guest_checkpoint_here();
        long length = syscall(SYS_getdents64, folder, buffer, sizeof buffer);
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
    guest_check(total == COUNT, "%d names", total);
    for (int i = 0; i < COUNT; i++)
        guest_check(seen[i] == 1, "%d came %d times", i, seen[i]);
    return 0;
}
