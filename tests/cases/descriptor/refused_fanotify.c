//# expect: refused "a fanotify group"
//# needs: root
/* A fanotify group is named, and refused, with what to do. */
#include "../guest.h"
#include <sys/fanotify.h>

int main(void)
{
    int fd = fanotify_init(FAN_CLASS_NOTIF | FAN_CLOEXEC | FAN_NONBLOCK, O_RDONLY);
    if (fd < 0)
        guest_skip("this kernel has no fanotify");

    guest_checkpoint_here();

    guest_check(fanotify_mark(fd, FAN_MARK_ADD, FAN_OPEN, AT_FDCWD, "/proc/version") == 0, "the refusal has hurt");
    return 0;
}
