//# expect: refused "with urgent data"
//# needs: root
/* Bytes behind urgent data cannot be looked at without taking it. */
#include "ip.h"

int main(void)
{
    union ip own = {.four = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}};
    socklen_t length = sizeof own;
    char bytes[8] = {0};
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    ip_bind(listener, own);
    guest_check(listen(listener, 5) == 0 && getsockname(listener, &own.any, &length) == 0);
    int client = ip_connect(own), server = accept(listener, NULL, NULL);
    guest_check(server >= 0 && write(client, "a", 1) == 1);
    guest_check(send(client, "!", 1, MSG_OOB) == 1 && write(client, "b", 1) == 1);
    guest_checkpoint_here();
    guest_check(read(server, bytes, sizeof bytes) == 1 && bytes[0] == 'a');
    guest_check(recv(server, bytes, 1, MSG_OOB) == 1 && bytes[0] == '!');
    guest_check(read(server, bytes, sizeof bytes) == 1 && bytes[0] == 'b');
    return 0;
}
