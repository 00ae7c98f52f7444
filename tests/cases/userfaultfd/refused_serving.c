//# expect: refused "a userfaultfd that serves memory"
/* One that serves memory is named, and refused. */
#include "../guest.h"
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>

int main(void)
{
    struct uffdio_api api = {.api = UFFD_API};
    int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
    if (fd < 0)
        guest_skip("this kernel has no userfaultfd");
    guest_check(ioctl(fd, UFFDIO_API, &api) == 0);
    char *memory = guest_map(1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
    struct uffdio_register range = {{(uintptr_t)memory, GUEST_PAGE}, UFFDIO_REGISTER_MODE_MISSING, 0};
    guest_check(ioctl(fd, UFFDIO_REGISTER, &range) == 0);

    guest_checkpoint_here();

    struct uffdio_zeropage zero = {.range = range.range};
    guest_check(ioctl(fd, UFFDIO_ZEROPAGE, &zero) == 0 && guest_zero(memory, GUEST_PAGE), "the refusal has hurt");
    return 0;
}
