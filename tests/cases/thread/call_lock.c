//# expect: resumes
//# flavours: alone running killed again exec
/* Waits for a lock that another description of the same file has: flock and an open file description lock. */
#include "../guest.h"
#include <sys/file.h>

static int holder[2], waiter[2], result[2] = {-2, -2};

static void *wait_here(void *argument)
{
    int kind = (int)(intptr_t)argument;
    struct flock whole = {.l_type = F_WRLCK};
    result[kind] = kind == 0 ? flock(waiter[0], LOCK_EX) : fcntl(waiter[1], F_OFD_SETLKW, &whole);
    return NULL;
}

int main(void)
{
    struct guest_thread threads[2];
    struct flock whole = {.l_type = F_WRLCK};
    for (int kind = 0; kind < 2; kind++) {
        const char *name = kind ? "ofd" : "flock";
        holder[kind] = guest_new_file(name, "x");
        waiter[kind] = open(guest_path(name), O_RDWR);
        guest_check(waiter[kind] >= 0);
    }
    guest_check(flock(holder[0], LOCK_EX) == 0 && fcntl(holder[1], F_OFD_SETLK, &whole) == 0);
    for (intptr_t kind = 0; kind < 2; kind++) {
        guest_spawn(&threads[kind], wait_here, (void *)kind);
        guest_wait_in_call(threads[kind].tid, kind ? SYS_fcntl : SYS_flock);
    }

    guest_checkpoint_here();

    usleep(100000);
    guest_check(*(volatile int *)&result[0] == -2 && *(volatile int *)&result[1] == -2, "nobody gave the locks free");
    whole.l_type = F_UNLCK;
    guest_check(flock(holder[0], LOCK_UN) == 0 && fcntl(holder[1], F_OFD_SETLK, &whole) == 0);
    for (int kind = 0; kind < 2; kind++) {
        guest_join(&threads[kind]);
        guest_check(result[kind] == 0, "kind %d", kind);
    }
    guest_check(flock(holder[0], LOCK_EX | LOCK_NB) == -1 && errno == EWOULDBLOCK);
    return 0;
}
