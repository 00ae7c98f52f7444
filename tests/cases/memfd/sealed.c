//# expect: resumes
//# flavours: alone running killed again exec twice
//# show: mapping kind=memfd seals=14
/* memfds: contents and holes, offsets, names, seals, mapped and not, open and closed, executable or never. */
#include "../guest.h"

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8u
#define F_SEAL_EXEC 0x20
#endif

int main(void)
{
    int plain = memfd_create("a plain one", 0), sealed = memfd_create("sealed", MFD_ALLOW_SEALING | MFD_CLOEXEC);
    int noexec = memfd_create("noexec", MFD_NOEXEC_SEAL), gone = memfd_create("only mapped", 0);
    guest_check(plain >= 0 && sealed >= 0 && gone >= 0);
    guest_check(noexec >= 0 || errno == EINVAL); /* 6.3 */
    guest_check(ftruncate(plain, 10 << 20) == 0 && pwrite(plain, "far away", 8, 8 << 20) == 8);
    guest_check(lseek(plain, 123, SEEK_SET) == 123);
    guest_check(write(sealed, "sealed content", 14) == 14);
    guest_check(fcntl(sealed, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE) == 0);
    guest_check(ftruncate(gone, 4 * GUEST_PAGE) == 0);
    char *map = mmap(NULL, 4 * GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, gone, 0);
    char *of_plain = mmap(NULL, GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, plain, 8 << 20);
    char *own = mmap(NULL, GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, sealed, 0);
    guest_check(map != MAP_FAILED && of_plain != MAP_FAILED && own != MAP_FAILED && close(gone) == 0);
    guest_fill(map + GUEST_PAGE, GUEST_PAGE, 1);
    own[0] = 'S';

    guest_checkpoint_here();

    char text[32] = {0};
    struct stat status;
    guest_check(lseek(plain, 0, SEEK_CUR) == 123 && fstat(plain, &status) == 0 && status.st_size == 10 << 20);
    guest_check(status.st_blocks * 512 < 1 << 20, "its holes are filled");
    guest_check(pread(plain, text, 8, 8 << 20) == 8 && !strcmp(text, "far away"));
    strcpy(of_plain, "near");
    guest_check(pread(plain, text, 5, 8 << 20) == 5 && !strcmp(text, "near"), "the mapping is of another memfd");
    guest_check(fcntl(plain, F_GET_SEALS) == F_SEAL_SEAL);
    guest_check(fcntl(sealed, F_GET_SEALS) == (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE), "%x",
                fcntl(sealed, F_GET_SEALS));
    guest_check(write(sealed, "x", 1) == -1 && errno == EPERM);
    guest_check(fcntl(sealed, F_GETFD) == FD_CLOEXEC && pread(sealed, text, 14, 0) == 14 && !memcmp(text, "sealed con", 10));
    guest_check(!memcmp(own, "Sealed content", 14));
    guest_check(guest_zero(map, GUEST_PAGE) && guest_filled(map + GUEST_PAGE, GUEST_PAGE, 1));
    if (noexec >= 0)
        guest_check((fcntl(noexec, F_GET_SEALS) & F_SEAL_EXEC) && fstat(noexec, &status) == 0 && !(status.st_mode & 0111));
    guest_check(fstat(plain, &status) == 0 && (status.st_mode & 0777) == 0777, "%o", status.st_mode);
    return 0;
}
