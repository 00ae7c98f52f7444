//# expect: refused "child"
/* A process with a child: trees come later, and until then it is refused. */
#include "../guest.h"
#include <signal.h>

int main(void)
{
    pid_t child = fork();
    if (child == 0) {
        pause();
        _exit(0);
    }

    guest_checkpoint_here();

    guest_check(kill(child, 0) == 0, "the refusal has hurt");
    guest_check(kill(child, 9) == 0 && waitpid(child, NULL, 0) == child);
    return 0;
}
