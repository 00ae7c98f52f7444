//# expect: resumes
//# tasks: 4
/* A descriptor table that two tasks share (CLONE_FILES): what one opens or closes is open or closed in the other, and not in
 * a third that was forked. */
#include "../tree.h"

static int file;

static void sharer(void)
{
    tree_checkpoint_here();
    tree_await("opened");
    char byte;
    guest_check(read(30, &byte, 1) == 1 && byte == 'x');
    guest_check(fcntl(file, F_GETFD) == -1 && errno == EBADF, "the other has closed it");
    guest_check(open(guest_path("file"), O_RDONLY) >= 0 && dup2(30, 31) == 31);
    tree_tell("duplicated");
}

static void owner(void)
{
    pid_t child = tree_clone("sharer", CLONE_FILES | SIGCHLD, sharer);
    tree_checkpoint_here();
    /* The original and its copies make one each. */
    char name[48];
    snprintf(name, sizeof name, "new.%s", guest_who);
    int fd = guest_new_file(name, "xyz");
    guest_check(dup2(fd, 30) == 30 && close(file) == 0);
    tree_tell("opened");
    tree_await("duplicated");
    char byte;
    guest_check(read(31, &byte, 1) == 1 && byte == 'y');
    tree_finish(child, "sharer");
}

static void forked(void)
{
    tree_checkpoint_here();
    tree_await("duplicated");
    char byte;
    guest_check(fcntl(31, F_GETFD) == -1 && fcntl(30, F_GETFD) == -1);
    guest_check(read(file, &byte, 1) == 1 && byte == 'f', "it is still open here");
}

int main(void)
{
    file = guest_new_file("file", "file");
    pid_t one = tree_start("owner", owner), two = tree_start("forked", forked);
    tree_gather("owner", "sharer", "forked");

    guest_checkpoint_here();

    tree_finish(one, "owner");
    tree_finish(two, "forked");
    return 0;
}
