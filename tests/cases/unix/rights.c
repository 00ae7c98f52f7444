//# expect: resumes
//# flavours: alone running killed again exec namespace user
//# show: unix state=connected
/* Descriptors on their way: those of a task, the same several times, and descriptions that nothing else holds, with where they
 * were, their locks and what was in them; with the bytes that they were sent with, and not before. */
#include "sockets.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/timerfd.h>

enum { STREAM = 40, STREAM_PEER, DGRAM, DGRAM_PEER, PACKET, PACKET_PEER, GONE, GONE_PEER, HELD, MANY, MANY_PEER };

static int file_at(const char *name, const char *text, off_t at)
{
    int fd = guest_new_file(name, text);
    guest_check(lseek(fd, at, SEEK_SET) == at);
    return fd;
}

int main(void)
{
    int pipes[2], fds[8], all[250];
    sockets_pair(SOCK_STREAM, STREAM, STREAM_PEER);
    sockets_pair(SOCK_DGRAM, DGRAM, DGRAM_PEER);
    sockets_pair(SOCK_SEQPACKET, PACKET, PACKET_PEER);
    sockets_pair(SOCK_STREAM, GONE, GONE_PEER);
    sockets_pair(SOCK_STREAM, MANY, MANY_PEER);
    int held = file_at("held", "0123456789", 3);
    guest_check(dup2(held, HELD) == HELD && close(held) == 0);

    /* A stream: bytes, then the same description twice with others, then bytes again. */
    sockets_send(STREAM, "before ");
    fds[0] = HELD;
    fds[1] = file_at("only", "abcdefghij", 5);
    guest_check(fcntl(fds[1], F_SETFL, O_APPEND | O_NONBLOCK) == 0 && flock(fds[1], LOCK_EX | LOCK_NB) == 0);
    fds[2] = HELD;
    guest_check(pipe(pipes) == 0 && write(pipes[1], "in the pipe", 11) == 11);
    fds[3] = pipes[0];
    sockets_pass(STREAM, "with four", fds, 4);
    guest_check(close(fds[1]) == 0 && close(pipes[0]) == 0);
    sockets_send(STREAM, "between");
    fds[0] = pipes[1];
    sockets_pass(STREAM, "x", fds, 1);
    guest_check(close(pipes[1]) == 0);
    sockets_send(STREAM, "after");

    /* Datagrams, one without bytes. */
    fds[0] = eventfd(7, EFD_NONBLOCK);
    fds[1] = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = 99};
    guest_check(epoll_ctl(fds[1], EPOLL_CTL_ADD, fds[0], &event) == 0);
    sockets_pass(DGRAM, "", fds, 2);
    guest_check(close(fds[1]) == 0);
    sockets_send(DGRAM, "plain");
    sockets_pass(DGRAM, "again", fds, 1);
    guest_check(close(fds[0]) == 0);

    struct itimerspec hours = {.it_value.tv_sec = 7200};
    fds[0] = timerfd_create(CLOCK_MONOTONIC, 0);
    guest_check(timerfd_settime(fds[0], 0, &hours, NULL) == 0);
    sockets_pass(PACKET, "timer", fds, 1);
    guest_check(close(fds[0]) == 0);
    fds[0] = open("/dev/null", O_RDWR);
    fds[1] = socket(AF_INET, SOCK_DGRAM, 0);
    fds[2] = open(".", O_RDONLY | O_DIRECTORY);
    sockets_pass(PACKET, "others", fds, 3);
    for (int i = 0; i < 3; i++)
        guest_check(close(fds[i]) == 0);

    /* Its sender is gone. */
    fds[0] = HELD;
    sockets_pass(GONE_PEER, "left", fds, 1);
    guest_check(close(GONE_PEER) == 0);

    for (int i = 0; i < 250; i++)
        guest_check((all[i] = i % 2 ? eventfd(i, EFD_NONBLOCK) : HELD) >= 0);
    sockets_pass(MANY, "many", all, 250);
    for (int i = 1; i < 250; i += 2)
        guest_check(close(all[i]) == 0);

    guest_checkpoint_here();

    /* What was sent before comes with the first bytes that bring descriptors, unless less is asked for. */
    char some[8] = {0};
    guest_check(recv(STREAM_PEER, some, 7, 0) == 7 && !strcmp(some, "before "), "%s", some);
    sockets_take(STREAM_PEER, "with four", fds, 4);
    guest_check(sockets_same(fds[0], HELD) && sockets_same(fds[2], HELD) && !sockets_same(fds[1], HELD));
    guest_check(lseek(fds[0], 0, SEEK_CUR) == 3);
    guest_check(lseek(fds[1], 0, SEEK_CUR) == 5);
    guest_check((fcntl(fds[1], F_GETFL) & (O_ACCMODE | O_APPEND | O_NONBLOCK)) == (O_RDWR | O_APPEND | O_NONBLOCK));
    int other = open(guest_path("only"), O_RDWR);
    guest_check(flock(other, LOCK_SH | LOCK_NB) == -1 && errno == EWOULDBLOCK);
    guest_check(flock(fds[1], LOCK_UN) == 0 && flock(other, LOCK_SH | LOCK_NB) == 0);
    sockets_take(STREAM_PEER, "betweenx", &fds[4], 1);
    char text[32] = {0};
    guest_check(write(fds[4], " still", 6) == 6 && read(fds[3], text, sizeof text) == 17);
    guest_check(!strcmp(text, "in the pipe still"), "%s", text);
    guest_check(close(fds[4]) == 0 && read(fds[3], text, 1) == 0, "nobody else has its other end");
    sockets_expect(STREAM_PEER, "after");
    sockets_quiet(STREAM_PEER);

    sockets_take(DGRAM_PEER, "", fds, 2);
    struct epoll_event told = {0};
    guest_check(epoll_wait(fds[1], &told, 1, 0) == 1 && told.data.u64 == 99);
    guest_check(guest_take(fds[0]) == 7 && epoll_wait(fds[1], &told, 1, 0) == 0);
    sockets_expect(DGRAM_PEER, "plain");
    sockets_take(DGRAM_PEER, "again", &fds[2], 1);
    guest_check(sockets_same(fds[0], fds[2]));

    sockets_take(PACKET_PEER, "timer", fds, 1);
    struct itimerspec left;
    guest_check(timerfd_gettime(fds[0], &left) == 0 && left.it_value.tv_sec > 6000 && left.it_value.tv_sec <= 7200);
    sockets_take(PACKET_PEER, "others", fds, 3);
    guest_check(write(fds[0], "x", 1) == 1 && fchdir(fds[2]) == 0);
    guest_check(sockets_option(fds[1], SO_DOMAIN) == AF_INET);

    sockets_take(GONE, "left", fds, 1);
    guest_check(sockets_same(fds[0], HELD));
    guest_check(recv(GONE, text, 1, 0) == 0);

    sockets_take(MANY_PEER, "many", all, 250);
    for (int i = 0; i < 250; i++)
        guest_check(i % 2 ? guest_take(all[i]) == (uint64_t)i : sockets_same(all[i], HELD), "%d", i);
    return 0;
}
