//# expect: resumes
//# flavours: alone running killed again exec namespace user
//# tasks: 4
/* Locks of several tasks on one file: POSIX locks, which belong to a process, side by side and in common; a lock of flock()
 * that a fork has in common with its parent, and one that holds off another task. */
#include "../tree.h"
#include <sys/file.h>

static int fd, own;

static short locked_by_other(off_t start, off_t length, pid_t *who)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = start, .l_len = length};
    guest_check(fcntl(fd, F_GETLK, &lock) == 0);
    *who = lock.l_pid;
    return lock.l_type;
}

static void lock(short type, off_t start, off_t length)
{
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length};
    guest_check(fcntl(fd, F_SETLK, &lock) == 0);
}

static void writer(void)
{
    lock(F_WRLCK, 10, 10);
    lock(F_RDLCK, 100, 10);
    tree_checkpoint_here();
    tree_await("looked");
}

static void reader(void)
{
    lock(F_RDLCK, 100, 20);
    tree_checkpoint_here();
    tree_await("looked");
}

static void flocker(void)
{
    /* The description of `own` is the parent's too. */
    tree_checkpoint_here();
    guest_check(flock(own, LOCK_EX | LOCK_NB) == 0, "it is our own lock");
    tree_await("looked");
    guest_check(flock(own, LOCK_UN) == 0);
}

int main(void)
{
    pid_t who;
    fd = guest_new_file("file", "text");
    own = open(guest_path("file"), O_RDWR);
    guest_check(own >= 0 && flock(own, LOCK_EX) == 0);
    pid_t one = tree_start("writer", writer), two = tree_start("reader", reader), three = tree_start("flocker", flocker);
    tree_gather("writer", "reader", "flocker");
    lock(F_WRLCK, 30, 5);

    guest_checkpoint_here();

    guest_check(locked_by_other(10, 10, &who) == F_WRLCK && who == one, "%d", who);
    guest_check(locked_by_other(20, 10, &who) == F_UNLCK);
    guest_check(locked_by_other(30, 5, &who) == F_UNLCK, "it is our own");
    guest_check(locked_by_other(112, 4, &who) == F_RDLCK && who == two, "%d", who);
    guest_check(locked_by_other(100, 5, &who) == F_RDLCK && (who == one || who == two));
    int other = open(guest_path("file"), O_RDWR);
    guest_check(other >= 0 && flock(other, LOCK_EX | LOCK_NB) == -1 && errno == EWOULDBLOCK);
    tree_tell("looked");
    tree_finish(one, "writer");
    tree_finish(two, "reader");
    tree_finish(three, "flocker");
    guest_check(locked_by_other(10, 10, &who) == F_UNLCK && locked_by_other(100, 20, &who) == F_UNLCK);
    guest_check(flock(other, LOCK_EX | LOCK_NB) == 0, "the child has let go of it");
    return 0;
}
