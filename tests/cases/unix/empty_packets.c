//# expect: resumes
/* Empty messages of a SOCK_SEQPACKET socket, before, between and behind others. */
#include "../guest.h"
#include <sys/socket.h>

int main(void)
{
    static const char *const sent[] = {"", "a", "", "", "bc", ""};
    enum { COUNT = sizeof sent / sizeof *sent };
    int pair[2];
    char text[8];
    guest_check(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair) == 0);
    for (int i = 0; i < COUNT; i++)
        guest_check(send(pair[0], sent[i], strlen(sent[i]), 0) == (ssize_t)strlen(sent[i]));

    guest_checkpoint_here();

    for (int i = 0; i < COUNT; i++) {
        ssize_t length = recv(pair[1], text, sizeof text, MSG_DONTWAIT);
        guest_check(length == (ssize_t)strlen(sent[i]) && !memcmp(text, sent[i], (size_t)length), "message %d: %zd", i, length);
    }
    guest_check(recv(pair[1], text, sizeof text, MSG_DONTWAIT) < 0 && errno == EAGAIN);
    return 0;
}
