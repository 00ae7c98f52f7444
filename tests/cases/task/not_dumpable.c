//# expect: resumes
//# needs: root
//# flavours: alone running killed again exec twice
//# show: task dumpable=0
/* A process that nobody but root may look at is such a one after the resume. */
#include "../guest.h"

int main(void)
{
    guest_check(prctl(PR_SET_DUMPABLE, 0) == 0);

    guest_checkpoint_here();

    guest_check(prctl(PR_GET_DUMPABLE) == 0, "%d", prctl(PR_GET_DUMPABLE));
    return 0;
}
