//# expect: refused "a message queue without a name, which holds 1 messages"
/* Messages of a queue without a name are named: they cannot be looked at. */
#include "../guest.h"
#include <mqueue.h>

int main(void)
{
    char text[16], name[64];
    struct mq_attr small = {.mq_maxmsg = 2, .mq_msgsize = 16};
    snprintf(name, sizeof name, "/refused-%d", (int)getpid());
    mqd_t queue = mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0600, &small);
    guest_check(queue >= 0 && mq_unlink(name) == 0 && mq_send(queue, "there", 6, 0) == 0);

    guest_checkpoint_here();

    guest_check(mq_receive(queue, text, sizeof text, NULL) == 6 && !strcmp(text, "there"), "the refusal has hurt");
    return 0;
}
