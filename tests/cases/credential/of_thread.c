//# expect: resumes
//# needs: root
//# flavours: alone running killed again exec
/* Credentials belong to a thread: one has given its privileges up, the other has not. */
#include "../guest.h"

static atomic_int stage;

static void *drop(void *argument)
{
    /* the system call, which glibc would make in every thread */
    guest_check(syscall(SYS_setgroups, 0, NULL) == 0);
    guest_check(syscall(SYS_setresgid, 3001, 3001, 3001) == 0 && syscall(SYS_setresuid, 3001, 3001, 3001) == 0);
    guest_check(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    stage = 1;
    while (stage < 2)
        usleep(1000);
    guest_check(syscall(SYS_geteuid) == 3001 && syscall(SYS_getegid) == 3001 && syscall(SYS_getgroups, 0, NULL) == 0);
    guest_check(syscall(SYS_setresuid, 0, 0, 0) == -1 && errno == EPERM);
    guest_check(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
    return NULL;
}

int main(void)
{
    struct guest_thread thread;
    guest_spawn(&thread, drop, NULL);
    while (stage < 1)
        usleep(100);
    guest_check(prctl(PR_SET_DUMPABLE, 1) == 0);

    guest_checkpoint_here();

    stage = 2;
    guest_join(&thread);
    guest_check(geteuid() == 0 && prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 0);
    return 0;
}
