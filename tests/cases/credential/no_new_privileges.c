//# expect: resumes
//# show: credential no_new_privileges=true
/* no_new_privs, and keep-capabilities, of somebody without any capability as well. */
#include "../guest.h"

int main(void)
{
    guest_check(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
    guest_check(prctl(PR_SET_KEEPCAPS, 1) == 0);

    guest_checkpoint_here();

    guest_check(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1);
    guest_check(prctl(PR_GET_KEEPCAPS) == 1);
    return 0;
}
