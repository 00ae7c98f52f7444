//# expect: refused "with a thread of the kernel's (IORING_SETUP_SQPOLL)"
//# may-differ: fd/*/Sq* its thread goes on by itself
/* An instance whose requests a thread of the kernel's takes is named, and refused. */
#include "ring.h"

int main(void)
{
    struct io_uring_params parameters = {.flags = IORING_SETUP_SQPOLL, .sq_thread_idle = 10};
    struct ring ring = ring_make(4, &parameters);

    guest_checkpoint_here();

    guest_check(fcntl(ring.fd, F_GETFD) >= 0, "the refusal has hurt");
    return 0;
}
