//# expect: resumes
//# show: shm mode=416
//# show: shm size_bytes=10000 attached=2 locked=true marked_for_removal=false
//# show: shm size_bytes=67108864
//# flavours: alone running killed again exec user
//# image-below: 8 MiB
/* System V segments with their ids, keys, modes and content: attached twice, for reading alone, in parts, with other
 * protections, beyond its end, and large with little in it. */
#include "segments.h"
#include <signal.h>

enum { SIZE = 10000, LARGE = 64 << 20 };

int main(void)
{
    key_t keys[] = {segment_key(0), segment_key(1), segment_key(2)};
    int keyed = segment_make(keys[0], SIZE, 0640), parts = segment_make(keys[1], 16 * GUEST_PAGE, 0700);
    int large = segment_make(IPC_PRIVATE, LARGE, 0666), readable = segment_make(keys[2], GUEST_PAGE, 0600);

    char *first = segment_attach(keyed, 0), *second = segment_attach(keyed, 0);
    guest_check(shmctl(keyed, SHM_LOCK, NULL) == 0);
    guest_fill(first, 8192, 1);

    char *wide = segment_attach(parts, 0);
    for (int page = 0; page < 16; page++)
        guest_fill(wide + page * GUEST_PAGE, GUEST_PAGE, 100 + page);
    guest_check(munmap(wide + 4 * GUEST_PAGE, 2 * GUEST_PAGE) == 0 && munmap(wide, GUEST_PAGE) == 0);
    guest_check(mprotect(wide + 8 * GUEST_PAGE, GUEST_PAGE, PROT_READ) == 0);
    guest_check(mprotect(wide + 9 * GUEST_PAGE, GUEST_PAGE, PROT_NONE) == 0);
    char *longer = segment_attach(parts, SHM_EXEC);
    longer = mremap(longer, 16 * GUEST_PAGE, 20 * GUEST_PAGE, MREMAP_MAYMOVE);
    guest_check(longer != MAP_FAILED);

    char *big = segment_attach(large, 0);
    guest_fill(big + LARGE / 2, GUEST_PAGE, 3);

    char *writer = segment_attach(readable, 0);
    guest_fill(writer, GUEST_PAGE, 4);
    guest_check(shmdt(writer) == 0);
    char *reader = segment_attach(readable, SHM_RDONLY);
    struct shmid_ds status;
    guest_check((status = segment_status(readable), status.shm_perm.mode = 0440, shmctl(readable, IPC_SET, &status)) == 0);
    unsigned long attached[] = {segment_status(keyed).shm_nattch, segment_status(parts).shm_nattch};

    guest_checkpoint_here();

    guest_check(shmget(keys[0], 0, 0) == keyed && shmget(keys[1], 0, 0) == parts);
    guest_check(shmget(keys[2], 0, 0) == readable);
    status = segment_status(keyed);
    guest_check(status.shm_segsz == SIZE && (status.shm_perm.mode & 0777) == 0640, "mode %o", status.shm_perm.mode);
    guest_check(status.shm_perm.mode & SHM_LOCKED, "it is locked");
    guest_check(status.shm_perm.uid == geteuid() && status.shm_perm.cuid == geteuid());
    guest_check(status.shm_nattch == attached[0], "attached %lu times", (unsigned long)status.shm_nattch);
    guest_check(segment_status(parts).shm_nattch == attached[1], "in %lu parts",
                (unsigned long)segment_status(parts).shm_nattch);
    guest_check(guest_filled(first, 8192, 1) && guest_zero(first + 8192, 4096));
    guest_fill(first + 100, 100, 9);
    guest_check(guest_filled(second + 100, 100, 9), "both are one");

    char *whole = segment_attach(parts, 0);
    for (int page = 0; page < 16; page++)
        guest_check(guest_filled(whole + page * GUEST_PAGE, GUEST_PAGE, 100 + page), "page %d", page);
    guest_fill(whole + 6 * GUEST_PAGE, GUEST_PAGE, 66);
    guest_check(guest_filled(wide + 6 * GUEST_PAGE, GUEST_PAGE, 66));
    guest_check(guest_filled(longer + 6 * GUEST_PAGE, GUEST_PAGE, 66));
    guest_check(segment_is_read_only(wide + 8 * GUEST_PAGE));

    guest_check(guest_filled(big + LARGE / 2, GUEST_PAGE, 3));
    struct shm_info info;
    guest_check(shmctl(0, SHM_INFO, (struct shmid_ds *)&info) >= 0);
    guest_check(guest_zero(big, GUEST_PAGE) && guest_zero(big + LARGE - GUEST_PAGE, GUEST_PAGE));

    guest_check(guest_filled(reader, GUEST_PAGE, 4) && segment_is_read_only(reader));
    guest_check(mprotect(reader, GUEST_PAGE, PROT_READ | PROT_WRITE) == -1 && errno == EACCES);
    guest_check((segment_status(readable).shm_perm.mode & 0777) == 0440);
    for (int i = 0; i < 4; i++)
        segment_remove((int[]){keyed, parts, large, readable}[i]);
    return 0;
}
