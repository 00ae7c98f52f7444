//# expect: resumes
//# flavours: alone running killed again
//# needs: root
//# needs: kernel 6.9
/* What waits behind urgent data that was read: with bytes before that, with none, and with the peer's end behind. */
#include "ip.h"

enum { COUNT = 3 };

static void reads(int fd, const char *text)
{
    char bytes[64] = {0};
    size_t length = 0;
    /* Up to the mark, and then the rest. */
    for (ssize_t more; length < strlen(text); length += (size_t)more)
        guest_check((more = read(fd, bytes + length, sizeof bytes - 1 - length)) > 0, "%s", bytes);
    guest_check(!strcmp(bytes, text), "%s", bytes);
}

int main(void)
{
    static const char *before[COUNT] = {"before, ", "", "before, "};
    union ip own = ip_own(4034);
    int client[COUNT], server[COUNT], listener = socket(AF_INET, SOCK_STREAM, 0);
    char byte, text[64];
    ip_bind(listener, own);
    guest_check(listen(listener, COUNT) == 0);
    for (int i = 0; i < COUNT; i++) {
        client[i] = ip_connect(own);
        server[i] = accept(listener, NULL, NULL);
        size_t length = strlen(before[i]);
        guest_check(server[i] >= 0 && send(client[i], before[i], length, 0) == (ssize_t)length);
        guest_check(send(client[i], "!", 1, MSG_OOB) == 1 && write(client[i], "behind", 6) == 6);
        guest_check(i != 2 || shutdown(client[i], SHUT_WR) == 0);
        usleep(2000);
        guest_check(recv(server[i], &byte, 1, MSG_OOB) == 1 && byte == '!');
    }

    guest_checkpoint_here();

    for (int i = 0; i < COUNT; i++) {
        snprintf(text, sizeof text, "%sbehind", before[i]);
        reads(server[i], text);
        guest_check(ip_get(server[i], SOL_SOCKET, SO_OOBINLINE) == 0 && ip_get(server[i], SOL_SOCKET, SO_PEEK_OFF) == -1);
        if (i == 2) {
            guest_check(read(server[i], &byte, 1) == 0);
        } else {
            guest_check(write(client[i], "more", 4) == 4);
            reads(server[i], "more");
        }
        guest_check(write(server[i], "back", 4) == 4);
        reads(client[i], "back");
    }
    return 0;
}
