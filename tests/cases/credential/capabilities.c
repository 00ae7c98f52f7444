//# expect: resumes
//# needs: root
//# flavours: alone running killed again exec twice
/* Capability sets: effective, permitted, inheritable, ambient, bounding; and the secure bits. */
#include "../guest.h"
#include <linux/capability.h>
#include <linux/securebits.h>

static void read_sets(uint32_t *data, uint64_t *bounding, uint64_t *ambient)
{
    uint32_t head[2] = {_LINUX_CAPABILITY_VERSION_3, 0};
    guest_check(syscall(SYS_capget, head, data) == 0);
    *bounding = *ambient = 0;
    for (int i = 0; i < 64; i++) {
        *bounding |= (uint64_t)(prctl(PR_CAPBSET_READ, i) == 1) << i;
        *ambient |= (uint64_t)(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, i, 0, 0) == 1) << i;
    }
}

int main(void)
{
    uint32_t head[2] = {_LINUX_CAPABILITY_VERSION_3, 0}, before[6], after[6];
    uint64_t bounding[2], ambient[2];
    guest_check(prctl(PR_CAPBSET_DROP, CAP_SYS_TIME) == 0 && prctl(PR_CAPBSET_DROP, CAP_MKNOD) == 0);
    guest_check(prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP | SECBIT_KEEP_CAPS_LOCKED | SECBIT_NOROOT) == 0);
    guest_check(syscall(SYS_capget, head, before) == 0);
    before[2] |= 1 << CAP_NET_RAW | 1 << CAP_CHOWN; /* inheritable */
    guest_check(syscall(SYS_capset, head, before) == 0);
    guest_check(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_RAW, 0, 0) == 0);
    before[0] &= ~(1 << CAP_SYS_ADMIN | 1 << CAP_KILL); /* effective */
    before[1] &= ~(1 << CAP_KILL);                      /* permitted */
    guest_check(syscall(SYS_capset, head, before) == 0);
    guest_check(prctl(PR_SET_DUMPABLE, 1) == 0);
    read_sets(before, &bounding[0], &ambient[0]);
    guest_check(ambient[0] == 1ul << CAP_NET_RAW && !(bounding[0] >> CAP_MKNOD & 1));
    int secure_bits = prctl(PR_GET_SECUREBITS);

    guest_checkpoint_here();

    read_sets(after, &bounding[1], &ambient[1]);
    guest_check(!memcmp(before, after, sizeof before), "%x %x %x, were %x %x %x", after[0], after[1], after[2], before[0],
                before[1], before[2]);
    guest_check(bounding[0] == bounding[1] && ambient[0] == ambient[1]);
    guest_check(prctl(PR_GET_SECUREBITS) == secure_bits, "%x", prctl(PR_GET_SECUREBITS));
    return 0;
}
