//# expect: resumes
//# flavours: alone killed again
//# needs: root
//# show: inet within=false
/* A peer outside of the tree that talks all the time, one that has said its end, one to which the end was said, and two
 * with whom both have: nothing is lost
 * or doubled while the program is not there. */
#include "ip.h"

enum { TALK, ENDED, TOLD, LAST, CLOSING, COUNT };
enum { TCP_IS_CLOSED = 7, TCP_IS_LAST_ACK = 9, TCP_IS_CLOSING = 11 };

static union ip own;
static int ends[COUNT];

/* Copies back what comes, up to the end. */
static void *echo(void *unused)
{
    static char bytes[1 << 16];
    /* Its pages are there from the start: the runner compares memory. */
    memset(bytes, 1, sizeof bytes);
    for (ssize_t length; (length = read(ends[TALK], bytes, sizeof bytes)) > 0;)
        for (ssize_t at = 0; at < length;) {
            ssize_t sent = write(ends[TALK], bytes + at, (size_t)(length - at));
            guest_check(sent > 0);
            at += sent;
        }
    guest_check(shutdown(ends[TALK], SHUT_WR) == 0);
    guest_linger();
    return unused;
}

static unsigned char byte_at(size_t at)
{
    return (unsigned char)(at * 2654435761u >> 11);
}

static bool peer_reads(int fd, const char *text)
{
    char bytes[16] = {0};
    ssize_t length = 0, more;
    while ((more = read(fd, bytes + length, sizeof bytes - 1 - (size_t)length)) > 0)
        length += more;
    return more == 0 && !strcmp(bytes, text);
}

/* The peer's whole life; what it says at the end. */
static const char *peer(void)
{
    static char verdict[64];
    int fd[COUNT];
    static unsigned char bytes[4096];
    size_t sent = 0, back = 0;
    for (int i = 0; i < COUNT; i++) {
        fd[i] = socket(AF_INET, SOCK_STREAM, 0);
        if (i >= LAST)
            ip_set(fd[i], SOL_SOCKET, SO_RCVBUF, 1 << 14);
        if (connect(fd[i], &own.any, sizeof own.four))
            return "not connected";
    }
    if (write(fd[ENDED], "before", 6) != 6 || shutdown(fd[ENDED], SHUT_WR))
        return "cannot end";
    /* Both say their end, the one or the other first, and that of the program waits for room. */
    shutdown(fd[LAST], SHUT_WR);
    while (access(guest_path("full"), F_OK))
        usleep(1000);
    shutdown(fd[CLOSING], SHUT_WR);
    alarm(120);
    for (bool is_last = false; !is_last;) {
        is_last = access(guest_path("enough"), F_OK) == 0;
        size_t length = sizeof bytes;
        for (size_t i = 0; i < length; i++)
            bytes[i] = byte_at(sent + i);
        if (write(fd[TALK], bytes, length) != (ssize_t)length)
            return "cannot write";
        sent += length;
        if (is_last)
            shutdown(fd[TALK], SHUT_WR);
        for (;;) {
            ssize_t got = recv(fd[TALK], bytes, sizeof bytes, is_last ? 0 : MSG_DONTWAIT);
            if (got <= 0) {
                if (got < 0 && (is_last || errno != EAGAIN))
                    return "lost";
                break;
            }
            for (ssize_t i = 0; i < got; i++)
                if (bytes[i] != byte_at(back++))
                    return "another byte came back";
        }
        usleep(300);
    }
    if (back != sent)
        return "not all came back";
    if (!peer_reads(fd[ENDED], "after") || !peer_reads(fd[TOLD], "first"))
        return "something else was said";
    if (write(fd[TOLD], "late", 4) != 4 || close(fd[TOLD]))
        return "cannot answer";
    size_t last = ip_drain(fd[LAST]), closing = ip_drain(fd[CLOSING]);
    snprintf(verdict, sizeof verdict, "all is well: %zu, %zu", last, closing);
    return verdict;
}

int main(void)
{
    own = ip_own(4033);
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    ip_set(listener, SOL_SOCKET, SO_REUSEADDR, 1);
    ip_bind(listener, own);
    guest_check(listen(listener, 5) == 0);
    pid_t middle = fork();
    if (middle == 0) {
        if (fork() != 0)
            _exit(0);
        close(listener);
        setsid();
        guest_write_file("verdict", peer());
        _exit(0);
    }
    guest_check(middle > 0 && waitpid(middle, NULL, 0) == middle);
    for (int i = 0; i < COUNT; i++)
        guest_check((ends[i] = accept(listener, NULL, NULL)) >= 0);
    guest_check(write(ends[TOLD], "first", 5) == 5 && shutdown(ends[TOLD], SHUT_WR) == 0);
    size_t full[COUNT] = {0};
    for (int i = LAST; i < COUNT; i++) {
        ip_set(ends[i], SOL_SOCKET, SO_SNDBUF, 1 << 14);
        full[i] = ip_fill(ends[i]);
        guest_check(shutdown(ends[i], SHUT_WR) == 0);
    }
    guest_write_file("full", "");
    ip_comes_to(ends[LAST], TCP_IS_LAST_ACK);
    ip_comes_to(ends[CLOSING], TCP_IS_CLOSING);
    struct guest_thread thread;
    guest_spawn(&thread, echo, NULL);
    usleep(50000);

    guest_checkpoint_here();

    ip_comes_to(ends[LAST], TCP_IS_LAST_ACK);
    ip_comes_to(ends[CLOSING], TCP_IS_CLOSING);
    char bytes[16] = {0};
    guest_check(read(ends[ENDED], bytes, sizeof bytes) == 6 && !strcmp(bytes, "before"), "%s", bytes);
    guest_check(read(ends[ENDED], bytes, sizeof bytes) == 0);
    guest_check(write(ends[ENDED], "after", 5) == 5 && close(ends[ENDED]) == 0);
    usleep(100000);
    guest_write_file("enough", "");
    guest_join(&thread);
    memset(bytes, 0, sizeof bytes);
    guest_check(read(ends[TOLD], bytes, sizeof bytes) == 4 && !strcmp(bytes, "late"), "%s", bytes);
    char verdict[64] = {0}, expected[64];
    snprintf(expected, sizeof expected, "all is well: %zu, %zu", full[LAST], full[CLOSING]);
    for (int left = 20000; access(guest_path("verdict"), F_OK) && left; left--)
        usleep(1000);
    int fd = open(guest_path("verdict"), O_RDONLY);
    guest_check(fd >= 0 && read(fd, verdict, sizeof verdict - 1) > 0 && !strcmp(verdict, expected), "%s", verdict);
    ip_comes_to(ends[LAST], TCP_IS_CLOSED);
    ip_comes_to(ends[CLOSING], TCP_IS_CLOSED);
    ip_serves(listener, own);
    return 0;
}
