/* What a case is written with.
 *
 * A case is a program that builds a state, calls guest_checkpoint_here(), and checks the state with guest_check().
 * The runner starts it in a directory of its own, waits until it is ready, makes a checkpoint, and lets the original, a
 * resumed copy, or several of them go on: every one of them checks itself.
 *
 * How a guest is told to go on. It asks for files by their path, once a millisecond. A path is all that this needs: no
 * descriptor, no mapping, no signal and no lock that would itself have to survive, and nothing of it shows in /proc
 * between two looks. The files bear the pid, because that is what tells apart those that run at the same time: the
 * original and its copies share everything else. Copies that have the same one in pid namespaces of their own add the number
 * of that namespace: PID.NUMBER.
 *
 *     ready       written by the guest: its pid. Its state stands, the runner may look and make the checkpoint.
 *     probe.PID   renamed to alive.PID by the guest: it runs, and waits. (The runner then compares /proc.)
 *     go.PID      tells guest PID to go on and who it is: "original", "resumed", "first", "second".
 *     result.WHO  written by the guest: "ok N" after N checks, or "failed ..." or "skipped ...".
 *     trouble.WHO the same of another process of its tree that has failed (tree.h).
 *
 * A guest that ends without "ok N", N at least 1 after it was told to go on, has failed, whatever its exit status: a
 * program that was resumed in the wrong place and exits with 0 is no success. */
#ifndef GUEST_H
#define GUEST_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define GUEST_PAGE 4096ul
/* Longer than any dump and resume takes; then the guest gives up, so that none outlives a broken run. */
#define GUEST_PATIENCE_MS 180000

static char guest_home[PATH_MAX]; /* the directory of this run, as an absolute path */
static char guest_namespace[64]; /* the pid namespace in which it was started */
static char guest_who[32] = "setup";
static char guest_member[32]; /* its name, if it is not the process that the runner knows (tree.h) */
static atomic_int guest_checks;
static atomic_int guest_has_failed;
static atomic_int guest_goes_on;

static const char *guest_tree = "self"; /* in whose pid namespace the names of files are: in one inside, the root's */

__attribute__((constructor)) static void guest_start(void)
{
    if (!getcwd(guest_home, sizeof guest_home - 64))
        abort();
    if (readlink("/proc/self/ns/pid", guest_namespace, sizeof guest_namespace - 1) < 0)
        guest_namespace[0] = 0;
}

/* The path of the file `what` that bears the process id of this guest, or of the root of its tree. */
static void guest_own_path(char *path, size_t size, const char *what, int pid)
{
    char namespace[64] = {0};
    unsigned long number = 0;
    char link[64];
    snprintf(link, sizeof link, "/proc/%s/ns/pid", guest_tree);
    /* Where there is no /proc it is in no other one. */
    if (guest_namespace[0] && readlink(link, namespace, sizeof namespace - 1) > 0 &&
        strcmp(namespace, guest_namespace))
        sscanf(namespace, "pid:[%lu]", &number);
    if (number)
        snprintf(path, size, "%s/%s.%d.%lu", guest_home, what, pid, number);
    else
        snprintf(path, size, "%s/%s.%d", guest_home, what, pid);
}

/* Writes `text` to the file `name` of this run's directory, all at once. */
__attribute__((unused)) static void guest_write_file(const char *name, const char *text)
{
    char aside[PATH_MAX + 64], path[PATH_MAX + 64];
    snprintf(path, sizeof path, "%s/%s", guest_home, name);
    snprintf(aside, sizeof aside, "%s/.%s.%d", guest_home, name, (int)syscall(SYS_gettid));
    int fd = open(aside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    size_t length = strlen(text);
    if (fd < 0 || write(fd, text, length) != (ssize_t)length || close(fd) || rename(aside, path)) {
        dprintf(2, "guest: cannot write %s: %m\n", path);
        _exit(3);
    }
}

__attribute__((unused)) static void guest_result(const char *text)
{
    char name[64];
    snprintf(name, sizeof name, "%s.%s", guest_member[0] ? "trouble" : "result", guest_who);
    guest_write_file(name, text);
}

/* Has the runner remove a System V object at the end, as options of ipcrm(1): of a guest that is killed it stays. */
__attribute__((unused)) static void guest_leaves(const char *option, int id)
{
    char path[PATH_MAX + 64];
    snprintf(path, sizeof path, "%s/ipc", guest_home);
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (fd < 0 || dprintf(fd, "%s %d\n", option, id) < 0 || close(fd)) {
        dprintf(2, "guest: cannot write %s: %m\n", path);
        _exit(3);
    }
}

/* Ends the guest as failed. */
__attribute__((unused, noreturn, format(printf, 1, 2))) static void guest_fail(const char *format, ...)
{
    char text[1024];
    va_list list;
    int length = snprintf(text, sizeof text, "failed %s%s", guest_member, guest_member[0] ? ": " : "");
    va_start(list, format);
    vsnprintf(text + length, sizeof text - length, format, list);
    va_end(list);
    while (atomic_exchange(&guest_has_failed, 1))
        pause(); /* another thread was first, and ends all of them */
    guest_result(text);
    _exit(1);
}

/* Ends the guest: this machine lacks what the case needs. Only before guest_checkpoint_here(). */
__attribute__((unused, noreturn)) static void guest_skip(const char *reason)
{
    char text[256];
    snprintf(text, sizeof text, "skipped %s", reason);
    guest_result(text);
    _exit(77);
}

/* guest_check(condition) or guest_check(condition, "format", ...): goes on if it holds, else ends the guest. */
#define guest_check(condition, ...)                                                                                    \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            int guest_errno_ = errno;                                                                                  \
            char guest_text_[512];                                                                                     \
            snprintf(guest_text_, sizeof guest_text_, " " __VA_ARGS__);                                                \
            guest_fail("%s:%d: %s%s (errno %d, %s)", __FILE__, __LINE__, #condition, guest_text_, guest_errno_,        \
                       strerror(guest_errno_));                                                                        \
        }                                                                                                              \
        atomic_fetch_add(&guest_checks, 1);                                                                            \
    } while (0)

/* The state stands: the runner may make the checkpoint at any time from now on. Returns at once. */
__attribute__((unused)) static void guest_announce(void)
{
    char text[16];
    snprintf(text, sizeof text, "%d", (int)syscall(SYS_getpid));
    guest_write_file("ready", text);
}

/* Looks once whether this guest was told to go on. */
__attribute__((unused)) static bool guest_told(void)
{
    char probe[PATH_MAX + 64], alive[PATH_MAX + 64], go[PATH_MAX + 64];
    int pid = (int)syscall(SYS_getpid); /* asked anew: a copy may have another one */
    guest_own_path(probe, sizeof probe, "probe", pid);
    guest_own_path(alive, sizeof alive, "alive", pid);
    guest_own_path(go, sizeof go, "go", pid);
    rename(probe, alive);
    int fd = open(go, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t length = read(fd, guest_who, sizeof guest_who - 1);
    close(fd);
    if (length <= 0)
        return false;
    guest_who[length] = 0;
    atomic_store(&guest_checks, 0);
    atomic_store(&guest_goes_on, 1);
    return true;
}

/* Waits until this guest is told to go on. */
__attribute__((unused)) static void guest_wait(void)
{
    struct timespec start, now, pause = {0, 1000000};
    clock_gettime(CLOCK_MONOTONIC, &start);
    while (!guest_told()) {
        nanosleep(&pause, NULL);
        clock_gettime(CLOCK_MONOTONIC, &now);
        if ((now.tv_sec - start.tv_sec) * 1000 > GUEST_PATIENCE_MS)
            guest_fail("was never told to go on");
    }
}

/* Announces that the state stands, and returns after the checkpoint: in the original, in a copy, or in several. */
__attribute__((unused)) static void guest_checkpoint_here(void)
{
    guest_announce();
    guest_wait();
}

/* Whether this is a copy that came out of a checkpoint. */
__attribute__((unused)) static bool guest_was_resumed(void)
{
    return strcmp(guest_who, "original") != 0;
}

/* The path of `name` in this run's directory; holds until the eighth call after. */
__attribute__((unused)) static const char *guest_path(const char *name)
{
    static char paths[8][PATH_MAX + 64];
    static atomic_uint next;
    char *path = paths[atomic_fetch_add(&next, 1) % 8];
    snprintf(path, sizeof paths[0], "%s/%s", guest_home, name);
    return path;
}

/* A new mapping of `pages` pages. */
__attribute__((unused)) static void *guest_map(size_t pages, int protection, int flags)
{
    void *address = mmap(NULL, pages * GUEST_PAGE, protection, flags, -1, 0);
    guest_check(address != MAP_FAILED);
    return address;
}

/* Which of those that go on at the same time this is: an index below 4 for what each must have for itself. */
__attribute__((unused)) static int guest_index(void)
{
    static const char *const names[] = {"original", "resumed", "first", "second"};
    for (int index = 0; index < 4; index++)
        if (!strcmp(guest_who, names[index]))
            return index;
    return 0;
}

/* A thread that runs start(argument) and says who it is. */
struct guest_thread {
    pthread_t handle;
    atomic_int tid;
    void *(*start)(void *);
    void *argument;
};

__attribute__((unused)) static void *guest_thread_main(void *argument)
{
    struct guest_thread *thread = argument;
    atomic_store(&thread->tid, (int)syscall(SYS_gettid));
    return thread->start(thread->argument);
}

/* What a thread does last whose work may end before the guest was told to go on: the runner compares the threads. */
__attribute__((unused)) static void guest_linger(void)
{
    while (!atomic_load(&guest_goes_on))
        usleep(1000);
}

/* Starts a thread; its tid stands when this returns. */
__attribute__((unused)) static void guest_spawn(struct guest_thread *thread, void *(*start)(void *), void *argument)
{
    thread->start = start;
    thread->argument = argument;
    atomic_store(&thread->tid, 0);
    int error = pthread_create(&thread->handle, NULL, guest_thread_main, thread);
    guest_check(error == 0, "%s", strerror(error));
    while (!atomic_load(&thread->tid))
        usleep(100);
}

__attribute__((unused)) static void guest_join(struct guest_thread *thread)
{
    int error = pthread_join(thread->handle, NULL);
    guest_check(error == 0, "%s", strerror(error));
}

/* Milliseconds of the monotonic clock. */
__attribute__((unused)) static long guest_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* What a read of an eventfd or a timerfd takes. */
__attribute__((unused)) static uint64_t guest_take(int fd)
{
    uint64_t count = 0;
    guest_check(read(fd, &count, sizeof count) == sizeof count);
    return count;
}

/* A page-sized pattern that is different for every `seed`, and no word of which is zero. */
__attribute__((unused)) static void guest_fill(void *place, size_t length, uint32_t seed)
{
    uint32_t *words = place;
    for (size_t i = 0; i < length / 4; i++)
        words[i] = (seed * 2654435761u + (uint32_t)i * 40503u) | 1;
}

/* Whether that pattern stands there. */
__attribute__((unused)) static bool guest_filled(const void *place, size_t length, uint32_t seed)
{
    const uint32_t *words = place;
    for (size_t i = 0; i < length / 4; i++)
        if (words[i] != ((seed * 2654435761u + (uint32_t)i * 40503u) | 1))
            return false;
    return true;
}

/* Whether there are only zeros. */
__attribute__((unused)) static bool guest_zero(const void *place, size_t length)
{
    const unsigned char *bytes = place;
    for (size_t i = 0; i < length; i++)
        if (bytes[i])
            return false;
    return true;
}

/* Opens a new file of this run's directory for reading and writing, with `text` in it. */
__attribute__((unused)) static int guest_new_file(const char *name, const char *text)
{
    int fd = open(guest_path(name), O_RDWR | O_CREAT | O_EXCL, 0666);
    guest_check(fd >= 0, "%s", name);
    guest_check(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    guest_check(lseek(fd, 0, SEEK_SET) == 0);
    return fd;
}

/* Waits until thread `tid` of this process sleeps in system call `number`, so that it is dumped there. */
__attribute__((unused)) static void guest_wait_in_call(pid_t tid, long number)
{
    char path[64], text[64];
    for (int tries = 0; tries < 10000; tries++) {
        snprintf(path, sizeof path, "/proc/self/task/%d/syscall", (int)tid);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t length = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
        if (fd >= 0)
            close(fd);
        if (length > 0) {
            text[length] = 0;
            char *end;
            long found = strtol(text, &end, 10);
            if (end != text && found == number)
                return;
        }
        usleep(1000);
    }
    guest_fail("thread %d never came into system call %ld", (int)tid, number);
}

/* Goes on in a child that has not called execve since its fork; the parent waits and ends as the child does. */
__attribute__((unused)) static void guest_become_child(void)
{
    pid_t child = fork();
    guest_check(child >= 0);
    if (child == 0)
        return;
    int status;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}

__attribute__((destructor)) static void guest_end(void)
{
    char text[32];
    if (guest_member[0] || !strcmp(guest_who, "setup") || atomic_load(&guest_has_failed))
        return;
    snprintf(text, sizeof text, "ok %d", atomic_load(&guest_checks));
    guest_result(text);
}

#endif
