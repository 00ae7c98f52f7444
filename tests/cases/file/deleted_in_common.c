//# expect: resumes
//# tasks: 4
/* A file without a name that tasks have in common: by one description, by two of them, and mapped. */
#include "../tree.h"

static int fd;
static char *mapped;

static void shares(void)
{
    tree_checkpoint_here();
    guest_check(write(fd, "after", 5) == 5, "at the common offset");
    tree_tell("written");
}

static void apart(void)
{
    char path[64], text[16] = {0};
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int own = open(path, O_RDWR);
    guest_check(own >= 0 && close(fd) == 0 && lseek(own, 3, SEEK_SET) == 3);
    tree_checkpoint_here();
    tree_await("written");
    guest_check(read(own, text, sizeof text) == 8 && !strcmp(text, "oreafter"), "%s", text);
    guest_check(munmap(mapped, GUEST_PAGE) == 0);
}

static void maps(void)
{
    guest_check(close(fd) == 0);
    tree_checkpoint_here();
    tree_await("written");
    guest_check(!memcmp(mapped, "beforeafter", 11));
}

int main(void)
{
    fd = guest_new_file("file", "before");
    guest_check(lseek(fd, 6, SEEK_SET) == 6 && unlink(guest_path("file")) == 0);
    mapped = mmap(NULL, GUEST_PAGE, PROT_READ, MAP_SHARED, fd, 0);
    guest_check(mapped != MAP_FAILED);
    pid_t one = tree_start("shares", shares), two = tree_start("apart", apart), three = tree_start("maps", maps);
    tree_gather("shares", "apart", "maps");

    guest_checkpoint_here();

    tree_await("written");
    guest_check(lseek(fd, 0, SEEK_CUR) == 11 && !memcmp(mapped, "beforeafter", 11));
    struct stat status;
    guest_check(fstat(fd, &status) == 0 && status.st_nlink == 0 && status.st_size == 11);
    tree_finish(one, "shares");
    tree_finish(two, "apart");
    tree_finish(three, "maps");
    return 0;
}
