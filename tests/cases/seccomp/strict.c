//# expect: resumes
//# needs: root
//# dump: --allow seccomp
//# flavours: alone running killed again exec
//# show: seccomp mode=strict
/* A thread in strict mode, which may only read, write, exit and return from signals, beside one that may do everything. */
#include "../guest.h"
#include <linux/seccomp.h>

static int to_thread[2], from_thread[2];

static void *run(void *argument)
{
    char byte;
    if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) != 0)
        return NULL;
    while (syscall(SYS_read, to_thread[0], &byte, 1) == 1) {
        byte++;
        syscall(SYS_write, from_thread[1], &byte, 1);
    }
    syscall(SYS_exit, 0);
    return NULL;
}

int main(void)
{
    struct guest_thread thread;
    char byte = 'a', path[64], line[256];
    int mode = -1;
    guest_check(pipe(to_thread) == 0 && pipe(from_thread) == 0);
    guest_spawn(&thread, run, NULL);
    guest_check(write(to_thread[1], &byte, 1) == 1 && read(from_thread[0], &byte, 1) == 1 && byte == 'b');
    guest_wait_in_call(thread.tid, SYS_read);

    guest_checkpoint_here();

    guest_check(write(to_thread[1], &byte, 1) == 1 && read(from_thread[0], &byte, 1) == 1 && byte == 'c', "%c", byte);
    guest_check(prctl(PR_GET_SECCOMP) == 0);
    snprintf(path, sizeof path, "/proc/self/task/%d/status", thread.tid);
    FILE *status = fopen(path, "r");
    if (status) { /* with another pid it has another tid */
        while (fgets(line, sizeof line, status))
            sscanf(line, "Seccomp: %d", &mode);
        fclose(status);
        guest_check(mode == 1, "%d", mode);
    }
    return 0;
}
