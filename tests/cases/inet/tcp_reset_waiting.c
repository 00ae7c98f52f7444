//# expect: resumes
//# dump: --tcp=reset
//# flavours: alone running killed again
//# show: inet state=listening backlog=5
/* A connection that waits to be accepted is given up with the others; the listener takes new ones. */
#include "ip.h"

int main(void)
{
    union ip own = ip_own(4030);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    ip_bind(listener, own);
    guest_check(listen(listener, 5) == 0);
    int client = ip_connect(own);

    guest_checkpoint_here();

    char byte;
    int server = accept(listener, NULL, NULL);
    if (guest_was_resumed()) {
        guest_check(server == -1 && errno == EAGAIN);
        guest_check(read(client, &byte, 1) == -1 && errno == ECONNRESET);
    } else {
        guest_check(server >= 0 && write(server, "x", 1) == 1 && read(client, &byte, 1) == 1);
    }
    guest_check(fcntl(listener, F_SETFL, 0) == 0);
    ip_serves(listener, own);
    return 0;
}
