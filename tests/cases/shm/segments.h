/* What cases of System V shared memory have in common. */
#ifndef SEGMENTS_H
#define SEGMENTS_H

#include "../guest.h"
#include <sys/ipc.h>
#include <sys/shm.h>

/* A key that nobody else has, or another one for another `index`. */
__attribute__((unused)) static key_t segment_key(int index)
{
    return (key_t)(0x5e000000u + (unsigned)index * 0x400000u + (unsigned)getpid());
}

__attribute__((unused)) static int segment_make(key_t key, size_t size, int mode)
{
    int id = shmget(key, size, IPC_CREAT | IPC_EXCL | mode);
    guest_check(id >= 0, "key %x", (unsigned)key);
    guest_leaves("-m", id);
    return id;
}

__attribute__((unused)) static char *segment_attach(int id, int flags)
{
    char *at = shmat(id, NULL, flags);
    guest_check(at != (char *)-1, "segment %d", id);
    return at;
}

__attribute__((unused)) static struct shmid_ds segment_status(int id)
{
    struct shmid_ds status;
    guest_check(shmctl(id, IPC_STAT, &status) == 0, "segment %d", id);
    return status;
}

__attribute__((unused)) static void segment_remove(int id)
{
    guest_check(shmctl(id, IPC_RMID, NULL) == 0, "segment %d", id);
}

/* Whether a write there ends a process by a signal: tried in a child. */
__attribute__((unused)) static bool segment_is_read_only(char *at)
{
    pid_t child = fork();
    guest_check(child >= 0);
    if (child == 0) {
        *(volatile char *)at = 1;
        _exit(0);
    }
    int status;
    guest_check(waitpid(child, &status, 0) == child);
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV;
}

#endif
