//# expect: resumes
//# flavours: alone running killed again exec twice
//# needs: huge-pages 4
//# show: mapping page_bytes=2097152
/* Pages of hugetlbfs, private and shared, and some that were reserved and never touched. (Not of an
 * ordinary user: without CAP_CHECKPOINT_RESTORE shared memory is read through the process, which touches all of it.) */
#include "../guest.h"

#define HUGE (2ul << 20)

int main(void)
{
    int flags = MAP_ANONYMOUS | MAP_HUGETLB;
    char *own = mmap(NULL, 2 * HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | flags, -1, 0);
    char *shared = mmap(NULL, 2 * HUGE, PROT_READ | PROT_WRITE, MAP_SHARED | flags, -1, 0);
    guest_check(own != MAP_FAILED && shared != MAP_FAILED);
    guest_fill(own, HUGE, 1);
    guest_fill(shared + HUGE, HUGE, 2);

    guest_checkpoint_here();

    guest_check(guest_filled(own, HUGE, 1));
    guest_check(guest_filled(shared + HUGE, HUGE, 2));
    guest_check(guest_zero(shared, HUGE));
    pid_t child = fork();
    if (child == 0) {
        guest_fill(shared, HUGE, 3);
        _exit(0);
    }
    int status;
    guest_check(waitpid(child, &status, 0) == child && status == 0);
    guest_check(guest_filled(shared, HUGE, 3), "it is shared");
    guest_check(madvise(own, HUGE, MADV_DONTNEED) == 0);
    guest_check(guest_zero(own, HUGE));
    return 0;
}
