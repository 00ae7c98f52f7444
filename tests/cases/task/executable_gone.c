//# expect: resumes
//# flavours: alone running killed twice
/* A program whose file was deleted while it ran, as every upgrade does it. */
#include "../guest.h"

int main(int argc, char **argv)
{
    if (!getenv("COPIED")) {
        char command[3 * PATH_MAX];
        snprintf(command, sizeof command, "cp '%s' '%s/copy'", argv[0], guest_home);
        guest_check(system(command) == 0);
        setenv("COPIED", "1", 1);
        execl(guest_path("copy"), "copy", NULL);
        guest_fail("execl");
    }
    guest_check(unlink(guest_path("copy")) == 0);

    guest_checkpoint_here();

    guest_check(argc == 1 && !strcmp(argv[0], "copy"));
    guest_check(access(guest_path("copy"), F_OK) == -1, "it is back under its name");
    return 0;
}
