//# expect: resumes
//# needs: capability sys_admin
//# tasks: 9
//# flavours: alone running killed again exec namespace
//# show: pid_namespace id=1 parent=0
//# show: pid_namespace id=2 parent=0
/* Two pid namespaces inside of the tree: one as unshare(1) makes it, whose maker has its children there for ever, and one by
 * clone(2). In the first live a thread, an orphan, a zombie, and a group. */
#include "../tree.h"
#include <pthread.h>

enum { INIT = 1 };
static volatile sig_atomic_t told_by;
static pid_t thread_id;

static void note_teller(int signal, siginfo_t *info, void *context)
{
    (void)signal, (void)context;
    told_by = info->si_pid;
}

static pid_t gettid_now(void)
{
    return (pid_t)syscall(SYS_gettid);
}

/* The ids of this process, as /proc shows them from outside. */
static void ids(char *text, size_t size)
{
    char line[256];
    FILE *status = fopen("/proc/self/status", "re");
    guest_check(status);
    while (fgets(line, sizeof line, status))
        if (!strncmp(line, "NSpid:", 6))
            snprintf(text, size, "%s", line);
    fclose(status);
}

static void *second_thread(void *unused)
{
    (void)unused;
    pid_t own = gettid_now();
    thread_id = own;
    while (!atomic_load(&guest_goes_on))
        usleep(1000);
    guest_check(gettid_now() == own && own != 1);
    return NULL;
}

/* Leads a group, has a thread, and is told something by the init. */
static void leader(void)
{
    pthread_t thread;
    struct sigaction action = {.sa_sigaction = note_teller, .sa_flags = SA_SIGINFO};
    pid_t own = getpid();
    tree_inside();
    guest_check(own == 2 && getppid() == INIT && setpgid(0, 0) == 0);
    guest_check(sigaction(SIGUSR1, &action, NULL) == 0);
    guest_check(pthread_create(&thread, NULL, second_thread, NULL) == 0);
    while (!thread_id)
        usleep(1000);
    tree_checkpoint_here();
    guest_check((pid_t)syscall(SYS_getpid) == own && gettid_now() == own && getppid() == INIT);
    guest_check(getpgid(0) == own && getsid(0) == 0);
    tree_tell("leader listens");
    for (long start = guest_now_ms(); !told_by; tree_pause(start, TREE_PATIENCE_MS, "the signal"))
        ;
    guest_check(told_by == INIT);
    guest_check(pthread_join(thread, NULL) == 0);
}

static void follower(void)
{
    pid_t own = getpid();
    tree_inside();
    guest_check(setpgid(0, 2) == 0);
    tree_checkpoint_here();
    guest_check((pid_t)syscall(SYS_getpid) == own && getpgid(0) == 2);
}

static void orphan(void)
{
    pid_t own = getpid(), parent = getppid();
    tree_inside();
    tree_tell("orphan lives");
    for (long start = guest_now_ms(); getppid() == parent; tree_pause(start, TREE_PATIENCE_MS, "the parent's end"))
        ;
    guest_check(getppid() == INIT);
    tree_checkpoint_here();
    guest_check(getppid() == INIT && (pid_t)syscall(SYS_getpid) == own);
}

static void ends_before(void)
{
    tree_inside();
    tree_start("orphan", orphan);
    tree_await("orphan lives");
    _exit(0);
}

static void first(void)
{
    char before[256], after[256];
    int status;
    tree_inside();
    guest_check(getpid() == INIT && getppid() == 0);
    pid_t leads = tree_start("leader", leader);
    guest_check(leads == 2);
    tree_await("place.leader");
    pid_t follows = tree_start("follower", follower), ends = tree_start("between", ends_before);
    guest_check(waitpid(ends, &status, 0) == ends && status == 0);
    pid_t zombie = fork();
    if (zombie == 0)
        _exit(7);
    siginfo_t info;
    guest_check(waitid(P_PID, (id_t)zombie, &info, WEXITED | WNOWAIT) == 0);
    tree_await("place.follower");
    tree_await("place.orphan");
    ids(before, sizeof before);
    tree_checkpoint_here();
    ids(after, sizeof after);
    guest_check(!strcmp(before, after), "%s was %s", after, before);
    guest_check((pid_t)syscall(SYS_getpid) == INIT && getppid() == 0);
    guest_check(waitpid(zombie, &status, WNOHANG) == zombie && WIFEXITED(status) && WEXITSTATUS(status) == 7);
    tree_await("leader listens");
    guest_check(kill(leads, SIGUSR1) == 0);
    guest_check(waitpid(leads, &status, 0) == leads && status == 0);
    guest_check(waitpid(follows, &status, 0) == follows && status == 0);
    pid_t orphaned = waitpid(-1, &status, 0);
    guest_check(orphaned > 2 && status == 0);
    pid_t next = fork();
    if (next == 0)
        _exit(getppid() == INIT && getpid() > INIT ? 0 : 1);
    guest_check(waitpid(next, &status, 0) == next && status == 0);
    tree_await("a child of the maker");
}

/* As unshare --pid --fork does. */
static void maker(void)
{
    int status;
    guest_check(unshare(CLONE_NEWPID) == 0);
    pid_t init = fork();
    if (init == 0)
        tree_exec("first");
    tree_await("place.first");
    tree_checkpoint_here();
    /* Its children live there still. */
    pid_t child = fork();
    if (child == 0)
        _exit(getppid() == 0 && getpid() > INIT ? 0 : 1);
    guest_check(waitpid(child, &status, 0) == child && status == 0);
    tree_tell("a child of the maker");
    tree_finish(init, "first");
}

static void lone_child(void)
{
    tree_inside();
    guest_check(getpid() == 2 && getppid() == INIT && setsid() == 2);
    tree_checkpoint_here();
    guest_check((pid_t)syscall(SYS_getpid) == 2 && getppid() == INIT && getsid(0) == 2);
    guest_check(kill(3, 0) == -1 && errno == ESRCH && kill(INIT, 0) == 0);
}

static void second(void)
{
    tree_inside();
    guest_check(getpid() == INIT && getppid() == 0);
    pid_t child = tree_start("lone child", lone_child);
    tree_await("place.lone child");
    tree_checkpoint_here();
    guest_check((pid_t)syscall(SYS_getpid) == INIT);
    tree_finish(child, "lone child");
}

int main(void)
{
    if (tree_is("first")) {
        first();
        tree_done();
    }
    pid_t one = tree_start("maker", maker);
    pid_t two = tree_clone("second", CLONE_NEWPID | SIGCHLD, second);
    tree_gather("maker", "first", "leader", "follower", "orphan", "second", "lone child");

    guest_checkpoint_here();

    tree_finish(one, "maker");
    tree_finish(two, "second");
    tree_all_done("first", "leader", "follower", "orphan", "lone child");
    return 0;
}
