//# expect: resumes
//# tasks: 4
//# show: unix state=connected
/* A pair between processes: one end in each, one end in two, as descriptor 0 and 1 of a child, and a reader that waits. */
#include "sockets.h"

static int ends[2], common[2];

static void echo(void)
{
    /* As a server of inetd has it. */
    guest_check(dup2(ends[1], 0) == 0 && dup2(ends[1], 1) == 1 && close(ends[0]) == 0 && close(ends[1]) == 0);
    guest_check(close(common[0]) == 0 && close(common[1]) == 0);
    tree_in_place();
    char text[16] = {0};
    ssize_t length = read(0, text, sizeof text);
    guest_check(length == 4 && write(1, text, (size_t)length) == length, "%zd", length);
    tree_wait();
}

static void first(void)
{
    guest_check(close(ends[0]) == 0 && close(ends[1]) == 0 && close(common[0]) == 0);
    sockets_send(common[1], "before ");
    tree_checkpoint_here();
    sockets_send(common[1], "after");
    tree_tell("sent");
}

static void second(void)
{
    guest_check(close(ends[0]) == 0 && close(ends[1]) == 0 && close(common[0]) == 0);
    tree_checkpoint_here();
    tree_await("sent");
    sockets_send(common[1], " both");
}

int main(void)
{
    guest_check(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    guest_check(socketpair(AF_UNIX, SOCK_STREAM, 0, common) == 0);
    pid_t one = tree_start("echo", echo), two = tree_start("first", first), three = tree_start("second", second);
    guest_check(close(ends[1]) == 0 && close(common[1]) == 0);
    tree_gather("echo", "first", "second");
    tree_await_call(one, SYS_read);

    guest_checkpoint_here();

    sockets_send(ends[0], "echo");
    tree_finish(two, "first");
    tree_finish(three, "second");
    sockets_expect(common[0], "before after both");
    char byte;
    guest_check(recv(common[0], &byte, 1, 0) == 0, "both have closed it");
    guest_check(recv(ends[0], &byte, 1, MSG_WAITALL) == 1 && byte == 'e');
    sockets_expect(ends[0], "cho");
    tree_finish(one, "echo");
    return 0;
}
