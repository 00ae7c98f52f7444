//# expect: resumes
//# needs: root
//# flavours: alone running killed again exec twice
//# show: credential real=1001 effective=1002 saved=1003 filesystem=1004
/* Every id of user and group, supplementary groups, and what becomes of files. */
#include "../guest.h"
#include <grp.h>
#include <sys/fsuid.h>

int main(void)
{
    gid_t groups[] = {5, 7, 70000, 4000000000u}, found[8];
    guest_check(setgroups(4, groups) == 0);
    guest_check(setresgid(2001, 2002, 2003) == 0);
    setfsgid(2004);
    /* keeps its capabilities, or it could not take another fsuid */
    guest_check(prctl(PR_SET_KEEPCAPS, 1) == 0);
    guest_check(setresuid(1001, 1002, 1003) == 0);
    guest_check(prctl(PR_SET_DUMPABLE, 1) == 0);

    /* fsuid is one of the others, or the privilege is needed: the capability is permitted, not effective */
    uint32_t head[2] = {0x20080522, 0}, data[6];
    guest_check(syscall(SYS_capget, head, data) == 0);
    data[0] = data[1];
    data[3] = data[4];
    guest_check(syscall(SYS_capset, head, data) == 0);
    setfsuid(1004);
    guest_check(prctl(PR_SET_KEEPCAPS, 0) == 0 && prctl(PR_SET_DUMPABLE, 1) == 0);

    guest_checkpoint_here();

    uid_t ids[3];
    guest_check(getresuid(&ids[0], &ids[1], &ids[2]) == 0);
    guest_check(ids[0] == 1001 && ids[1] == 1002 && ids[2] == 1003);
    guest_check(setfsuid(-1) == 1004 && setfsgid(-1) == 2004);
    guest_check(getresgid(&ids[0], &ids[1], &ids[2]) == 0);
    guest_check(ids[0] == 2001 && ids[1] == 2002 && ids[2] == 2003);
    guest_check(getgroups(8, found) == 4 && !memcmp(groups, found, sizeof groups));
    int fd = guest_new_file(guest_who, "mine");
    struct stat status;
    guest_check(fstat(fd, &status) == 0 && status.st_uid == 1004 && status.st_gid == 2004);
    return 0;
}
