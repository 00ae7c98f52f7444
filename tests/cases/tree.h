/* What a case with several processes is written with.
 *
 * The root is the guest that the runner knows; every other process of the tree, a member, has a name. They tell each other by files
 * what has come to pass, as runner and guest do, so that nothing that they share has to survive for it: an event is a file
 * whose name bears who they are (`guest_who`), because originals and copies have the same directory.
 *
 *     root:   start members; tree_gather("a", "b"); guest_checkpoint_here(); ... tree_finish(a, "a"); ...
 *     member: build a state; tree_checkpoint_here(); guest_check(...);
 *
 * A member that fails says so in a file, and the root ends with its words as soon as it waits for anything. */
#ifndef TREE_H
#define TREE_H

#include "guest.h"
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>

#define TREE_PATIENCE_MS 50000

static pid_t tree_root; /* the process id of the root, in all members */

/* In a member that lives in a pid namespace inside of the tree, before it calls anything else here. */
__attribute__((unused)) static void tree_inside(void)
{
    static char root[16];
    char link[64];
    ssize_t length;
    snprintf(root, sizeof root, "%d", (int)tree_root);
    guest_tree = root;
    if (!getenv("TREE_NAME"))
        return;
    /* It has called execve, and took its own for the root's. */
    snprintf(link, sizeof link, "/proc/%s/ns/pid", root);
    length = readlink(link, guest_namespace, sizeof guest_namespace - 1);
    guest_namespace[length < 0 ? 0 : length] = 0;
}

/* In a member that has called execve: who it is comes with its environment. */
__attribute__((constructor)) static void tree_begin(void)
{
    const char *name = getenv("TREE_NAME"), *root = getenv("TREE_ROOT");
    if (!name || !root)
        return;
    snprintf(guest_member, sizeof guest_member, "%s", name);
    tree_root = atoi(root);
}

/* Whether this process is the member `name`; the root is "". */
__attribute__((unused)) static bool tree_is(const char *name)
{
    return !strcmp(guest_member, name);
}

static void tree_event_name(char *name, size_t size, const char *event)
{
    snprintf(name, size, "event.%s.%s", guest_who, event);
}

/* Says that `event` has come to pass. */
__attribute__((unused)) static void tree_tell(const char *event)
{
    char name[128];
    tree_event_name(name, sizeof name, event);
    guest_write_file(name, "told");
}

static bool tree_exists(const char *name)
{
    char path[PATH_MAX + 192];
    snprintf(path, sizeof path, "%s/%s", guest_home, name);
    return faccessat(AT_FDCWD, path, F_OK, 0) == 0;
}

/* Fails if a member has. */
static void tree_check_members(void)
{
    char name[64], path[PATH_MAX + 192], text[1024] = {0};
    snprintf(name, sizeof name, "trouble.%s", guest_who);
    if (!tree_exists(name))
        return;
    snprintf(path, sizeof path, "%s/%s", guest_home, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = read(fd, text, sizeof text - 1);
    close(fd);
    guest_fail("%s", length > 0 ? text : "a member failed");
}

static void tree_pause(long start_ms, long patience_ms, const char *what)
{
    struct timespec pause = {0, 2000000};
    nanosleep(&pause, NULL);
    if (guest_now_ms() - start_ms > patience_ms)
        guest_fail("%s has not come to pass", what);
}

/* Waits for `event`. */
__attribute__((unused)) static void tree_await(const char *event)
{
    char name[128];
    long start = guest_now_ms();
    tree_event_name(name, sizeof name, event);
    while (!tree_exists(name)) {
        if (tree_is(""))
            tree_check_members();
        tree_pause(start, TREE_PATIENCE_MS, event);
    }
}

static void tree_event_of(void (*deed)(const char *), const char *event, const char *member)
{
    char name[96];
    snprintf(name, sizeof name, "%s.%s", event, member);
    deed(name);
}

/* A member's state stands. */
__attribute__((unused)) static void tree_in_place(void)
{
    tree_event_of(tree_tell, "place", guest_member);
}

/* A member waits until the root is told to go on. */
__attribute__((unused)) static void tree_wait(void)
{
    char path[PATH_MAX + 64];
    long start = guest_now_ms();
    for (;;) {
        guest_own_path(path, sizeof path, "go", (int)tree_root);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd >= 0) {
            ssize_t length = read(fd, guest_who, sizeof guest_who - 1);
            guest_check(length > 0 && close(fd) == 0);
            guest_who[length] = 0;
            atomic_store(&guest_checks, 0);
            atomic_store(&guest_goes_on, 1);
            return;
        }
        tree_pause(start, GUEST_PATIENCE_MS, "the word to go on");
    }
}

/* Both. */
__attribute__((unused)) static void tree_checkpoint_here(void)
{
    tree_in_place();
    tree_wait();
}

/* The end of a member whose checks hold. */
__attribute__((unused, noreturn)) static void tree_done(void)
{
    guest_check(atomic_load(&guest_goes_on), "it was not told to go on");
    tree_event_of(tree_tell, "done", guest_member);
    _exit(0);
}

/* In a new process: it is the member `name`, does `run`, and ends. */
__attribute__((unused, noreturn)) static void tree_live(const char *name, void (*run)(void))
{
    snprintf(guest_member, sizeof guest_member, "%s", name);
    run();
    tree_done();
}

/* Who comes after belongs to this process as its root. */
__attribute__((unused)) static void tree_plant(void)
{
    if (!tree_root)
        tree_root = (pid_t)syscall(SYS_getpid);
}

/* A new member, forked. */
__attribute__((unused)) static pid_t tree_start(const char *name, void (*run)(void))
{
    tree_plant();
    pid_t child = fork();
    guest_check(child >= 0);
    if (child == 0)
        tree_live(name, run);
    return child;
}

/* The same by clone(2) without a stack: with an exit signal, CLONE_PARENT, CLONE_FILES, ... but without CLONE_VM. */
__attribute__((unused)) static pid_t tree_clone(const char *name, unsigned long flags, void (*run)(void))
{
    tree_plant();
    pid_t child = (pid_t)syscall(SYS_clone, flags, NULL, NULL, NULL, 0);
    guest_check(child >= 0);
    if (child == 0)
        tree_live(name, run);
    return child;
}

/* Executes this case anew as the member `name`, whose main() asks with tree_is(). */
__attribute__((unused, noreturn)) static void tree_exec(const char *name)
{
    char root[16], own[PATH_MAX] = {0};
    tree_plant();
    snprintf(root, sizeof root, "%d", (int)tree_root);
    guest_check(readlink("/proc/self/exe", own, sizeof own - 1) > 0);
    guest_check(setenv("TREE_NAME", name, 1) == 0 && setenv("TREE_ROOT", root, 1) == 0);
    execl(own, own, name, NULL);
    guest_fail("cannot execute %s: %m", own);
}

/* A new member, forked and executed. */
__attribute__((unused)) static pid_t tree_start_exec(const char *name)
{
    tree_plant();
    pid_t child = fork();
    guest_check(child >= 0);
    if (child == 0)
        tree_exec(name);
    return child;
}

/* The root waits until the state of all these members stands: tree_gather("one", "two"). */
#define tree_gather(...) tree_await_all("place", (const char *[]){__VA_ARGS__, NULL})
/* The same for their end, where they are not its children. */
#define tree_all_done(...) tree_await_all("done", (const char *[]){__VA_ARGS__, NULL})

__attribute__((unused)) static void tree_await_all(const char *event, const char *const *names)
{
    for (; *names; names++)
        tree_event_of(tree_await, event, *names);
}

/* Waits for the end of a child that is the member `name`: it must have found all as it should be. */
__attribute__((unused)) static void tree_finish(pid_t child, const char *name)
{
    int status = 0;
    pid_t ended;
    while ((ended = waitpid(child, &status, __WALL)) < 0 && errno == EINTR)
        ;
    tree_check_members();
    guest_check(ended == child && WIFEXITED(status) && WEXITSTATUS(status) == 0, "%s: %d, status %x", name, (int)ended,
                status);
    tree_event_of(tree_await, "done", name);
}

/* Field `number` of /proc/PID/stat, counted as in proc_pid_stat(5), from the fourth on. */
__attribute__((unused)) static unsigned long tree_stat(pid_t pid, int number)
{
    char path[64], line[2048] = {0};
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    guest_check(fd >= 0 && read(fd, line, sizeof line - 1) > 0 && close(fd) == 0, "process %d", (int)pid);
    char *at = strrchr(line, ')') + 2;
    for (int field = 3; field < number; field++)
        at = strchr(at, ' ') + 1;
    return strtoul(at, NULL, 10);
}

/* The state letter of a process. */
__attribute__((unused)) static char tree_state(pid_t pid)
{
    char path[64], line[2048] = {0};
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, line, sizeof line - 1) <= 0)
        return '-';
    close(fd);
    return strrchr(line, ')')[2];
}

/* Waits until process `pid` is in this state. */
__attribute__((unused)) static void tree_await_state(pid_t pid, char state)
{
    long start = guest_now_ms();
    while (tree_state(pid) != state)
        tree_pause(start, TREE_PATIENCE_MS, "the state of a process");
}

/* Waits until the main thread of process `pid` sleeps in system call `number`. */
__attribute__((unused)) static void tree_await_call(pid_t pid, long number)
{
    char path[64], text[64];
    long start = guest_now_ms();
    for (;;) {
        snprintf(path, sizeof path, "/proc/%d/syscall", (int)pid);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t length = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
        if (fd >= 0)
            close(fd);
        if (length > 0) {
            text[length] = 0;
            if (text[0] >= '0' && text[0] <= '9' && atol(text) == number)
                return;
        }
        tree_pause(start, TREE_PATIENCE_MS, "a system call of a process");
    }
}

#endif
