//# expect: refused "an eventfd that has overflown"
/* The kernel can count one further than anybody can write: that is named, and refused. */
#include "../guest.h"
#include <linux/aio_abi.h>
#include <poll.h>
#include <sys/eventfd.h>

int main(void)
{
    uint64_t value = UINT64_MAX - 1;
    int fd = eventfd(0, EFD_NONBLOCK), file = guest_new_file("file", "content");
    guest_check(write(fd, &value, sizeof value) == sizeof value);
    aio_context_t ring = 0;
    char text[8] = {0};
    struct iocb one = {.aio_lio_opcode = IOCB_CMD_PREAD, .aio_fildes = (uint32_t)file, .aio_nbytes = 7};
    one.aio_buf = (uintptr_t)text;
    one.aio_flags = IOCB_FLAG_RESFD;
    one.aio_resfd = (uint32_t)fd;
    struct iocb *all[] = {&one};
    struct io_event done;
    if (syscall(SYS_io_setup, 1, &ring))
        guest_skip("this kernel has no asynchronous I/O");
    guest_check(syscall(SYS_io_submit, ring, 1, all) == 1);
    guest_check(syscall(SYS_io_getevents, ring, 1, 1, &done, NULL) == 1 && !strcmp(text, "content"));
    guest_check(syscall(SYS_io_destroy, ring) == 0);
    struct pollfd asked = {.fd = fd, .events = POLLIN};
    guest_check(poll(&asked, 1, 1000) == 1 && asked.revents == (POLLIN | POLLERR));

    guest_checkpoint_here();

    guest_check(poll(&asked, 1, 0) == 1 && asked.revents == (POLLIN | POLLERR), "the refusal has hurt");
    return 0;
}
