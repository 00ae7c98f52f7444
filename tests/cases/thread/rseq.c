//# expect: resumes
//# flavours: alone running killed again exec twice user
/* Restartable sequences: the area that glibc registered is registered still (the kernel keeps its processor number
 * current), with its length and signature. */
#include "../guest.h"
#include <sched.h>
#include <sys/rseq.h>

int main(void)
{
    if (!__rseq_size)
        guest_skip("glibc has registered no rseq area");
    volatile struct rseq *area = (struct rseq *)((char *)__builtin_thread_pointer() + __rseq_offset);
    guest_check((int)area->cpu_id >= 0);

    guest_checkpoint_here();

    for (int turn = 0; turn < 2; turn++) {
        cpu_set_t one;
        CPU_ZERO(&one);
        int processor = turn ? sysconf(_SC_NPROCESSORS_ONLN) - 1 : 0;
        CPU_SET(processor, &one);
        guest_check(sched_setaffinity(0, sizeof one, &one) == 0);
        guest_check((int)area->cpu_id == processor, "%d is not %d", (int)area->cpu_id, processor);
    }
    guest_check(syscall(SYS_rseq, area, 32, RSEQ_FLAG_UNREGISTER, RSEQ_SIG) == 0, "it is not what is registered");
    return 0;
}
