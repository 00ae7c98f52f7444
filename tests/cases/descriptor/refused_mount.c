//# expect: refused "a mount that is attached nowhere (open_tree, fsmount)"
//# needs: root
/* A mount that has no place is named, and refused, with what to do. */
#include "../guest.h"
#include <sys/vfs.h>

#ifndef OPEN_TREE_CLONE
#define OPEN_TREE_CLONE 1
#endif

int main(void)
{
    struct statfs found;
    int fd = (int)syscall(428 /* open_tree */, AT_FDCWD, "/", OPEN_TREE_CLONE | O_CLOEXEC);
    if (fd < 0)
        guest_skip("this kernel has no open_tree");

    guest_checkpoint_here();

    guest_check(fstatfs(fd, &found) == 0, "the refusal has hurt");
    return 0;
}
