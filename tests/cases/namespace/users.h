/* What user namespaces are made with. */
#ifndef USERS_H
#define USERS_H

#include "../tree.h"
#include <grp.h>

__attribute__((unused)) static bool users_write(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool written = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    if (fd >= 0)
        close(fd);
    return written;
}

/* As unshare --map-root-user does, with some kinds more. */
__attribute__((unused)) static void users_unshare(int flags)
{
    char users[64], groups[64];
    snprintf(users, sizeof users, "0 %d 1", (int)getuid());
    snprintf(groups, sizeof groups, "0 %d 1", (int)getgid());
    if (unshare(CLONE_NEWUSER | flags) < 0)
        guest_skip("this user may not make user namespaces");
    guest_check(users_write("/proc/self/setgroups", "deny"));
    guest_check(users_write("/proc/self/uid_map", users) && users_write("/proc/self/gid_map", groups));
}

/* Who it is there, and what it may. */
__attribute__((unused)) static void users_check(const char *host)
{
    char name[65] = {0};
    guest_check(getuid() == 0 && geteuid() == 0 && getgid() == 0);
    guest_check(setgroups(0, NULL) < 0 && errno == EPERM);
    guest_check(gethostname(name, sizeof name - 1) == 0 && !strcmp(name, host), "%s", name);
    guest_check(sethostname("renamed", 7) == 0 && sethostname(host, strlen(host)) == 0);
}

#endif
