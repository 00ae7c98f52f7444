//# expect: resumes
//# flavours: alone running killed again exec namespace twice
//# tasks: 4
/* Memory files that tasks have in common: through one description, mapped by one and read by the other, passed on over
 * execve, and mapped where its maker has no descriptor of it any longer. */
#include "../tree.h"

enum { PASSED = 25 };

static int fd;
static char *mapped;

static void by_descriptor(void)
{
    char text[8] = {0};
    guest_check(munmap(mapped, GUEST_PAGE) == 0);
    tree_checkpoint_here();
    tree_await("written");
    guest_check(pread(fd, text, 5, 100) == 5 && !strcmp(text, "after"), "%s", text);
    guest_check(pwrite(fd, "reply", 5, 200) == 5);
    tree_tell("replied");
}

static void by_mapping(void)
{
    guest_check(close(fd) == 0 && close(PASSED) == 0);
    tree_checkpoint_here();
    tree_await("replied");
    guest_check(!memcmp(mapped + 200, "reply", 5) && !memcmp(mapped + 100, "after", 5));
    guest_check(!memcmp(mapped, "before", 6));
}

int main(void)
{
    if (tree_is("executed")) {
        char *own = mmap(NULL, GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, PASSED, 0);
        guest_check(own != MAP_FAILED && !memcmp(own, "before", 6));
        tree_checkpoint_here();
        tree_await("replied");
        guest_check(!memcmp(own + 200, "reply", 5));
        struct stat status;
        guest_check(fstat(PASSED, &status) == 0 && status.st_size == GUEST_PAGE);
        tree_done();
    }
    fd = memfd_create("in common", MFD_CLOEXEC);
    guest_check(fd >= 0 && ftruncate(fd, GUEST_PAGE) == 0 && dup2(fd, PASSED) == PASSED);
    mapped = mmap(NULL, GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    guest_check(mapped != MAP_FAILED);
    memcpy(mapped, "before", 6);
    pid_t one = tree_start("descriptor", by_descriptor), two = tree_start("mapping", by_mapping);
    pid_t three = tree_start_exec("executed");
    tree_gather("descriptor", "mapping", "executed");
    guest_check(close(fd) == 0 && close(PASSED) == 0);

    guest_checkpoint_here();

    memcpy(mapped + 100, "after", 5);
    tree_tell("written");
    tree_finish(one, "descriptor");
    tree_finish(two, "mapping");
    tree_finish(three, "executed");
    guest_check(!memcmp(mapped + 200, "reply", 5));
    return 0;
}
