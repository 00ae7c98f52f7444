//# expect: resumes
//# needs: capability sys_admin
//# tasks: 2
//# flavours: alone running killed again twice exec namespace
//# show: namespace kind=mount own_sysfs=true
//# may-differ: fd/*/mnt_id a copy of a mount has another number
/* A tree as ip-netns(8) starts it: in a network namespace, with the /sys of that in a mount namespace. */
#include "../tree.h"
#include <dirent.h>
#include <sys/mount.h>

/* Whether /sys shows a network with a loopback alone. */
static bool is_alone(void)
{
    struct dirent *entry;
    int count = 0;
    DIR *folder = opendir("/sys/class/net");
    guest_check(folder);
    while ((entry = readdir(folder)))
        if (entry->d_name[0] != '.')
            count += strcmp(entry->d_name, "lo") ? 100 : 1;
    closedir(folder);
    return count == 1;
}

static void member(void)
{
    tree_checkpoint_here();
    guest_check(is_alone());
    tree_tell("seen");
    tree_await("mounted");
    guest_check(access("/sys/kernel/inside", F_OK) == 0);
}

int main(void)
{
    guest_check(unshare(CLONE_NEWNS | CLONE_NEWNET) == 0);
    guest_check(mount("", "/", "none", MS_SLAVE | MS_REC, NULL) == 0);
    guest_check(umount2("/sys", MNT_DETACH) == 0 && mount("ckpt", "/sys", "sysfs", 0, NULL) == 0);
    if (!is_alone())
        guest_skip("a new network namespace has more than a loopback here");
    pid_t child = tree_start("member", member);
    tree_gather("member");
    guest_checkpoint_here();
    guest_check(is_alone());
    tree_await("seen");
    /* What is mounted now is seen by all who live here. */
    guest_check(mount("ckpt", "/sys/kernel", "tmpfs", 0, NULL) == 0 && mkdir("/sys/kernel/inside", 0700) == 0);
    tree_tell("mounted");
    tree_finish(child, "member");
    guest_check(umount("/sys/kernel") == 0);
    return 0;
}
