// The guest that scripts/bench saves and resumes, and probes of what the kernel allows at best.
//
//   bench guest MIB THREADS TASKS SOCKETS
//                                       a program that watches itself stand still; says where in its memory it tells
//   bench run FILE COMMAND...           runs COMMAND, standard output to FILE; says when it began and ended
//   bench save PID AT BYTES FILE PIECE HOW
//                                       freezes PID and copies BYTES of its memory to FILE; HOW is plain or allocate
//   bench load FILE BYTES HOW           brings FILE back into memory; HOW is move or advise
//   bench threads COUNT                 makes threads
//   bench nop                           does nothing
//
// Every answer is one line of decimal numbers; times are nanoseconds, moments those of CLOCK_REALTIME: CRIU resumes
// into a time namespace, where the other clocks go on from where they stood, and no gap would be seen.

#define _GNU_SOURCE
#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { WORKERS = 2, STACK_BYTES = 64 << 10 };
static const uint64_t HUGE_BYTES = 2 << 20, STAGE_BYTES = 8 << 20;

#ifndef UFFDIO_MOVE // linux/userfaultfd.h, 6.8
struct uffdio_move { uint64_t dst, src, len, mode; int64_t move; };
#define UFFDIO_MOVE _IOWR(UFFDIO, 0x05, struct uffdio_move)
#endif
#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

__attribute__((noreturn)) static void fail(const char *what)
{
    fprintf(stderr, "bench: cannot %s: %s\n", what, strerror(errno));
    exit(1);
}

static void *map(uint64_t bytes)
{
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED)
        fail("map memory");
    return at;
}

// A thread that waits in the kernel, with as little memory as can be.
static void *wait_for_ever(void *unused)
{
    for (;;)
        pause();
    return unused;
}

static void make_threads(long count)
{
    pthread_attr_t small;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, STACK_BYTES);
    for (long i = 0; i < count; i++) {
        pthread_t thread;
        if ((errno = pthread_create(&thread, &small, wait_for_ever, NULL)))
            fail("make a thread");
    }
}

// ---- the guest

// What scripts/bench reads and writes from outside, through /proc/PID/mem.
static struct {
    _Atomic uint64_t longest_gap; // between two looks at the clock
    _Atomic uint64_t gap_end;     // when that gap was over
    _Atomic uint64_t check;       // asks for a check of the memory, and is then 0
    _Atomic uint64_t wrong;       // words that were found wrong
} stats;

static uint64_t word_at(uint64_t index)
{
    return (index + 1) * 0x9e3779b97f4a7c15; // never 0, no two alike
}

enum { QUEUED_BYTES = 1024 };

// Pairs of unix sockets, in each of which something waits to be read.
static int *make_sockets(long count)
{
    struct rlimit limit;
    static char bytes[QUEUED_BYTES];
    int *pair = map(((size_t)count + 1) * sizeof *pair);
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0)
        limit.rlim_cur = limit.rlim_max;
    if (count > 0 && setrlimit(RLIMIT_NOFILE, &limit) != 0)
        fail("raise the limit of descriptors");
    for (long i = 0; i + 1 < count; i += 2)
        if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair + i) != 0 || write(pair[i], bytes, sizeof bytes) != sizeof bytes ||
            write(pair[i + 1], bytes, sizeof bytes) != sizeof bytes)
            fail("make sockets");
    return pair;
}

__attribute__((noreturn)) static void guest(uint64_t mib, long threads, long tasks, long sockets)
{
    int *socket = make_sockets(sockets), queued;
    uint64_t words = (mib << 20) / 8, *memory = map(words * 8), last = now_ns();
    for (uint64_t i = 0; i < words; i++)
        memory[i] = word_at(i);
    make_threads(threads - 1);
    setsid();
    int null = open("/dev/null", O_RDWR);
    for (long i = 1; i < tasks; i++)
        if (fork() == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            for (int fd = 0; fd < 3; fd++)
                dup2(null, fd);
            close(null);
            wait_for_ever(NULL);
        }
    printf("%lu %lu %lu\n", (unsigned long)&stats, (unsigned long)memory, (unsigned long)(words * 8));
    fflush(stdout);
    for (int fd = 0; fd < 3; fd++)
        dup2(null, fd);
    close(null);
    for (;;) {
        uint64_t now = now_ns();
        if (now - last > stats.longest_gap) {
            stats.longest_gap = now - last;
            stats.gap_end = now;
        }
        last = now;
        if (stats.check) {
            for (uint64_t i = 0; i < words; i++)
                stats.wrong += memory[i] != word_at(i);
            for (long i = 0; i < sockets; i++)
                stats.wrong += ioctl(socket[i], FIONREAD, &queued) != 0 || queued != QUEUED_BYTES;
            stats.check = 0;
            last = now_ns();
        }
    }
}

// ---- running a command

static int run(char **arguments)
{
    int out = open(arguments[0], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (out < 0)
        fail("make the file for the output");
    volatile uint64_t *begin = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t child = fork();
    if (child == 0) {
        dup2(out, 1);
        *begin = now_ns();
        execvp(arguments[1], arguments + 1);
        fail("execute the command");
    }
    int status;
    if (child < 0 || waitpid(child, &status, 0) != child)
        fail("run the command");
    printf("%lu %lu %d\n", (unsigned long)*begin, (unsigned long)now_ns(),
           WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
    return 0;
}

// ---- two workers that share pieces of work

struct job {
    uint64_t bytes, piece;
    int file;
    pid_t pid;
    uint64_t at;          // of the memory: the victim's, or our own
    int userfault;        // to move pages by, or -1
    _Atomic uint64_t next;
};

static void *save_pieces(void *argument)
{
    struct job *job = argument;
    char *buffer = map(job->piece);
    for (uint64_t from; (from = atomic_fetch_add(&job->next, job->piece)) < job->bytes;) {
        uint64_t bytes = job->bytes - from < job->piece ? job->bytes - from : job->piece;
        struct iovec mine = {buffer, bytes}, theirs = {(void *)(job->at + from), bytes};
        if (process_vm_readv(job->pid, &mine, 1, &theirs, 1, 0) != (ssize_t)bytes)
            fail("read the memory");
        if (pwrite(job->file, buffer, bytes, (off_t)from) != (ssize_t)bytes)
            fail("write the file");
    }
    return NULL;
}

static void *load_pieces(void *argument)
{
    struct job *job = argument;
    // Huge pages only come to aligned addresses.
    uint64_t stage = ((uint64_t)map(job->piece + HUGE_BYTES) + HUGE_BYTES - 1) & ~(HUGE_BYTES - 1);
    madvise((void *)stage, job->piece, MADV_HUGEPAGE);
    for (uint64_t from; (from = atomic_fetch_add(&job->next, job->piece)) < job->bytes;) {
        uint64_t to = job->userfault < 0 ? job->at + from : stage;
        uint64_t bytes = job->bytes - from < job->piece ? job->bytes - from : job->piece;
        for (uint64_t done = 0; done < bytes; done += HUGE_BYTES)
            if (pread(job->file, (void *)(to + done), HUGE_BYTES, (off_t)(from + done)) < 0)
                fail("read the file");
        for (uint64_t done = 0; job->userfault >= 0 && done < bytes;) {
            struct uffdio_move move = {job->at + from + done, stage + done, bytes - done, 0, 0};
            if (ioctl(job->userfault, UFFDIO_MOVE, &move) && errno != EAGAIN)
                fail("move pages");
            done += move.move > 0 ? (uint64_t)move.move : 0;
        }
    }
    return NULL;
}

static void share(struct job *job, void *(*work)(void *))
{
    pthread_t helper[WORKERS - 1];
    for (int i = 0; i < WORKERS - 1; i++)
        if ((errno = pthread_create(&helper[i], NULL, work, job)))
            fail("make a worker");
    work(job);
    for (int i = 0; i < WORKERS - 1; i++)
        pthread_join(helper[i], NULL);
}

// ---- probes

static long threads_of(pid_t pid, pid_t **threads)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task", pid);
    DIR *directory = opendir(path);
    if (!directory)
        fail("list the threads");
    long count = 0, room = 0;
    for (struct dirent *entry; (entry = readdir(directory));) {
        if (entry->d_name[0] == '.')
            continue;
        if (count == room && !(*threads = realloc(*threads, (size_t)(room = room * 2 + 64) * sizeof **threads)))
            fail("list the threads");
        (*threads)[count++] = atoi(entry->d_name);
    }
    closedir(directory);
    return count;
}

// Says: standing still but for the copy, allocating, copying.
static int save(pid_t pid, uint64_t at, uint64_t bytes, const char *path, uint64_t piece, int allocates)
{
    struct job job = {.bytes = bytes, .piece = piece, .pid = pid, .at = at};
    if ((job.file = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600)) < 0)
        fail("make the file");
    pid_t *threads = NULL;
    uint64_t t0 = now_ns();
    long count = threads_of(pid, &threads);
    for (long i = 0; i < count; i++)
        if (ptrace(PTRACE_SEIZE, threads[i], 0, 0) || ptrace(PTRACE_INTERRUPT, threads[i], 0, 0))
            fail("seize a thread");
    for (long i = 0; i < count; i++) {
        struct user_regs_struct registers;
        struct iovec window = {&registers, sizeof registers};
        if (waitpid(threads[i], NULL, __WALL) < 0 || ptrace(PTRACE_GETREGSET, threads[i], NT_PRSTATUS, &window))
            fail("read the registers");
    }
    uint64_t t1 = now_ns();
    if (allocates && bytes && fallocate(job.file, 0, 0, (off_t)bytes))
        fail("allocate the file");
    uint64_t t2 = now_ns();
    share(&job, save_pieces);
    uint64_t t3 = now_ns();
    for (long i = 0; i < count; i++)
        ptrace(PTRACE_DETACH, threads[i], 0, 0);
    uint64_t t4 = now_ns();
    printf("%lu %lu %lu\n", t1 - t0 + t4 - t3, t2 - t1, t3 - t2);
    return 0;
}

// Says: how long it took.
static int load(const char *path, uint64_t bytes, int moves)
{
    uint64_t t0 = now_ns();
    struct job job = {.bytes = bytes, .piece = moves ? STAGE_BYTES : HUGE_BYTES, .userfault = -1};
    job.at = ((uint64_t)map(bytes + 2 * STAGE_BYTES) + HUGE_BYTES - 1) & ~(HUGE_BYTES - 1);
    uint64_t room = (bytes + STAGE_BYTES - 1) / STAGE_BYTES * STAGE_BYTES;
    if ((job.file = open(path, O_RDONLY)) < 0)
        fail("open the file");
    if (moves) {
        struct uffdio_api api = {.api = UFFD_API};
        struct uffdio_register place = {.range = {job.at, room}, .mode = UFFDIO_REGISTER_MODE_MISSING};
        job.userfault = (int)syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
        if (job.userfault < 0 || ioctl(job.userfault, UFFDIO_API, &api) || ioctl(job.userfault, UFFDIO_REGISTER, &place))
            fail("set up userfaultfd");
    } else {
        madvise((void *)job.at, room, MADV_HUGEPAGE);
    }
    share(&job, load_pieces);
    printf("%lu\n", now_ns() - t0);
    return 0;
}

static int time_threads(long count)
{
    uint64_t t0 = now_ns();
    make_threads(count);
    printf("%lu\n", now_ns() - t0);
    fflush(stdout);
    _exit(0);
}

static uint64_t number(const char *text)
{
    return strtoull(text, NULL, 10);
}

int main(int count, char **arguments)
{
    const char *mode = count > 1 ? arguments[1] : "";
    char **rest = arguments + 2;
    int given = count - 2;
    if (!strcmp(mode, "guest") && given == 4)
        guest(number(rest[0]), (long)number(rest[1]), (long)number(rest[2]), (long)number(rest[3]));
    if (!strcmp(mode, "run") && given >= 2)
        return run(rest);
    if (!strcmp(mode, "save") && given == 6)
        return save((pid_t)number(rest[0]), number(rest[1]), number(rest[2]), rest[3], number(rest[4]),
                    !strcmp(rest[5], "allocate"));
    if (!strcmp(mode, "load") && given == 3)
        return load(rest[0], number(rest[1]), !strcmp(rest[2], "move"));
    if (!strcmp(mode, "threads") && given == 1)
        return time_threads((long)number(rest[0]));
    if (!strcmp(mode, "nop"))
        return 0;
    fprintf(stderr, "bench: see the head of bench.c\n");
    return 2;
}
