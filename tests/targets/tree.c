/* A tree that grows as a script says: the target of the tests with random trees.
 *
 *     tree SCRIPT                  becomes such a tree
 *     tree reaper HOW PROGRAM...   runs a program as a `job` in a group of its own, as a `member` of our group, or as the
 *                                  leader of a `session`; takes the ends of all orphans, and ends when there are none
 *
 * Every task has a number below 256; the root is 0. Each line of the script is one step, done by one task when all lines
 * before are done:
 *
 *     TASK fork NEW SIGNAL    NEW is its child, with this exit signal
 *     TASK sibling NEW        NEW is made with CLONE_PARENT
 *     TASK exec               it executes this program anew
 *     TASK setsid
 *     TASK setpgid WHOM GROUP the task WHOM joins the group whose number is the process id of the task GROUP
 *     TASK subreaper 0|1
 *     TASK thread             it has one thread more
 *     TASK exit STATUS
 *     TASK die SIGNAL
 *     TASK reap WHOM          it waits for that task
 *
 * What the kernel refuses is no step. At the end of the script the root is ready, and every task puts the board away by
 * which they knew what was done: then they have nothing in common for its sake. When the root is told to go on, all end. */
#include "../cases/guest.h"
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>

#define TASKS_MAX 256

static struct board {
    atomic_int step;
    atomic_int pids[TASKS_MAX];
} *board;

static const char *script;
static int self;
static pid_t root;

static void wait_for_step(int step)
{
    struct timespec limit = {0, 100000000};
    for (long start = guest_now_ms();;) {
        int now = atomic_load(&board->step);
        if (now >= step)
            return;
        syscall(SYS_futex, &board->step, FUTEX_WAIT, now, &limit, NULL, 0);
        if (guest_now_ms() - start > 60000)
            guest_fail("task %d: step %d never comes", self, step);
    }
}

static void done(int step)
{
    atomic_store(&board->step, step + 1);
    syscall(SYS_futex, &board->step, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

static void find_board(void)
{
    int fd = open(guest_path("board"), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    guest_check(fd >= 0 && ftruncate(fd, sizeof *board) == 0);
    board = mmap(NULL, sizeof *board, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    guest_check(board != MAP_FAILED && close(fd) == 0);
}

/* What each changed of the memory that it was forked with. */
static int changed[TASKS_MAX];

static void be(int number)
{
    self = number;
    changed[number] = number;
    atomic_store(&board->pids[number], getpid());
}

static void on_signal(int signal)
{
}

static void *rest(void *unused)
{
    while (true)
        pause();
    return NULL;
}

static void make(int step, int number, unsigned long flags)
{
    pid_t child = (pid_t)syscall(SYS_clone, flags, NULL, NULL, NULL, NULL);
    guest_check(child >= 0);
    if (child) {
        /* The new task says itself that the step is done. */
        wait_for_step(step + 1);
        return;
    }
    be(number);
    done(step);
}

static void execute(int step)
{
    char number[16], at[16], pid[16];
    snprintf(number, sizeof number, "%d", self);
    snprintf(at, sizeof at, "%d", step);
    snprintf(pid, sizeof pid, "%d", (int)root);
    execl("/proc/self/exe", "tree", script, number, at, pid, NULL);
    guest_fail("cannot execute: %m");
}

static void await_end(pid_t pid)
{
    char path[64], line[512];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    for (long start = guest_now_ms(); guest_now_ms() - start < 30000; usleep(200)) {
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t length = fd < 0 ? -1 : read(fd, line, sizeof line - 1);
        if (fd >= 0)
            close(fd);
        if (length <= 0)
            return;
        line[length] = 0;
        if (strchr("ZX", strrchr(line, ')')[2]))
            return;
    }
    guest_fail("process %d does not end", (int)pid);
}

static void perform(int step, const char *line)
{
    char verb[16];
    int task, one = 0, other = 0;
    pthread_t thread;
    guest_check(sscanf(line, "%d %15s %d %d", &task, verb, &one, &other) >= 2, "%s", line);
    bool ends = !strcmp(verb, "exit") || !strcmp(verb, "die");
    if (task != self && !(ends && self == 0))
        return;
    wait_for_step(step);
    if (task != self) {
        /* The root sees to it that the end has come before the next step. */
        await_end(atomic_load(&board->pids[task]));
        done(step);
        return;
    }
    if (!strcmp(verb, "fork")) {
        make(step, one, other);
        return;
    } else if (!strcmp(verb, "sibling")) {
        make(step, one, CLONE_PARENT);
        return;
    } else if (!strcmp(verb, "exec")) {
        execute(step);
    } else if (!strcmp(verb, "setsid")) {
        setsid();
    } else if (!strcmp(verb, "setpgid")) {
        setpgid(atomic_load(&board->pids[one]), atomic_load(&board->pids[other]));
    } else if (!strcmp(verb, "subreaper")) {
        prctl(PR_SET_CHILD_SUBREAPER, one);
    } else if (!strcmp(verb, "thread")) {
        guest_check(pthread_create(&thread, NULL, rest, NULL) == 0);
    } else if (ends) {
        if (!strcmp(verb, "exit"))
            _exit(one);
        signal(one, SIG_DFL);
        raise(one);
        guest_fail("it lives");
    } else if (!strcmp(verb, "reap")) {
        waitpid(atomic_load(&board->pids[one]), NULL, __WALL);
    } else {
        guest_fail("no step: %s", line);
    }
    done(step);
}

static int reaper(const char *how, char **program)
{
    int status = 0, first = 0;
    guest_check(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
    pid_t child = fork();
    if (child == 0) {
        guest_check(!strcmp(how, "member") || (!strcmp(how, "job") && setpgid(0, 0) == 0) || setsid() > 0);
        execv(program[0], program);
        guest_fail("cannot execute %s: %m", program[0]);
    }
    for (;;) {
        pid_t ended = waitpid(-1, &status, __WALL);
        if (ended < 0 && errno == ECHILD)
            return first;
        if (ended == child)
            first = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }
}

int main(int argc, char **argv)
{
    if (argc > 3 && !strcmp(argv[1], "reaper"))
        return reaper(argv[2], argv + 3);
    guest_check(argc == 2 || argc == 5);
    script = argv[1];
    signal(SIGUSR1, on_signal);
    signal(SIGUSR2, on_signal);
    find_board();
    int first = 0, last = 0;
    root = getpid();
    if (argc == 5) {
        first = atoi(argv[3]) + 1;
        root = atoi(argv[4]);
        be(atoi(argv[2]));
        done(first - 1);
    } else {
        be(0);
    }
    char line[64];
    FILE *file = fopen(script, "re");
    guest_check(file != NULL);
    static char lines[1024][48];
    while (last < 1024 && fgets(line, sizeof line, file))
        snprintf(lines[last++], sizeof lines[0], "%.47s", line);
    guest_check(fclose(file) == 0);
    for (int step = first; step < last; step++)
        perform(step, lines[step]);
    wait_for_step(last);
    guest_check(munmap(board, sizeof *board) == 0);
    if (getpid() == root)
        guest_announce();
    char path[PATH_MAX + 64];
    snprintf(path, sizeof path, "%s/go.%d", guest_home, (int)root);
    struct timespec pause = {0, 20000000};
    for (long start = guest_now_ms(); access(path, F_OK); nanosleep(&pause, NULL)) {
        if (getpid() == root)
            guest_told();
        if (guest_now_ms() - start > GUEST_PATIENCE_MS)
            _exit(1);
    }
    guest_check(changed[self] == self);
    if (getpid() != root)
        _exit(0);
    guest_check(guest_told());
    guest_check(changed[self] == self);
    return 0;
}
