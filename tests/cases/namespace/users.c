//# expect: resumes
//# flavours: alone running twice namespace user
//# show: namespace kind=user denies_groups=true
//# show: namespace kind=uts host_name=ckpt-users owner=1
/* A process in a user namespace with a single id, as unshare --map-root-user makes it, and in a UTS namespace of that. */
#include "users.h"

int main(void)
{
    users_unshare(CLONE_NEWUTS);
    guest_check(sethostname("ckpt-users", 10) == 0);
    guest_checkpoint_here();
    users_check("ckpt-users");
    return 0;
}
