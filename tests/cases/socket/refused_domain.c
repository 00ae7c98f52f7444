//# expect: refused "a socket of vsock"
//# needs: config VSOCKETS
/* A socket of a domain that cannot be saved is named, and refused. */
#include "../guest.h"
#include <sys/socket.h>

int main(void)
{
    int fd = socket(AF_VSOCK, SOCK_STREAM, 0);
    guest_check(fd >= 0);

    guest_checkpoint_here();

    guest_check(fcntl(fd, F_GETFD) >= 0, "the refusal has hurt");
    return 0;
}
