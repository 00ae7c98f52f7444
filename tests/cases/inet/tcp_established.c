//# expect: resumes
//# flavours: alone running killed again exec namespace
//# needs: root
//# show: inet state=established
/* Connections with both ends in the tree go on: what was written and not read is there once and in order, in both directions, with
 * queues that are full; what was agreed upon is the same; a listener at the same port goes on beside them. */
#include "ip.h"

enum { PAIRS = 4 };

struct agreed {
    unsigned options, send_shift, receive_shift, segment, path;
};

static struct agreed agreed_by(int fd)
{
    struct tcp_info info = {0};
    socklen_t length = sizeof info;
    guest_check(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) == 0);
    return (struct agreed){info.tcpi_options, info.tcpi_snd_wscale, info.tcpi_rcv_wscale, info.tcpi_snd_mss,
                           info.tcpi_pmtu};
}

/* The byte at `at` of a stream. */
static unsigned char byte_of(int stream, size_t at)
{
    return (unsigned char)(at * 2654435761u >> 13 ^ (unsigned)stream * 77u);
}

/* Writes from `at` on until nothing more goes, or `end`; returns where it stopped. */
static size_t write_on(int fd, int stream, size_t at, size_t end)
{
    static unsigned char bytes[10007];
    while (at < end) {
        size_t length = end - at < sizeof bytes ? end - at : sizeof bytes;
        for (size_t i = 0; i < length; i++)
            bytes[i] = byte_of(stream, at + i);
        ssize_t sent = send(fd, bytes, length, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0) {
            guest_check(errno == EAGAIN);
            return at;
        }
        at += (size_t)sent;
    }
    return at;
}

/* Reads what there is from `at` on. */
static size_t read_on(int fd, int stream, size_t at)
{
    static unsigned char bytes[65536];
    for (;;) {
        ssize_t length = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
        if (length < 0) {
            guest_check(errno == EAGAIN);
            return at;
        }
        guest_check(length > 0, "an end at %zu of stream %d", at, stream);
        for (ssize_t i = 0; i < length; i++)
            guest_check(bytes[i] == byte_of(stream, at + (size_t)i), "stream %d at %zu", stream, at + (size_t)i);
        at += (size_t)length;
    }
}

static int ends[PAIRS][2];
static size_t written[PAIRS][2], was_read[PAIRS][2];

static void same(struct agreed one, struct agreed other, int pair)
{
    guest_check(one.options == other.options, "%d: %u, %u", pair, one.options, other.options);
    guest_check(one.send_shift == other.send_shift && one.receive_shift == other.receive_shift, "%d", pair);
    guest_check(one.path == other.path, "%d", pair);
    /* Segments are no longer than half of the largest window that the peer has told of, which grows. */
    guest_check(other.segment >= one.segment / 2, "%d: %u, %u", pair, one.segment, other.segment);
}

int main(void)
{
    union ip four = ip_own(4030), six = ip_six("::1", ip_port(3));
    union ip mapped = ip_six("::ffff:127.0.0.1", 4030);
    memcpy(&mapped.six.sin6_addr.s6_addr[12], &four.four.sin_addr, 4);
    int listener = socket(AF_INET, SOCK_STREAM, 0), listener_six = socket(AF_INET6, SOCK_STREAM, 0);
    ip_set(listener, SOL_SOCKET, SO_REUSEADDR, 1);
    ip_set(listener_six, SOL_SOCKET, SO_REUSEADDR, 1);
    ip_bind(listener, four);
    ip_bind(listener_six, six);
    guest_check(listen(listener, 8) == 0 && listen(listener_six, 8) == 0);
    struct agreed before[PAIRS][2];
    for (int i = 0; i < PAIRS; i++) {
        ends[i][0] = ip_connect(i == 1 ? six : i == 2 ? mapped : four);
        ends[i][1] = accept(i == 1 ? listener_six : listener, NULL, NULL);
        guest_check(ends[i][1] >= 0);
    }
    ip_set(ends[0][0], IPPROTO_TCP, TCP_NODELAY, 1);
    ip_set(ends[0][0], SOL_SOCKET, SO_KEEPALIVE, 1);
    /* Full both ways, and some read on one side. */
    for (int i = 0; i < 3; i++)
        for (int side = 0; side < 2; side++)
            for (int again = 0; again < 50; again++) {
                written[i][side] = write_on(ends[i][side], i * 2 + side, written[i][side], 64u << 20);
                usleep(500);
            }
    guest_check(written[0][0] > 100000 && written[1][1] > 100000);
    unsigned char some[5000];
    guest_check(recv(ends[0][1], some, sizeof some, 0) == sizeof some);
    was_read[0][1] = sizeof some;
    /* Corked: the last segment is not full. */
    ip_set(ends[3][0], IPPROTO_TCP, TCP_CORK, 1);
    written[3][0] = write_on(ends[3][0], 6, 0, 1000);
    for (int i = 0; i < PAIRS; i++)
        for (int side = 0; side < 2; side++)
            before[i][side] = agreed_by(ends[i][side]);

    guest_checkpoint_here();

    for (int i = 0; i < PAIRS; i++)
        for (int side = 0; side < 2; side++) {
            same(before[i][side], agreed_by(ends[i][side]), i);
            guest_check(ip_get(ends[i][side], SOL_SOCKET, SO_REUSEADDR) == side);
        }
    guest_check(ip_get(ends[0][0], IPPROTO_TCP, TCP_NODELAY) == 1 && ip_get(ends[0][0], SOL_SOCKET, SO_KEEPALIVE) == 1);
    guest_check(ip_get(ends[3][0], IPPROTO_TCP, TCP_CORK) == 1);
    ip_set(ends[3][0], IPPROTO_TCP, TCP_CORK, 0);
    /* Everything comes, and more, both ways. */
    size_t more = 1u << 20, goal[PAIRS][2];
    for (int i = 0; i < PAIRS; i++)
        for (int side = 0; side < 2; side++)
            goal[i][side] = written[i][side] + more;
    long start = guest_now_ms();
    for (int left = 1; left;) {
        left = 0;
        for (int i = 0; i < PAIRS; i++)
            for (int side = 0; side < 2; side++) {
                int stream = i * 2 + side;
                written[i][side] = write_on(ends[i][side], stream, written[i][side], goal[i][side]);
                was_read[i][!side] = read_on(ends[i][!side], stream, was_read[i][!side]);
                left |= was_read[i][!side] < goal[i][side];
            }
        usleep(200);
        guest_check(guest_now_ms() - start < 20000, "%zu of %zu; %zu of %zu", was_read[0][1], goal[0][0], was_read[1][0],
                    goal[1][1]);
    }
    ip_serves(listener, four);
    ip_serves(listener_six, six);
    for (int i = 0; i < PAIRS; i++) {
        char byte;
        guest_check(close(ends[i][0]) == 0 && read(ends[i][1], &byte, 1) == 0);
    }
    return 0;
}
