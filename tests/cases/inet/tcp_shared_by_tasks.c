//# expect: resumes
//# tasks: 3
//# flavours: alone running killed again namespace user
/* A listener that tasks share since a fork: one waits in accept(2), one in an epoll set that tells it alone (EPOLLEXCLUSIVE), and one
 * has it under another number. */
#include "ip.h"
#include "../tree.h"
#include <sys/epoll.h>

static int listener;
static union ip own;

static void accepting(void)
{
    guest_check(dup2(listener, 50) == 50 && close(listener) == 0);
    tree_in_place();
    int server = accept(50, NULL, NULL);
    guest_check(server >= 0);
    tree_wait();
    tree_tell("accepted");
    tree_await("first seen");
}

static void watching(void)
{
    int set = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN | EPOLLEXCLUSIVE, .data.u64 = 0x11};
    guest_check(set >= 0 && epoll_ctl(set, EPOLL_CTL_ADD, listener, &event) == 0);
    tree_checkpoint_here();
    guest_check(epoll_wait(set, &event, 1, 0) == 0);
    tree_tell("watches");
    tree_await("first seen");
    guest_check(epoll_wait(set, &event, 1, 20000) == 1 && event.data.u64 == 0x11 && event.events == EPOLLIN);
    guest_check(accept(listener, NULL, NULL) >= 0);
    tree_tell("watched");
}

int main(void)
{
    own = ip_own(4010);
    listener = socket(AF_INET, SOCK_STREAM, 0);
    ip_bind(listener, own);
    guest_check(listen(listener, 5) == 0);
    pid_t one = tree_start("accepting", accepting), two = tree_start("watching", watching);
    tree_gather("accepting", "watching");
    tree_await_call(one, SYS_accept);

    guest_checkpoint_here();

    tree_await("watches");
    int first = ip_connect(own);
    tree_await("accepted");
    tree_tell("first seen");
    int second = ip_connect(own);
    tree_await("watched");
    guest_check(close(first) == 0 && close(second) == 0);
    tree_finish(one, "accepting");
    tree_finish(two, "watching");
    return 0;
}
