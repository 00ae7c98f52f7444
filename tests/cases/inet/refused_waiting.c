//# expect: refused "where 2 connections wait to be accepted"
/* Connections that wait to be accepted would be lost. */
#include "ip.h"

int main(void)
{
    union ip own = {.four = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof own;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    ip_bind(listener, own);
    guest_check(listen(listener, 5) == 0 && getsockname(listener, &own.any, &length) == 0);
    int one = ip_connect(own), two = ip_connect(own);
    /* What is not connected here any longer still waits there. */
    guest_check(close(one) == 0 && close(two) == 0);
    guest_checkpoint_here();
    guest_check(accept(listener, NULL, NULL) >= 0 && accept(listener, NULL, NULL) >= 0);
    return 0;
}
