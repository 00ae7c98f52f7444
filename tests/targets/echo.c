/* A server with one connection, which says back what it hears: the target of the tests with a peer outside of the tree. */
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

int main(void)
{
    struct sockaddr_in own = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof own;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&own, length) || listen(listener, 1))
        return 1;
    getsockname(listener, (struct sockaddr *)&own, &length);
    printf("%d\n", ntohs(own.sin_port));
    fflush(stdout);
    int peer = accept(listener, NULL, NULL);
    char bytes[4096];
    close(listener);
    for (ssize_t got; (got = read(peer, bytes, sizeof bytes)) > 0;)
        for (ssize_t at = 0, sent; at < got; at += sent)
            if ((sent = write(peer, bytes + at, (size_t)(got - at))) < 0)
                return 2;
    return 0;
}
