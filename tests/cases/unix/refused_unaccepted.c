//# expect: refused "which nobody has accepted yet"
/* What was sent over a connection that waits to be accepted cannot be looked at. */
#include "sockets.h"

int main(void)
{
    struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "waits.sock"};
    int listening = socket(AF_UNIX, SOCK_STREAM, 0), client = socket(AF_UNIX, SOCK_STREAM, 0);
    guest_check(bind(listening, (struct sockaddr *)&name, sizeof name) == 0 && listen(listening, 3) == 0);
    guest_check(connect(client, (struct sockaddr *)&name, sizeof name) == 0);
    sockets_send(client, "hello");

    guest_checkpoint_here();

    int server = accept(listening, NULL, NULL);
    guest_check(server >= 0);
    sockets_expect(server, "hello");
    return 0;
}
