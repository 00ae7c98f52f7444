//# expect: resumes
//# flavours: alone running killed again exec user
//# show: pipe content_bytes=5
/* A FIFO with a name, with something in it, open at both ends and once for both. */
#include "../guest.h"

int main(void)
{
    char text[16];
    guest_check(mkfifo(guest_path("fifo"), 0666) == 0);
    int reader = open(guest_path("fifo"), O_RDONLY | O_NONBLOCK), writer = open(guest_path("fifo"), O_WRONLY);
    int both = open(guest_path("fifo"), O_RDWR);
    guest_check(reader >= 0 && writer >= 0 && both >= 0 && write(writer, "hello", 5) == 5);

    guest_checkpoint_here();

    guest_check(read(reader, text, 2) == 2 && !memcmp(text, "he", 2));
    guest_check(read(both, text, 16) == 3 && !memcmp(text, "llo", 3));
    int later = open(guest_path("fifo"), O_WRONLY | O_NONBLOCK);
    guest_check(later >= 0, "the name leads to another FIFO");
    guest_check(write(later, "x", 1) == 1 && read(reader, text, 1) == 1);
    return 0;
}
