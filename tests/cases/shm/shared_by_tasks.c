//# expect: resumes
//# tasks: 4
//# show: shm attached=5
/* A segment that tasks have in common: attached where the parent has it, elsewhere and for reading by a forked one, by one
 * that was executed, and by one whose parent has not attached it. */
#include "../tree.h"
#include "segments.h"

static char *at;
static int id, alone;

static void forked(void)
{
    char *again = segment_attach(id, SHM_RDONLY), *own = segment_attach(alone, 0);
    guest_fill(own, GUEST_PAGE, 7);
    tree_checkpoint_here();
    tree_await("written");
    guest_check(!strcmp(at + 100, "after") && !strcmp(again + 100, "after"));
    strcpy(at + 200, "reply");
    tree_tell("replied");
    guest_check(guest_filled(own, GUEST_PAGE, 7) && segment_status(alone).shm_nattch == 1);
    guest_check(segment_is_read_only(again));
}

static void reads(void)
{
    guest_check(shmdt(at) == 0);
    guest_check(shmat(id, at, SHM_RDONLY) == at);
    tree_checkpoint_here();
    tree_await("replied");
    guest_check(!strcmp(at + 200, "reply") && segment_is_read_only(at));
}

int main(void)
{
    if (tree_is("executed")) {
        id = shmget(atoi(getenv("SEGMENT")), 0, 0);
        at = segment_attach(id, 0);
        tree_checkpoint_here();
        tree_await("replied");
        guest_check(!strcmp(at, "before") && !strcmp(at + 200, "reply"));
        tree_done();
    }
    char text[16];
    id = segment_make(segment_key(0), 3 * GUEST_PAGE, 0600);
    alone = segment_make(IPC_PRIVATE, GUEST_PAGE, 0600);
    at = segment_attach(id, 0);
    strcpy(at, "before");
    snprintf(text, sizeof text, "%d", (int)segment_key(0));
    guest_check(setenv("SEGMENT", text, 1) == 0);
    pid_t one = tree_start("forked", forked), two = tree_start("reads", reads);
    pid_t three = tree_start_exec("executed");
    tree_gather("forked", "reads", "executed");

    guest_checkpoint_here();

    guest_check(segment_status(id).shm_nattch >= 1 && shmget(segment_key(0), 0, 0) == id);
    strcpy(at + 100, "after");
    tree_tell("written");
    tree_finish(one, "forked");
    tree_finish(two, "reads");
    tree_finish(three, "executed");
    guest_check(!strcmp(at + 200, "reply"));
    guest_check(segment_status(id).shm_nattch == 1);
    segment_remove(id);
    segment_remove(alone);
    return 0;
}
