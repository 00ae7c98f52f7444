//# expect: resumes
//# needs: huge-pages 4
//# flavours: alone running killed again exec
//# show: shm size_bytes=8388608
/* A segment of huge pages: all of it, and a part of it. */
#include "segments.h"

enum { HUGE = 2 << 20 };

int main(void)
{
    int id = shmget(IPC_PRIVATE, 4 * HUGE, IPC_CREAT | SHM_HUGETLB | 0600);
    guest_check(id >= 0);
    char *whole = segment_attach(id, 0), *part = segment_attach(id, 0);
    guest_fill(whole + HUGE, GUEST_PAGE, 1);
    guest_fill(whole + 3 * HUGE, HUGE, 2);
    guest_check(munmap(part, HUGE) == 0);
    part += HUGE;

    guest_checkpoint_here();

    guest_check(guest_filled(whole + HUGE, GUEST_PAGE, 1) && guest_filled(part + 2 * HUGE, HUGE, 2));
    guest_check(guest_zero(part + HUGE, HUGE));
    guest_fill(part, HUGE, 5);
    guest_check(guest_filled(whole + HUGE, HUGE, 5) && segment_status(id).shm_nattch == 2);
    segment_remove(id);
    return 0;
}
