//# expect: resumes
//# show-first: inotify unread_bytes=32
/* Events that nobody has read: who runs on reads them; who was resumed is told that events were lost, and that before
 * everything that comes after. */
#include "../guest.h"
#include <sys/inotify.h>
#include <sys/ioctl.h>

int main(void)
{
    struct inotify_event events[4];
    int instance = inotify_init(), bytes = 0;
    guest_check(instance >= 0);
    int own[4];
    for (int index = 0; index < 4; index++) {
        char name[16];
        snprintf(name, sizeof name, "file%d", index);
        own[index] = guest_new_file(name, "x");
        guest_check(inotify_add_watch(instance, guest_path(name), IN_MODIFY | IN_ATTRIB) == index + 1);
    }
    guest_check(pwrite(own[0], "y", 1, 0) == 1 && fchmod(own[1], 0600) == 0);

    guest_checkpoint_here();

    int mine = guest_index();
    guest_check(pwrite(own[mine], "z", 1, 0) == 1);
    memset(events, 0, sizeof events);
    if (!guest_was_resumed()) {
        guest_check(read(instance, events, 2 * sizeof *events) == 32);
        guest_check(events[0].wd == 1 && events[0].mask == IN_MODIFY);
        guest_check(events[1].wd == 2 && events[1].mask == IN_ATTRIB);
    } else {
        guest_check(read(instance, events, sizeof *events) == 16);
        guest_check(events[0].wd == -1 && events[0].mask == IN_Q_OVERFLOW, "wd %d mask %x", events[0].wd, events[0].mask);
    }
    do
        guest_check(ioctl(instance, FIONREAD, &bytes) == 0 && bytes > 0 && read(instance, events, sizeof *events) == 16);
    while (events[0].wd != mine + 1); /* those before are of another copy */
    guest_check(events[0].mask == IN_MODIFY, "%x", events[0].mask);
    return 0;
}
