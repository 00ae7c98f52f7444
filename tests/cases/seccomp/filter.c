//# expect: resumes
//# needs: root
//# flavours: alone running killed again exec twice
//# show: seccomp mode=filter
/* Two filters, one on top of the other: what either forbids stays forbidden. */
#include "../guest.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>

static void forbid(int call, int error, unsigned flags)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, call, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {4, code};
    guest_check(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program) == 0);
}

int main(void)
{
    guest_check(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    forbid(SYS_sync, 77, 0);
    forbid(SYS_getppid, 78, SECCOMP_FILTER_FLAG_LOG);

    guest_checkpoint_here();

    guest_check(syscall(SYS_sync) == -1 && errno == 77);
    guest_check(syscall(SYS_getppid) == -1 && errno == 78);
    guest_check(prctl(PR_GET_SECCOMP) == 2);
    forbid(SYS_getuid, 79, 0);
    guest_check(syscall(SYS_getuid) == -1 && errno == 79);
    return 0;
}
