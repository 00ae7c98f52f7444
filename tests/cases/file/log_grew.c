//# expect: resumes
//# flavours: alone twice
//# may-differ: fd/*/pos it writes while it waits
/* A file that grew after the checkpoint, as the original wrote on: a copy resumes all the same, at its own offset. */
#include "../guest.h"

int main(void)
{
    int log = open(guest_path("log"), O_WRONLY | O_CREAT | O_APPEND, 0666);
    guest_check(log >= 0);
    for (int i = 0; i < 3; i++)
        dprintf(log, "line %d\n", i);
    guest_announce();
    while (!guest_told()) {
        dprintf(log, "from %d\n", getpid()); /* grows all the time, in the original and in every copy */
        usleep(20000);
    }

    guest_check(dprintf(log, "the end of %s\n", guest_who) > 0);
    char text[65536] = {0};
    int reader = open(guest_path("log"), O_RDONLY);
    guest_check(read(reader, text, sizeof text - 1) > 0 && !strncmp(text, "line 0\nline 1\nline 2\n", 21));
    return 0;
}
