//# expect: resumes
//# flavours: alone running killed again exec namespace user
//# show: mqueue unlinked=false max_messages=5 message_bytes=64 messages=2
//# show: mqueue unlinked=true max_messages=3 message_bytes=32 messages=0
/* POSIX message queues: one with a name keeps its messages by itself; one without is made anew, for both that have it open. */
#include "../guest.h"
#include <mqueue.h>

int main(void)
{
    char name[64], text[64];
    struct mq_attr named = {.mq_maxmsg = 5, .mq_msgsize = 64}, lost = {.mq_maxmsg = 3, .mq_msgsize = 32}, found;
    unsigned priority;
    snprintf(name, sizeof name, "/guest-%d", (int)getpid());
    mqd_t reader = mq_open(name, O_RDONLY | O_CREAT | O_EXCL | O_NONBLOCK, 0600, &named);
    guest_check(reader >= 0);
    mqd_t writer = mq_open(name, O_WRONLY);
    guest_check(writer >= 0 && mq_send(writer, "low", 4, 1) == 0 && mq_send(writer, "high", 5, 9) == 0);
    char other[80];
    snprintf(other, sizeof other, "%s-lost", name);
    mqd_t first = mq_open(other, O_RDWR | O_CREAT | O_EXCL, 0640, &lost), second = mq_open(other, O_RDWR | O_NONBLOCK);
    guest_check(first >= 0 && second >= 0 && mq_unlink(other) == 0);

    guest_checkpoint_here();

    guest_check(mq_getattr(reader, &found) == 0 && found.mq_flags == O_NONBLOCK && found.mq_curmsgs == 2);
    guest_check(mq_receive(reader, text, sizeof text, &priority) == 5 && priority == 9 && !strcmp(text, "high"));
    guest_check(mq_receive(reader, text, sizeof text, &priority) == 4 && priority == 1 && !strcmp(text, "low"));
    guest_check(mq_receive(reader, text, sizeof text, &priority) < 0 && errno == EAGAIN);
    guest_check(mq_send(reader, "x", 1, 0) < 0 && errno == EBADF);
    struct stat status;
    guest_check(mq_getattr(first, &found) == 0 && found.mq_flags == 0 && found.mq_maxmsg == 3 && found.mq_msgsize == 32);
    guest_check(fstat(first, &status) == 0 && (status.st_mode & 0777) == 0640 && status.st_nlink == 0);
    guest_check(mq_send(first, "through", 8, 2) == 0);
    guest_check(mq_receive(second, text, sizeof text, &priority) == 8 && priority == 2 && !strcmp(text, "through"));
    guest_check(mq_receive(second, text, sizeof text, &priority) < 0 && errno == EAGAIN);
    mq_unlink(name);
    return 0;
}
