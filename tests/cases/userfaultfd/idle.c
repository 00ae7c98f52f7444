//# expect: resumes
//# show: userfaultfd agreed=true features=384
//# show: userfaultfd agreed=false features=0
/* Userfaultfds that serve no memory: one that can do so at once, one that was only made. */
#include "../guest.h"
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>

int main(void)
{
    struct uffdio_api api = {.api = UFFD_API, .features = UFFD_FEATURE_SIGBUS | UFFD_FEATURE_THREAD_ID};
    int ready = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
    int made = (int)syscall(SYS_userfaultfd, UFFD_USER_MODE_ONLY);
    if (ready < 0 || made < 0)
        guest_skip("this kernel has no userfaultfd");
    guest_check(ioctl(ready, UFFDIO_API, &api) == 0 && dup2(ready, 50) == 50 && api.features & UFFD_FEATURE_SIGBUS);
    char *memory = guest_map(2, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
    char *page = guest_map(1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
    guest_fill(page, GUEST_PAGE, 7);

    guest_checkpoint_here();

    guest_check(fcntl(ready, F_GETFD) == FD_CLOEXEC && fcntl(ready, F_GETFL) & O_NONBLOCK && !fcntl(made, F_GETFD));
    api = (struct uffdio_api){.api = UFFD_API};
    guest_check(ioctl(ready, UFFDIO_API, &api) < 0 && errno == EINVAL, "they have agreed already");
    struct uffdio_register range = {{(uintptr_t)memory, 2 * GUEST_PAGE}, UFFDIO_REGISTER_MODE_MISSING, 0};
    guest_check(ioctl(50, UFFDIO_REGISTER, &range) == 0, "of this memory");
    struct uffdio_copy copy = {.dst = (uintptr_t)memory + GUEST_PAGE, .src = (uintptr_t)page, .len = GUEST_PAGE};
    guest_check(ioctl(ready, UFFDIO_COPY, &copy) == 0 && guest_filled(memory + GUEST_PAGE, GUEST_PAGE, 7));
    guest_check(ioctl(ready, UFFDIO_UNREGISTER, &range.range) == 0);
    api = (struct uffdio_api){.api = UFFD_API};
    guest_check(ioctl(made, UFFDIO_API, &api) == 0);
    return 0;
}
