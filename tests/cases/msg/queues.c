//# expect: resumes
//# flavours: alone running killed again exec namespace user
//# show: msg capacity_bytes=1000
/* System V message queues: messages of different types and lengths in their order, one that is empty, and a small
 * one that is full. */
#include "../guest.h"
#include <sys/ipc.h>
#include <sys/msg.h>

struct message {
    long type;
    char text[256];
};

static int make(key_t key, int mode)
{
    int id = msgget(key, IPC_CREAT | IPC_EXCL | mode);
    guest_check(id >= 0, "key %x", (unsigned)key);
    guest_leaves("-q", id);
    return id;
}

static void put(int id, long type, size_t length, int seed)
{
    struct message message = {.type = type};
    guest_fill(message.text, length, seed);
    guest_check(msgsnd(id, &message, length, IPC_NOWAIT) == 0);
}

static void take(int id, long wanted, long type, size_t length, int seed)
{
    struct message message = {0};
    guest_check(msgrcv(id, &message, sizeof message.text, wanted, IPC_NOWAIT) == (ssize_t)length, "seed %d", seed);
    guest_check(message.type == type && guest_filled(message.text, length, seed), "seed %d", seed);
}

int main(void)
{
    key_t key = (key_t)(0x60000000u + (unsigned)getpid());
    struct msqid_ds status;
    int used = make(key, 0640), empty = make(IPC_PRIVATE, 0600), small = make(IPC_PRIVATE, 0600);
    put(used, 5, 16, 1);
    put(used, 2, 0, 0);
    put(used, 5, 256, 2);
    put(used, 1L << 40, 100, 3);
    guest_check(msgctl(small, IPC_STAT, &status) == 0);
    status.msg_qbytes = 1000;
    guest_check(msgctl(small, IPC_SET, &status) == 0);
    for (int i = 0; i < 5; i++)
        put(small, 1, 200, i);
    put(empty, 1, 8, 9);
    take(empty, 0, 1, 8, 9);

    guest_checkpoint_here();

    guest_check(msgget(key, 0) == used);
    guest_check(msgctl(used, IPC_STAT, &status) == 0 && status.msg_qnum == 4 && (status.msg_perm.mode & 0777) == 0640);
    take(used, 1L << 40, 1L << 40, 100, 3);
    take(used, -5, 2, 0, 0);
    take(used, 0, 5, 16, 1);
    take(used, 0, 5, 256, 2);
    guest_check(msgrcv(used, &status, 1, 0, IPC_NOWAIT) < 0 && errno == ENOMSG);
    put(empty, 1, 8, 9);
    take(empty, 0, 1, 8, 9);
    guest_check(msgsnd(small, &(struct message){.type = 1}, 1, IPC_NOWAIT) < 0 && errno == EAGAIN);
    for (int i = 0; i < 5; i++)
        take(small, 0, 1, 200, i);
    guest_check(msgctl(used, IPC_RMID, NULL) == 0 && msgctl(empty, IPC_RMID, NULL) == 0);
    guest_check(msgctl(small, IPC_RMID, NULL) == 0);
    return 0;
}
