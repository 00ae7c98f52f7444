//# expect: resumes
//# tasks: 2
/* Parent and child have one instance, and watch it with an epoll set. */
#include "../tree.h"
#include <sys/epoll.h>
#include <sys/inotify.h>

static int instance, set;

static void child(void)
{
    struct inotify_event event;
    tree_checkpoint_here();
    tree_await("written");
    guest_check(read(instance, &event, sizeof event) == sizeof event && event.wd == 1 && event.mask == IN_ATTRIB);
    guest_check(inotify_add_watch(instance, guest_path("other"), IN_ATTRIB) == 2);
}

int main(void)
{
    struct epoll_event found, wanted = {.events = EPOLLIN, .data.u64 = 7};
    int file = guest_new_file("file", "x"), other = guest_new_file("other", "x");
    instance = inotify_init();
    set = epoll_create1(0);
    guest_check(instance >= 0 && set >= 0 && epoll_ctl(set, EPOLL_CTL_ADD, instance, &wanted) == 0);
    guest_check(inotify_add_watch(instance, guest_path("file"), IN_ATTRIB) == 1);
    pid_t pid = tree_start("child", child);
    tree_gather("child");

    guest_checkpoint_here();

    guest_check(strcmp(guest_who, "resumed") || epoll_wait(set, &found, 1, 0) == 0);
    guest_check(fchmod(file, 0600 + guest_index()) == 0);
    guest_check(epoll_wait(set, &found, 1, 10000) == 1 && found.data.u64 == 7);
    tree_tell("written");
    tree_finish(pid, "child");
    guest_check(fchmod(other, 0600) == 0 && epoll_wait(set, &found, 1, 10000) == 1);
    return 0;
}
