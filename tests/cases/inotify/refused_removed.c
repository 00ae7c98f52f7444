//# expect: refused "is of "
/* A directory that was removed, and is watched still, is named. */
#include "../guest.h"
#include <sys/inotify.h>

int main(void)
{
    int instance = inotify_init();
    guest_check(instance >= 0 && mkdir("folder", 0777) == 0);
    guest_check(inotify_add_watch(instance, "folder", IN_ATTRIB) == 1);
    int folder = open("folder", O_RDONLY | O_DIRECTORY);
    guest_check(folder >= 0 && rmdir("folder") == 0);

    guest_checkpoint_here();

    guest_check(fcntl(instance, F_GETFD) >= 0 && inotify_rm_watch(instance, 1) == 0, "the refusal has hurt");
    return 0;
}
