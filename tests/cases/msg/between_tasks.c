//# expect: resumes
//# tasks: 3
/* A queue through which tasks speak: one waits for a message, one has sent some and goes on to. */
#include "../tree.h"
#include <sys/ipc.h>
#include <sys/msg.h>

struct message {
    long type;
    char text[32];
};

static int id;

static void waits(void)
{
    struct message message = {0};
    tree_in_place();
    guest_check(msgrcv(id, &message, sizeof message.text, 7, 0) == 5 && !strcmp(message.text, "root"));
    tree_wait();
    tree_tell("answered");
}

static void sends(void)
{
    struct message message = {.type = 3, .text = "early"};
    guest_check(msgsnd(id, &message, 6, 0) == 0);
    tree_checkpoint_here();
    strcpy(message.text, "late");
    guest_check(msgsnd(id, &message, 5, 0) == 0);
    tree_tell("sent");
}

int main(void)
{
    struct message message = {0};
    id = msgget(IPC_PRIVATE, IPC_CREAT | 0600);
    guest_check(id >= 0);
    guest_leaves("-q", id);
    pid_t first = tree_start("waits", waits), second = tree_start("sends", sends);
    tree_gather("waits", "sends");
    tree_await_call(first, SYS_msgrcv);

    guest_checkpoint_here();

    tree_await("sent");
    guest_check(msgrcv(id, &message, sizeof message.text, 3, 0) == 6 && !strcmp(message.text, "early"));
    guest_check(msgrcv(id, &message, sizeof message.text, 3, 0) == 5 && !strcmp(message.text, "late"));
    guest_check(tree_state(first) == 'S');
    message.type = 7;
    strcpy(message.text, "root");
    guest_check(msgsnd(id, &message, 5, 0) == 0);
    tree_await("answered");
    tree_finish(first, "waits");
    tree_finish(second, "sends");
    guest_check(msgctl(id, IPC_RMID, NULL) == 0);
    return 0;
}
