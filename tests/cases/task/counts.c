//# expect: resumes
//# show: task name=counts
/* The least that can survive: a word of memory and the place in the program. */
#include "../guest.h"

static int in_data = 41;

int main(void)
{
    volatile int on_stack = 42;
    int *on_heap = malloc(sizeof *on_heap);
    *on_heap = 43;
    pid_t before = getpid();

    guest_checkpoint_here();

    guest_check(in_data++ == 41, "%d", in_data);
    guest_check(on_stack++ == 42, "%d", on_stack);
    guest_check((*on_heap)++ == 43, "%d", *on_heap);
    if (!strcmp(guest_who, "original") || !strcmp(guest_who, "resumed"))
        guest_check(getpid() == before || getuid() != 0, "pid %d was %d", getpid(), before);
    return 0;
}
