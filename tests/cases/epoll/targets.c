//# expect: resumes
//# show: epoll number=60 events=0x19
//# show: epoll number=900
/* What an epoll set watches: ready and not, by numbers that are open, closed, or lead elsewhere now, one description by
 * several numbers, with all bits of their data. */
#include "sets.h"

enum { READER = 40, WRITER, FULL_READER, FULL_WRITER, FIFO, CLOSED = 60, TAKEN, AGAIN, HIGH = 900 };

static const uint64_t ALL = UINT64_MAX, BITS = 0x8000000123456789;

int main(void)
{
    int set = sets_new();
    sets_pipe_at(READER, WRITER);
    sets_pipe_at(FULL_READER, FULL_WRITER);
    guest_check(write(FULL_WRITER, "content", 7) == 7);
    guest_check(mkfifo(guest_path("fifo"), 0600) == 0);
    int fifo = open(guest_path("fifo"), O_RDWR);
    guest_check(dup2(fifo, FIFO) == FIFO && close(fifo) == 0);
    sets_add(set, READER, EPOLLIN, ALL);
    sets_add(set, WRITER, EPOLLOUT, 0);
    sets_add(set, FULL_READER, EPOLLIN | EPOLLPRI, BITS);
    sets_add(set, FIFO, EPOLLIN, FIFO);
    /* A number that is closed. */
    guest_check(dup2(READER, CLOSED) == CLOSED);
    sets_add(set, CLOSED, EPOLLIN, CLOSED);
    guest_check(close(CLOSED) == 0);
    /* One above all others that are open. */
    guest_check(dup2(FULL_READER, HIGH) == HIGH);
    sets_add(set, HIGH, EPOLLIN, HIGH);
    guest_check(close(HIGH) == 0);
    /* One that leads elsewhere now, and is watched as that as well. */
    guest_check(dup2(READER, TAKEN) == TAKEN);
    sets_add(set, TAKEN, EPOLLIN, TAKEN);
    guest_check(dup2(FULL_READER, TAKEN) == TAKEN);
    sets_add(set, TAKEN, EPOLLIN, TAKEN + 1000);
    /* An open one, of a description that has another. */
    guest_check(dup2(FULL_READER, AGAIN) == AGAIN);
    sets_add(set, AGAIN, EPOLLIN, AGAIN);

    guest_checkpoint_here();

    sets_expect(set, BITS, EPOLLIN, TAKEN + 1000, EPOLLIN, AGAIN, EPOLLIN, HIGH, EPOLLIN, 0, EPOLLOUT);
    guest_check(write(WRITER, "x", 1) == 1);
    sets_expect(set, ALL, EPOLLIN, CLOSED, EPOLLIN, TAKEN, EPOLLIN, 0, EPOLLOUT, BITS, EPOLLIN, TAKEN + 1000, EPOLLIN,
                AGAIN, EPOLLIN, HIGH, EPOLLIN);
    /* By their numbers. */
    guest_check(sets_control(set, EPOLL_CTL_ADD, READER, EPOLLIN, 1) == -1 && errno == EEXIST);
    guest_check(sets_control(set, EPOLL_CTL_MOD, FULL_READER, EPOLLIN, 7) == 0);
    guest_check(sets_control(set, EPOLL_CTL_DEL, WRITER, 0, 0) == 0);
    guest_check(sets_control(set, EPOLL_CTL_DEL, TAKEN, 0, 0) == 0);
    guest_check(sets_control(set, EPOLL_CTL_DEL, AGAIN, 0, 0) == 0);
    guest_check(sets_control(set, EPOLL_CTL_DEL, CLOSED, 0, 0) == -1 && errno == EBADF);
    sets_expect(set, ALL, EPOLLIN, CLOSED, EPOLLIN, TAKEN, EPOLLIN, 7, EPOLLIN, HIGH, EPOLLIN);
    /* By the same numbers, when they lead there again. */
    guest_check(dup2(READER, CLOSED) == CLOSED && dup2(FULL_READER, HIGH) == HIGH && dup2(READER, TAKEN) == TAKEN);
    guest_check(sets_control(set, EPOLL_CTL_DEL, CLOSED, 0, 0) == 0);
    guest_check(sets_control(set, EPOLL_CTL_DEL, HIGH, 0, 0) == 0);
    guest_check(sets_control(set, EPOLL_CTL_MOD, TAKEN, EPOLLIN, 8) == 0);
    sets_expect(set, ALL, EPOLLIN, 8, EPOLLIN, 7, EPOLLIN);
    guest_check(write(FIFO, "x", 1) == 1);
    sets_expect(set, ALL, EPOLLIN, 8, EPOLLIN, 7, EPOLLIN, FIFO, EPOLLIN);
    /* The others have the same. */
    char byte;
    guest_check(read(FIFO, &byte, 1) == 1);
    return 0;
}
