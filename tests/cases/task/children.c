//# expect: resumes
//# tasks: 3
//# show: task state=zombie
//# show: pipe content_bytes=5
/* A process with children, one of which has ended: they are saved with it, and nothing of it is changed. */
#include "../guest.h"
#include <signal.h>

int main(void)
{
    int ends[2];
    guest_check(pipe(ends) == 0 && write(ends[1], "piped", 5) == 5);
    pid_t ended = fork();
    if (ended == 0)
        _exit(3);
    pid_t child = fork();
    if (child == 0) {
        pause();
        _exit(0);
    }
    siginfo_t info;
    guest_check(waitid(P_PID, ended, &info, WEXITED | WNOWAIT) == 0);

    guest_checkpoint_here();

    int status;
    guest_check(waitpid(ended, &status, WNOHANG) == ended && WIFEXITED(status) && WEXITSTATUS(status) == 3);
    guest_check(kill(child, 0) == 0 && kill(child, 9) == 0 && waitpid(child, &status, 0) == child);
    char text[8];
    guest_check(read(ends[0], text, sizeof text) == 5 && memcmp(text, "piped", 5) == 0);
    return 0;
}
