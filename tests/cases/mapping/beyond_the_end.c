//# expect: resumes
/* Mappings that reach beyond the end of their file (SIGBUS there), of a file that was truncated, and of /dev/zero. */
#include "../guest.h"
#include <setjmp.h>
#include <signal.h>

static sigjmp_buf back;

static void caught(int signal)
{
    siglongjmp(back, signal);
}

static int touch(volatile char *place)
{
    int signal = sigsetjmp(back, 1);
    if (signal)
        return signal;
    (void)*place;
    return 0;
}

int main(void)
{
    signal(SIGBUS, caught);
    int fd = guest_new_file("file", "short");
    char *own = mmap(NULL, 4 * GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    char *shared = mmap(NULL, 4 * GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    guest_check(ftruncate(fd, 2 * GUEST_PAGE) == 0);
    strcpy(own, "mine");
    guest_check(ftruncate(fd, 100) == 0);
    int zero_fd = open("/dev/zero", O_RDWR);
    char *zero = mmap(NULL, 4 * GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, zero_fd, 0);
    guest_check(own != MAP_FAILED && shared != MAP_FAILED && zero != MAP_FAILED);
    guest_fill(zero + GUEST_PAGE, GUEST_PAGE, 1);
    guest_check(close(fd) == 0 && close(zero_fd) == 0);

    guest_checkpoint_here();

    guest_check(!strcmp(own, "mine") && !memcmp(shared, "short", 6));
    guest_check(touch(own + GUEST_PAGE) == SIGBUS && touch(shared + 3 * GUEST_PAGE) == SIGBUS);
    guest_check(guest_zero(zero, GUEST_PAGE) && guest_filled(zero + GUEST_PAGE, GUEST_PAGE, 1));
    guest_check(madvise(zero, 4 * GUEST_PAGE, MADV_DONTNEED) == 0 && guest_zero(zero, 4 * GUEST_PAGE));
    return 0;
}
