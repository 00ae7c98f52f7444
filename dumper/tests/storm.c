/* Tasks that fork and exit all the time, for storm.rs. The first argument says how:
 *   waited   children that end at once, and are waited for
 *   ignored  children that end soon, for which nobody waits
 *   chain    every child takes the place of its parent, which ends: the root adopts it
 *   siblings the same, but by CLONE_PARENT: the child is the root's from the start
 *   spawned  children by vfork, which call execve
 *   vfork    a child that keeps its parent waiting in vfork
 * It writes its pid to `ready`, then how many children there were to standard output, every second. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static unsigned long *born;

static void rest(long microseconds)
{
    struct timespec time = {0, microseconds * 1000};
    nanosleep(&time, NULL);
}

static void storm(const char *kind)
{
    if (!strcmp(kind, "vfork")) {
        if (vfork() == 0)
            for (;;)
                pause();
    }
    for (;;) {
        pid_t child;
        if (!strcmp(kind, "siblings"))
            child = syscall(SYS_clone, CLONE_PARENT | SIGCHLD, 0, 0, 0, 0);
        else
            child = strcmp(kind, "spawned") ? fork() : vfork();
        int goes_on = !strcmp(kind, "chain") || !strcmp(kind, "siblings");
        if (child == 0) {
            __atomic_add_fetch(born, 1, __ATOMIC_RELAXED);
            if (!strcmp(kind, "spawned"))
                execl("/bin/true", "true", NULL);
            if (!strcmp(kind, "ignored"))
                rest(500);
            if (!goes_on)
                _exit(0);
        } else if (goes_on) {
            _exit(0);
        } else if (strcmp(kind, "ignored")) {
            waitpid(child, NULL, 0);
        }
        rest(300);
        if (*born >> 62) /* the end */
            _exit(0);
    }
}

int main(int argc, char **argv)
{
    const char *kind = argc > 1 ? argv[1] : "waited";
    syscall(SYS_close_range, 3, ~0u, 0);
    born = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    if (!strcmp(kind, "ignored") || !strcmp(kind, "chain") || !strcmp(kind, "siblings"))
        signal(SIGCHLD, SIG_IGN);
    for (int i = 0; i < 3; i++)
        if (fork() == 0)
            storm(kind);
    close(creat("ready", 0600));
    /* The end of its input ends the storm. */
    char byte;
    while (read(0, &byte, 1) > 0) {
        printf("%lu\n", *born);
        fflush(stdout);
    }
    __atomic_or_fetch(born, 1ul << 62, __ATOMIC_RELAXED);
    signal(SIGCHLD, SIG_DFL);
    if (!strcmp(kind, "vfork"))
        kill(0, SIGKILL);
    while (wait(NULL) > 0)
        ;
    return 0;
}
