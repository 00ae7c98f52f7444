//# expect: refused "is a TCP connection of 127.0.0.1:"
/* A connection cannot be saved unless it may be given up. */
#include "ip.h"

int main(void)
{
    union ip own = {.four = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof own;
    char byte;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    ip_bind(listener, own);
    guest_check(listen(listener, 5) == 0 && getsockname(listener, &own.any, &length) == 0);
    int client = ip_connect(own), server = accept(listener, NULL, NULL);
    guest_check(server >= 0);
    guest_checkpoint_here();
    guest_check(write(server, "x", 1) == 1 && read(client, &byte, 1) == 1);
    return 0;
}
