//# expect: resumes
//# needs: root
//# flavours: alone running killed again exec
//# show: shm owner=65534 creator=65533 creator_group=65532
/* Segments whose owner and creator are somebody else. */
#include "segments.h"

int main(void)
{
    guest_check(setegid(65532) == 0 && seteuid(65533) == 0);
    int id = segment_make(IPC_PRIVATE, GUEST_PAGE, 0600);
    guest_check(seteuid(0) == 0 && setegid(0) == 0);
    char *at = segment_attach(id, 0);
    guest_fill(at, GUEST_PAGE, 1);
    struct shmid_ds status = segment_status(id);
    status.shm_perm.uid = status.shm_perm.gid = 65534;
    status.shm_perm.mode = 0;
    guest_check(shmctl(id, IPC_SET, &status) == 0);

    guest_checkpoint_here();

    status = segment_status(id);
    guest_check(status.shm_perm.uid == 65534 && status.shm_perm.gid == 65534);
    guest_check(status.shm_perm.cuid == 65533 && status.shm_perm.cgid == 65532, "created by %d", status.shm_perm.cuid);
    guest_check((status.shm_perm.mode & 0777) == 0);
    guest_check(guest_filled(at, GUEST_PAGE, 1));
    segment_remove(id);
    return 0;
}
