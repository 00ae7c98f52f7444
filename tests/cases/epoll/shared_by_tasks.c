//# expect: resumes
//# tasks: 4
/* A set that tasks share since a fork, one that only a child has, and what they watch: descriptors that only another task
 * has, by numbers that mean something else here, one set after execve. */
#include "sets.h"
#include "../tree.h"

enum { SET = 20, READER = 22, WRITER, OTHER, OTHER_WRITER, SECRET = 28, SECRET_WRITER };

/* Adds what nobody else has, to the set that all share. */
static void adder(void)
{
    sets_pipe_at(SECRET, SECRET_WRITER);
    sets_add(SET, SECRET, EPOLLIN, 0x5ec4e7);
    int own = sets_new();
    sets_add(own, SET, EPOLLIN, 1);
    sets_add(own, SECRET_WRITER, EPOLLOUT | EPOLLET, 2);
    /* The number, but not what it led to when it was added. */
    guest_check(close(OTHER) == 0 && dup2(SECRET, OTHER) == OTHER);
    tree_checkpoint_here();
    sets_expect(own, 2, EPOLLOUT);
    guest_check(write(SECRET_WRITER, "x", 1) == 1);
    sets_expect(own, 1, EPOLLIN);
    tree_tell("secret written");
    tree_await("secret seen");
    guest_check(sets_control(SET, EPOLL_CTL_DEL, OTHER, 0, 0) == -1 && errno == ENOENT);
    guest_check(sets_control(SET, EPOLL_CTL_DEL, SECRET, 0, 0) == 0);
    tree_tell("secret removed");
}

/* Has what the others have closed. */
static void holder(void)
{
    tree_checkpoint_here();
    tree_await("secret removed");
    guest_check(write(OTHER_WRITER, "x", 1) == 1);
    sets_expect(SET, 0x07e4, EPOLLIN, 0x4ead, EPOLLIN);
    guest_check(sets_control(SET, EPOLL_CTL_MOD, OTHER, EPOLLIN, 0xe0) == 0);
    tree_tell("other written");
    tree_await("all seen");
}

int main(void)
{
    if (tree_is("executed")) {
        tree_checkpoint_here();
        tree_await("other written");
        sets_expect(SET, 0xe0, EPOLLIN, 0x4ead, EPOLLIN);
        guest_check(fcntl(READER, F_GETFD) == -1);
        tree_tell("all seen");
        tree_done();
    }
    int set = sets_new();
    guest_check(dup2(set, SET) == SET && close(set) == 0);
    sets_pipe_at(READER, WRITER);
    sets_pipe_at(OTHER, OTHER_WRITER);
    guest_check(fcntl(READER, F_SETFD, FD_CLOEXEC) == 0 && fcntl(WRITER, F_SETFD, FD_CLOEXEC) == 0);
    guest_check(fcntl(OTHER, F_SETFD, FD_CLOEXEC) == 0 && fcntl(OTHER_WRITER, F_SETFD, FD_CLOEXEC) == 0);
    sets_add(SET, READER, EPOLLIN, 0x4ead);
    sets_add(SET, OTHER, EPOLLIN, 0x07e4);
    pid_t one = tree_start("holder", holder), two = tree_start("adder", adder), three = tree_start_exec("executed");
    guest_check(close(OTHER) == 0 && close(OTHER_WRITER) == 0);
    tree_gather("holder", "adder", "executed");

    guest_checkpoint_here();

    tree_await("secret written");
    sets_expect(SET, 0x5ec4e7, EPOLLIN);
    guest_check(write(WRITER, "x", 1) == 1);
    sets_expect(SET, 0x5ec4e7, EPOLLIN, 0x4ead, EPOLLIN);
    tree_tell("secret seen");
    tree_finish(one, "holder");
    tree_finish(two, "adder");
    tree_finish(three, "executed");
    return 0;
}
