//# expect: resumes
//# tasks: 5
/* Open file descriptions that tasks share: the offset that one moves and the flags that one sets are seen by all, also
 * through another number, after execve, and where the one who opened it has closed it. The same file opened twice is not one
 * description. */
#include "../tree.h"

enum { PASSED = 20, TWINS = 21, APART = 22 };

static int fd;

static void expect_and_move(int number, const char *expected)
{
    char byte;
    guest_check(read(number, &byte, 1) == 1 && byte == *expected, "%c", byte);
}

static void first(void)
{
    guest_check(dup2(fd, 40) == 40 && close(fd) == 0);
    tree_checkpoint_here();
    tree_await("turn of first");
    expect_and_move(40, "1");
    guest_check(fcntl(40, F_GETFL) & O_APPEND);
    expect_and_move(TWINS, "a");
    tree_tell("turn of second");
}

static void second(void)
{
    tree_checkpoint_here();
    tree_await("turn of second");
    expect_and_move(fd, "2");
    expect_and_move(TWINS, "b");
    expect_and_move(APART, "A");
    tree_tell("turn of executed");
}

int main(void)
{
    if (tree_is("executed")) {
        tree_checkpoint_here();
        tree_await("turn of executed");
        expect_and_move(PASSED, "3");
        expect_and_move(TWINS, "c");
        expect_and_move(APART, "B");
        guest_check(fcntl(3, F_GETFD) == -1, "closed by execve");
        tree_tell("turn of root");
        tree_done();
    }
    fd = guest_new_file("file", "0123456789");
    guest_check(fcntl(fd, F_SETFD, FD_CLOEXEC) == 0);
    guest_check(dup2(fd, PASSED) == PASSED);
    int twins = guest_new_file("twins", "abcdef");
    guest_check(dup2(twins, TWINS) == TWINS && close(twins) == 0);
    int apart = guest_new_file("apart", "ABCDEF"), again = open(guest_path("apart"), O_RDONLY);
    guest_check(dup2(apart, APART) == APART && close(apart) == 0);
    pid_t one = tree_start("first", first), two = tree_start("second", second), three = tree_start_exec("executed");
    guest_check(close(TWINS) == 0);
    pid_t late = tree_start("late", tree_checkpoint_here);
    tree_gather("first", "second", "executed", "late");

    guest_checkpoint_here();

    guest_check(fcntl(TWINS, F_GETFD) == -1 && errno == EBADF);
    expect_and_move(fd, "0");
    guest_check(fcntl(fd, F_SETFL, O_APPEND) == 0);
    tree_tell("turn of first");
    tree_await("turn of root");
    expect_and_move(fd, "4");
    expect_and_move(APART, "C");
    expect_and_move(again, "A");
    tree_finish(one, "first");
    tree_finish(two, "second");
    tree_finish(three, "executed");
    tree_finish(late, "late");
    return 0;
}
