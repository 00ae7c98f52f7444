//# expect: refused "pipe"
/* A pipe whose other end is in a process that is not saved: only standard input, output and error may lead outside. */
#include "../guest.h"

int main(void)
{
    int ends[2];
    guest_check(pipe(ends) == 0);
    pid_t parent = getpid();
    guest_become_child();
    guest_check(getppid() == parent && close(ends[0]) == 0);

    guest_checkpoint_here();

    guest_check(write(ends[1], "x", 1) == 1, "the refusal has hurt");
    return 0;
}
