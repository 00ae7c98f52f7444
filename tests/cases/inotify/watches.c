//# expect: resumes
//# show: inotify number=1 mask=4095
//# show: inotify number=4 mask=2147483906
//# show: inotify number=9 mask=67109696
/* Watches of a directory, a file, a symbolic link and one that tells one event, with the numbers that they had. What the
 * resume itself does tells nobody; what is done afterwards is told. */
#include "../guest.h"
#include <sys/inotify.h>
#include <sys/ioctl.h>

static int instance;

/* Reads until there is an event of this watch with this name. One without a name may have been read before: what other
 * copies do is told, too. */
static struct inotify_event find(int watch, const char *name)
{
    static bool was_told[16];
    char bytes[4096] __attribute__((aligned(8)));
    for (;;) {
        if (!name && was_told[watch])
            return (struct inotify_event){.wd = watch};
        ssize_t length = read(instance, bytes, sizeof bytes);
        guest_check(length > 0, "nothing of watch %d", watch);
        for (char *at = bytes; at < bytes + length;) {
            struct inotify_event *event = (void *)at;
            guest_check(event->wd > 0, "an event of %d: %x", event->wd, event->mask);
            guest_check(event->wd < 16);
            was_told[event->wd] = true;
            if (event->wd == watch && (!name || (event->len && !strcmp(event->name, name))))
                return *event;
            at += sizeof *event + event->len;
        }
    }
}

static int unread(void)
{
    int bytes = -1;
    guest_check(ioctl(instance, FIONREAD, &bytes) == 0);
    return bytes;
}

int main(void)
{
    instance = inotify_init1(IN_NONBLOCK);
    guest_check(instance >= 0 && mkdir(guest_path("folder"), 0777) == 0 && mkdir(guest_path("passed"), 0777) == 0);
    int file = guest_new_file("file", "x"), once = guest_new_file("once", "x");
    guest_check(symlink("file", guest_path("link")) == 0);
    guest_check(inotify_add_watch(instance, guest_path("folder"), IN_ALL_EVENTS) == 1);
    for (int number = 2; number < 9; number++) {
        if (number == 4) {
            guest_check(inotify_add_watch(instance, guest_path("once"), IN_MODIFY | IN_ONESHOT | IN_CREATE) == 4);
            continue;
        }
        guest_check(inotify_add_watch(instance, guest_path("passed"), IN_OPEN) == number);
        guest_check(inotify_rm_watch(instance, number) == 0);
    }
    guest_check(inotify_add_watch(instance, guest_path("link"), IN_DONT_FOLLOW | IN_EXCL_UNLINK | IN_MOVED_FROM | IN_CREATE |
                                                                    IN_DELETE) == 9);
    guest_check(inotify_add_watch(instance, guest_path("file"), IN_MODIFY | IN_OPEN | IN_CLOSE) == 10);
    guest_check(read(instance, (char[4096]){0}, 4096) > 0 && unread() == 0);

    guest_checkpoint_here();

    const char *who = guest_who;
    char own[PATH_MAX];
    /* Others may have begun already. */
    if (!strcmp(who, "resumed"))
        guest_check(unread() == 0, "%d bytes of events", unread());
    snprintf(own, sizeof own, "%s/folder/%s", guest_home, who);
    int made = open(own, O_CREAT | O_WRONLY, 0666);
    guest_check(made >= 0 && find(1, who).mask == IN_CREATE);
    guest_check(pwrite(once, "y", 1, 0) == 1);
    find(4, NULL);
    guest_check(pwrite(file, "z", 1, 0) == 1);
    find(10, NULL);
    guest_check(inotify_rm_watch(instance, 4) < 0 && errno == EINVAL, "it has told its event, and is gone");
    guest_check(inotify_add_watch(instance, guest_path("passed"), IN_OPEN) == 11);
    guest_check(inotify_rm_watch(instance, 9) == 0);
    guest_check(close(made) == 0);
    return 0;
}
