//# expect: resumes
//# show: shm marked_for_removal=true
//# show: shm key=0
//# flavours: alone running killed again exec user
/* Segments that were removed while they are attached, as most programs do at once: they are there until the last one
 * detaches them. They had the same key, one after the other. */
#include "segments.h"

enum { COUNT = 3 };

int main(void)
{
    int ids[COUNT];
    char *at[COUNT];
    for (int i = 0; i < COUNT; i++) {
        ids[i] = segment_make(segment_key(0), (i + 1) * GUEST_PAGE, 0600);
        at[i] = segment_attach(ids[i], 0);
        guest_fill(at[i], GUEST_PAGE, i);
        segment_remove(ids[i]);
    }

    guest_checkpoint_here();

    /* Nobody in particular cannot choose the id of one that went with the original. */
    bool chosen = geteuid() == 0 || !guest_was_resumed();
    for (int i = 0; i < COUNT; i++) {
        guest_check(guest_filled(at[i], GUEST_PAGE, i) && guest_zero(at[i] + GUEST_PAGE, i * GUEST_PAGE));
        struct shmid_ds status;
        if (!chosen)
            continue;
        status = segment_status(ids[i]);
        guest_check(status.shm_perm.mode & SHM_DEST && status.shm_perm.__key == IPC_PRIVATE);
        guest_check(status.shm_nattch == 1 && status.shm_segsz == (i + 1) * GUEST_PAGE);
        guest_check(shmdt(at[i]) == 0);
        guest_check(shmctl(ids[i], IPC_STAT, &status) == -1 && errno == EINVAL, "it is gone");
    }
    return 0;
}
