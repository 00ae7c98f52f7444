//# expect: resumes
//# needs: root
//# flavours: alone running killed again twice exec namespace
//# tasks: 2
/* Two tasks in control groups of their own, one below the other. */
#include "../tree.h"

static char place[PATH_MAX]; /* where the hierarchy of version 2 is mounted */
static char outer[64], inner[128];

static void find_place(void)
{
    char line[4096];
    FILE *mounts = fopen("/proc/self/mountinfo", "re");
    guest_check(mounts);
    while (!place[0] && fgets(line, sizeof line, mounts))
        if (strstr(line, " - cgroup2 "))
            guest_check(sscanf(line, "%*s %*s %*s / %4000s", place) == 1);
    fclose(mounts);
    if (!place[0])
        guest_skip("no cgroup2 is mounted");
}

static const char *file(const char *group, const char *name)
{
    static char path[2 * PATH_MAX];
    snprintf(path, sizeof path, "%s%s/%s", place, group, name);
    return path;
}

static void join(const char *group)
{
    int fd = open(file(group, "cgroup.procs"), O_WRONLY | O_CLOEXEC);
    guest_check(fd >= 0 && write(fd, "0", 1) == 1 && close(fd) == 0, "%s", group);
}

static bool is_in(const char *group)
{
    char text[8192] = {0}, line[256];
    int fd = open("/proc/self/cgroup", O_RDONLY | O_CLOEXEC);
    guest_check(fd >= 0 && read(fd, text, sizeof text - 1) > 0 && close(fd) == 0);
    snprintf(line, sizeof line, "0::%s\n", group);
    return strstr(text, line);
}

static void below(void)
{
    join(inner);
    tree_checkpoint_here();
    guest_check(is_in(inner));
    join("");
}

int main(void)
{
    find_place();
    snprintf(outer, sizeof outer, "/ckpt-case-%d", (int)getpid());
    snprintf(inner, sizeof inner, "%s/inner", outer);
    guest_check(mkdir(file(outer, ""), 0755) == 0 && mkdir(file(inner, ""), 0755) == 0);
    pid_t member = tree_start("below", below);
    tree_gather("below");
    join(outer);

    guest_checkpoint_here();

    guest_check(is_in(outer));
    join("");
    tree_finish(member, "below");
    /* Others may be in them still. */
    rmdir(file(inner, ""));
    rmdir(file(outer, ""));
    return 0;
}
