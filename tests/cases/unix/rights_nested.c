//# expect: resumes
//# flavours: alone running killed again exec namespace user
//# show: unix state=connected
//# show: unix state=pending
/* Sockets on their way through sockets: through another, through themselves, two through each other, and far from home. */
#include "sockets.h"

enum { OUTER = 40, OUTER_PEER, SELF, SELF_PEER, ONE, ONE_PEER, TWO, TWO_PEER, LISTENING };

static void pass(int through, const char *text, int fd)
{
    sockets_pass(through, text, &fd, 1);
}

static int take(int from, const char *text)
{
    int fd;
    sockets_take(from, text, &fd, 1);
    return fd;
}

int main(void)
{
    int inner[2], innermost[2];
    struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "listening.sock"};
    sockets_pair(SOCK_STREAM, OUTER, OUTER_PEER);
    sockets_pair(SOCK_STREAM, SELF, SELF_PEER);
    sockets_pair(SOCK_DGRAM, ONE, ONE_PEER);
    sockets_pair(SOCK_DGRAM, TWO, TWO_PEER);

    /* Three deep: both ends of each are only on their way. */
    guest_check(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, inner) == 0);
    guest_check(socketpair(AF_UNIX, SOCK_STREAM, 0, innermost) == 0);
    sockets_send(innermost[0], "deep");
    pass(inner[0], "innermost", innermost[1]);
    pass(inner[0], "its peer", innermost[0]);
    pass(OUTER, "inner", inner[1]);
    guest_check(close(inner[0]) == 0 && close(inner[1]) == 0 && close(innermost[0]) == 0 && close(innermost[1]) == 0);

    /* One whose queue holds itself. */
    pass(SELF, "itself", SELF_PEER);
    pass(OUTER, "self", SELF_PEER);
    guest_check(close(SELF_PEER) == 0);

    /* Two that hold each other. */
    pass(ONE, "two", TWO_PEER);
    pass(TWO, "one", ONE_PEER);
    pass(OUTER, "one", ONE_PEER);
    guest_check(close(ONE_PEER) == 0 && close(TWO_PEER) == 0);

    /* One that listens, and one that waits there. */
    int listening = socket(AF_UNIX, SOCK_STREAM, 0), waits = socket(AF_UNIX, SOCK_STREAM, 0);
    guest_check(dup2(listening, LISTENING) == LISTENING && close(listening) == 0);
    guest_check(bind(LISTENING, (struct sockaddr *)&name, sizeof name) == 0 && listen(LISTENING, 3) == 0);
    guest_check(connect(waits, (struct sockaddr *)&name, sizeof name) == 0);
    pass(OUTER, "waits", waits);
    pass(OUTER, "listens", LISTENING);
    guest_check(close(waits) == 0 && close(LISTENING) == 0);

    guest_checkpoint_here();

    inner[1] = take(OUTER_PEER, "inner");
    innermost[1] = take(inner[1], "innermost");
    innermost[0] = take(inner[1], "its peer");
    sockets_expect(innermost[1], "deep");
    sockets_send(innermost[1], "back");
    sockets_expect(innermost[0], "back");
    guest_check(close(inner[1]) == 0);

    int self = take(OUTER_PEER, "self"), itself = take(self, "itself");
    guest_check(sockets_same(self, itself));
    sockets_send(SELF, "more");
    sockets_expect(itself, "more");

    int one = take(OUTER_PEER, "one"), two = take(one, "two"), again = take(two, "one");
    guest_check(sockets_same(one, again) && !sockets_same(one, two));
    sockets_send(TWO, "more");
    sockets_expect(two, "more");

    waits = take(OUTER_PEER, "waits");
    int listens = take(OUTER_PEER, "listens");
    int server = accept(listens, NULL, NULL);
    guest_check(server >= 0);
    sockets_send(server, "hello");
    sockets_expect(waits, "hello");
    return 0;
}
