//# expect: resumes
//# show: host machine=x86_64
/* The machine and the moment, which a resume compares itself with. A program sees nothing of them. */
#include "../guest.h"

int main(void)
{
    guest_checkpoint_here();
    guest_check(1);
    return 0;
}
