//# expect: refused "a performance counter (perf_event_open)"
/* A performance counter is named, and refused, with what to do. */
#include "../guest.h"
#include <linux/perf_event.h>

int main(void)
{
    struct perf_event_attr what = {.type = PERF_TYPE_SOFTWARE, .size = sizeof what, .config = PERF_COUNT_SW_TASK_CLOCK};
    what.exclude_kernel = 1;
    int fd = (int)syscall(SYS_perf_event_open, &what, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
    if (fd < 0)
        guest_skip("no performance counter may be opened");

    guest_checkpoint_here();

    guest_check(guest_take(fd) > 0, "the refusal has hurt");
    return 0;
}
