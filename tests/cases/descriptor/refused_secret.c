//# expect: refused "memory that is hidden from the kernel (memfd_secret)"
/* Memory that only the program can read is named, and refused. */
#include "../guest.h"

int main(void)
{
    int fd = (int)syscall(447 /* memfd_secret */, 0);
    if (fd < 0)
        guest_skip("this kernel has no memfd_secret");
    guest_check(ftruncate(fd, GUEST_PAGE) == 0);
    char *secret = mmap(NULL, GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    guest_check(secret != MAP_FAILED);
    strcpy(secret, "secret");

    guest_checkpoint_here();

    guest_check(!strcmp(secret, "secret"), "the refusal has hurt");
    return 0;
}
