//# expect: resumes
//# show: mapping vm_flags=~dc
//# show: mapping vm_flags=~wf
//# show: mapping vm_flags=~dd
/* What madvise said of ranges, as /proc shows it, and the parts of it that a fork shows. */
#include "../guest.h"

static char *area(int advice)
{
    /* PROT_NONE neighbours keep the ranges apart */
    char *room = guest_map(18, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS);
    char *place = room + GUEST_PAGE;
    guest_check(mprotect(place, 16 * GUEST_PAGE, PROT_READ | PROT_WRITE) == 0);
    guest_fill(place, 16 * GUEST_PAGE, advice);
    int done = madvise(place, 16 * GUEST_PAGE, advice);
    guest_check(done == 0 || errno == EINVAL, "advice %d", advice); /* EINVAL: not in this kernel */
    return place;
}

int main(void)
{
    char *dont_fork = area(MADV_DONTFORK), *wipe = area(MADV_WIPEONFORK);
    area(MADV_DONTDUMP);
    area(MADV_HUGEPAGE);
    area(MADV_NOHUGEPAGE);
    area(MADV_SEQUENTIAL);
    area(MADV_RANDOM);
    area(MADV_MERGEABLE);
    char *unreserved = guest_map(16, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE);
    guest_fill(unreserved, GUEST_PAGE, 99);

    guest_checkpoint_here();

    guest_check(guest_filled(dont_fork, 16 * GUEST_PAGE, MADV_DONTFORK));
    guest_check(guest_filled(wipe, 16 * GUEST_PAGE, MADV_WIPEONFORK));
    guest_check(guest_filled(unreserved, GUEST_PAGE, 99));
    pid_t child = fork();
    if (child == 0)
        _exit(guest_zero(wipe, 16 * GUEST_PAGE) ? 7 : 8);
    int status;
    guest_check(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 7, "not wiped on fork");
    child = fork();
    if (child == 0)
        _exit(*(volatile char *)dont_fork);
    guest_check(waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV,
                "a child has what it should not have");
    return 0;
}
