//# expect: resumes
//# tasks: 2
//# may-differ: fd/4/ino only its normalized form, which depends on its name
//# may-differ: fd/5/link another directory has its name, so the copy has another one
//# may-differ: fd/5/ino only its normalized form, which depends on its name
/* Directories that were deleted: open, worked in by two tasks, one in the other, and files that were deleted with them;
 * a name that another directory has now. */
#include "../tree.h"

static void expect_gone(int fd, const char *who)
{
    struct stat now;
    guest_check(fstat(fd, &now) == 0 && S_ISDIR(now.st_mode) && now.st_nlink == 0, "%s", who);
    guest_check(openat(fd, "new", O_CREAT | O_WRONLY, 0600) == -1 && errno == ENOENT, "%s", who);
}

static void expect_label(const char *link, const char *name)
{
    char label[PATH_MAX], expected[PATH_MAX + 128];
    ssize_t length = readlink(link, label, sizeof label - 1);
    label[length < 0 ? 0 : length] = 0;
    snprintf(expected, sizeof expected, "%s/%s (deleted)", guest_home, name);
    guest_check(length > 0 && !strcmp(label, expected), "%.400s", label);
}

static void dweller(void)
{
    struct stat own, upper;
    char place[64];
    guest_check(chdir("outer/inner") == 0);
    tree_tell("inside");
    tree_checkpoint_here();
    guest_check(getcwd(place, sizeof place) == NULL && errno == ENOENT);
    expect_label("/proc/self/cwd", "outer/inner");
    guest_check(stat(".", &own) == 0 && fstat(4, &upper) == 0 && own.st_ino == upper.st_ino);
    guest_check(stat("..", &upper) == 0 && fstat(3, &own) == 0 && own.st_ino == upper.st_ino, "it is not in the other");
}

int main(void)
{
    struct stat now, other;
    guest_check(mkdir("outer", 0700) == 0 && mkdir("outer/inner", 0500) == 0 && mkdir("again", 0700) == 0);
    int outer = open("outer", O_RDONLY | O_DIRECTORY), inner = open("outer/inner", O_PATH | O_DIRECTORY);
    int again = open("again", O_RDONLY | O_DIRECTORY), file = guest_new_file("outer/file", "text");
    guest_check(outer == 3 && inner == 4 && again == 5 && file == 6);
    pid_t child = tree_start("dweller", dweller);
    tree_await("inside");
    guest_check(unlink("outer/file") == 0 && rmdir("outer/inner") == 0 && rmdir("outer") == 0);
    guest_check(rmdir("again") == 0 && mkdir("again", 0700) == 0);
    tree_gather("dweller");

    guest_checkpoint_here();

    expect_gone(outer, "outer");
    expect_gone(again, "again");
    guest_check(fstat(inner, &now) == 0 && S_ISDIR(now.st_mode) && now.st_nlink == 0 && (now.st_mode & 0777) == 0500);
    expect_label("/proc/self/fd/3", "outer");
    expect_label("/proc/self/fd/4", "outer/inner");
    expect_label("/proc/self/fd/6", "outer/file");
    guest_check(fstat(again, &now) == 0 && stat(guest_path("again"), &other) == 0 && now.st_ino != other.st_ino);
    guest_check(access(guest_path("outer"), F_OK) == -1);
    guest_check(openat(outer, "..", O_RDONLY) >= 0 && openat(outer, "inner", O_RDONLY) == -1 && errno == ENOENT);
    tree_finish(child, "dweller");
    return 0;
}
