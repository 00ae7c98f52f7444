//# expect: resumes
//# show: inotify presence=deleted
//# may-differ: fd/*/inotify.* the file behind it is another one
/* A file that has no name any more is watched as long as somebody has it open. */
#include "../guest.h"
#include <sys/inotify.h>
#include <sys/ioctl.h>

int main(void)
{
    struct inotify_event event;
    int instance = inotify_init1(IN_NONBLOCK), file = guest_new_file("file", "x"), bytes = -1;
    guest_check(instance >= 0 && inotify_add_watch(instance, guest_path("file"), IN_MODIFY | IN_DELETE_SELF) == 1);
    guest_check(unlink(guest_path("file")) == 0);
    guest_check(ioctl(instance, FIONREAD, &bytes) == 0 && bytes == 0);

    guest_checkpoint_here();

    guest_check(pwrite(file, "y", 1, 0) == 1);
    guest_check(read(instance, &event, sizeof event) == sizeof event && event.wd == 1 && event.mask == IN_MODIFY);
    guest_check(close(file) == 0);
    if (guest_was_resumed() || !strcmp(guest_who, "original")) {
        long start = guest_now_ms();
        while (read(instance, &event, sizeof event) != sizeof event)
            guest_check(guest_now_ms() - start < 10000, "its end was not told");
        guest_check(event.wd == 1 && event.mask == IN_DELETE_SELF, "%x", event.mask);
    }
    return 0;
}
