//# expect: resumes
/* Pipes with one end: content whose writer is gone (end of file follows), a writer whose reader is gone (EPIPE); ends that
 * are duplicated, and one end opened again through /proc. */
#include "../guest.h"
#include <signal.h>

int main(void)
{
    int readable[2], writable[2], both[2];
    char text[32];
    signal(SIGPIPE, SIG_IGN);
    guest_check(pipe(readable) == 0 && pipe(writable) == 0 && pipe(both) == 0);
    guest_check(write(readable[1], "the rest", 8) == 8 && close(readable[1]) == 0);
    guest_check(close(writable[0]) == 0);
    int copy = dup(both[1]);
    snprintf(text, sizeof text, "/proc/self/fd/%d", both[0]);
    int again = open(text, O_RDONLY | O_NONBLOCK);
    guest_check(copy >= 0 && again >= 0);

    guest_checkpoint_here();

    guest_check(read(readable[0], text, 16) == 8 && !memcmp(text, "the rest", 8));
    guest_check(read(readable[0], text, 16) == 0, "its writer is back");
    guest_check(write(writable[1], "x", 1) == -1 && errno == EPIPE, "its reader is back");
    guest_check(write(copy, "ab", 2) == 2 && read(again, text, 1) == 1 && text[0] == 'a');
    guest_check(read(both[0], text, 1) == 1 && text[0] == 'b');
    guest_check(read(again, text, 1) == -1 && errno == EAGAIN);
    guest_check(close(copy) == 0 && close(both[1]) == 0 && read(both[0], text, 1) == 0, "a writer too many");
    return 0;
}
