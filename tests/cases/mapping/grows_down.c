//# expect: resumes
//# show: mapping vm_flags=~gd
/* Stacks that grow down when they are touched: one made with MAP_GROWSDOWN, and that of the process. */
#include "../guest.h"

static int deeper(int depth)
{
    volatile char frame[16384];
    memset((char *)frame, depth, sizeof frame);
    int below = depth ? deeper(depth - 1) : 0;
    return below + frame[depth] - depth + 1;
}

int main(void)
{
    /* room below, so that it can grow */
    char *room = guest_map(1024, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS);
    guest_check(munmap(room, 1024 * GUEST_PAGE) == 0);
    char *stack = mmap(room + 1000 * GUEST_PAGE, 4 * GUEST_PAGE, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED, -1, 0);
    guest_check(stack != MAP_FAILED);
    for (char *at = stack + 3 * GUEST_PAGE; at >= stack - 20 * GUEST_PAGE; at -= GUEST_PAGE)
        *(volatile char *)at = 'x';
    guest_check(deeper(10) == 11);

    guest_checkpoint_here();

    for (char *at = stack + 3 * GUEST_PAGE; at >= stack - 20 * GUEST_PAGE; at -= GUEST_PAGE)
        guest_check(*(volatile char *)at == 'x');
    for (char *at = stack - 21 * GUEST_PAGE; at >= stack - 60 * GUEST_PAGE; at -= GUEST_PAGE)
        *(volatile char *)at = 'y';
    guest_check(stack[-60 * (long)GUEST_PAGE] == 'y');
    guest_check(deeper(120) == 121); /* 2 MB further down the stack of the process */
    return 0;
}
