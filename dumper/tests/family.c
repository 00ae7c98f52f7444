/* A tree of tasks that share all that tasks can share, for tree.rs. It writes `ready` when all of them wait, and every one
 * of them ends with the first. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGES 1024
static char *pages;
static int made[2];

static void must(int right, const char *what)
{
    if (!right) {
        perror(what);
        _exit(1);
    }
}

/* Tells the root that this task stands as it should, and waits for the end. */
static void stand(void)
{
    must(write(made[1], "x", 1) == 1, "write");
    for (;;)
        pause();
}

static void *waits(void *unused)
{
    (void)unused;
    for (;;)
        pause();
}

static void *forks(void *unused)
{
    (void)unused;
    pid_t child = fork();
    must(child >= 0, "fork");
    if (child == 0)
        stand();
    for (;;)
        pause();
}

static int clone_stands(void *unused)
{
    (void)unused;
    stand();
    return 0;
}

static void clones(int flags, int count)
{
    while (count--) {
        char *stack = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        must(clone(clone_stands, stack + 65536, flags, NULL) > 0, "clone");
    }
}

static pid_t forked(void)
{
    pid_t child = fork();
    must(child >= 0, "fork");
    if (child == 0)
        must(prctl(PR_SET_PDEATHSIG, SIGKILL) == 0, "prctl");
    return child;
}

int main(int argc, char **argv)
{
    int standing = 0, status;
    if (argc > 1) { /* one that was exec'd */
        made[1] = atoi(argv[1]);
        stand();
    }
    syscall(SYS_close_range, 3, ~0u, 0); /* what the test was started with */
    must(pipe(made) == 0, "pipe");
    must(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0, "prctl");
    signal(SIGUSR1, SIG_IGN);
    pages = mmap(NULL, PAGES * 4096ul, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (uint32_t i = 0; i < PAGES * 1024; i++)
        ((uint32_t *)pages)[i] = i * 2654435761u;
    char *shared = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    strcpy(shared, "shared");
    int file = open("file", O_RDWR | O_CREAT | O_TRUNC, 0600);
    must(file >= 0 && write(file, "content", 7) == 7, "file");
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_len = 3};
    must(fcntl(file, F_SETLK, &lock) == 0, "lock");

    /* Changes some pages, has another lock, a file of its own, threads, and a child of a thread. */
    if (forked() == 0) {
        for (int i = 0; i < PAGES; i += 100)
            pages[i * 4096] ^= 1;
        struct flock mine = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 5, .l_len = 2};
        must(fcntl(file, F_SETLK, &mine) == 0 && open("file", O_RDONLY) >= 0, "own file");
        pthread_t thread;
        pthread_create(&thread, NULL, waits, NULL);
        pthread_create(&thread, NULL, forks, NULL);
        stand();
    }
    standing += 2;
    /* Exec'd. */
    if (forked() == 0) {
        char number[16];
        snprintf(number, sizeof number, "%d", made[1]);
        execl(argv[0], "renamed", number, NULL);
        must(0, "exec");
    }
    standing++;
    /* A session of its own, with a group in it, in which somebody is stopped. */
    if (forked() == 0) {
        must(setsid() > 0, "setsid");
        pid_t child = forked();
        if (child == 0) {
            must(setpgid(0, 0) == 0 && write(made[1], "x", 1) == 1, "group");
            raise(SIGSTOP);
            stand();
        }
        must(waitpid(child, &status, WUNTRACED) == child && WIFSTOPPED(status), "stopped");
        stand();
    }
    standing += 2;
    /* An orphan, which the root adopts. */
    pid_t between = forked();
    if (between == 0) {
        if (fork() == 0)
            stand();
        _exit(0);
    }
    must(waitpid(between, &status, 0) == between, "waitpid");
    standing++;
    /* Zombies. */
    pid_t ended = forked();
    if (ended == 0)
        _exit(7);
    pid_t killed = forked();
    if (killed == 0)
        for (;;)
            pause();
    kill(killed, SIGKILL);
    siginfo_t info;
    must(waitid(P_PID, ended, &info, WEXITED | WNOWAIT) == 0 && waitid(P_PID, killed, &info, WEXITED | WNOWAIT) == 0,
         "zombies");
    /* Everything shared, or one thing of each kind. */
    clones(CLONE_VM | CLONE_FILES | CLONE_FS | CLONE_SIGHAND | SIGUSR1, 2);
    clones(CLONE_FILES | SIGCHLD, 1);
    clones(CLONE_FS | SIGCHLD, 1);
    clones(CLONE_VM | CLONE_SIGHAND | SIGCHLD, 1);
    standing += 5;
    for (char byte; standing > 0; standing--)
        must(read(made[0], &byte, 1) == 1, "read");
    must(close(creat("ready", 0600)) == 0, "ready");
    for (;;)
        pause();
}
