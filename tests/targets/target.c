/* A program that notices when anything is done to it: the target of the safety tests.
 *
 *     target small            one thread
 *     target many             24 threads of different kinds
 *     target large MIB        one thread, and MIB of memory with a digest of every page
 *     target refused          as many, and an epoll set, which stands against a checkpoint
 *     target watching         both ends of a pseudo-terminal, and an inotify instance
 *     target passing          descriptors on their way through unix sockets, and through themselves
 *     target churn            threads that start and end all the time
 *     target still            does nothing at all, so that two images of it are equal
 *
 * With `resumable` as the last argument it bears what its copies meet in other processes: relative waits that end early
 * with EINTR, as their man pages allow.
 *
 * Every thread checks its own state over and over and counts a beat each time. The file `beats` names the address and the
 * number of the counters, so that the runner reads them from outside: a thread whose counter stands still was hurt. What
 * a thread finds wrong ends the process as guest_fail() does, with the reason in the result. */
#include "../cases/guest.h"
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <poll.h>
#include <linux/futex.h>

#define THREADS_MAX 32
#define PAUSE_NS 2000000

static struct {
    uint64_t beat[THREADS_MAX];
} beats __attribute__((aligned(64)));
static atomic_int ending;
static int count;
static bool resumable;

static void beat(int self)
{
    __atomic_fetch_add(&beats.beat[self], 1, __ATOMIC_SEQ_CST);
}

static uint64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + now.tv_nsec;
}

/* Sleeps; neither less than was asked for nor with an error. */
static void pause_exactly(long ns)
{
    struct timespec wanted = {0, ns};
    uint64_t start = now_ns();
    if (nanosleep(&wanted, NULL)) {
        guest_check(resumable && errno == EINTR);
        return;
    }
    guest_check(now_ns() - start >= (uint64_t)ns, "slept %llu of %ld ns", (unsigned long long)(now_ns() - start), ns);
}

/* window_general(w): all general registers, the flags and the red zone hold what `in` says for `turns` turns, and come
 * out in `out`. Order: rax rbx rdx rsi rdi rbp r8 ... r15, flags, two words of the red zone. */
struct general {
    uint64_t in[17], out[17], turns;
};
void window_general(struct general *w);
__asm__(".intel_syntax noprefix\n"
        "window_general:\n"
        "push rbx\n push rbp\n push r12\n push r13\n push r14\n push r15\n push rdi\n"
        "mov rax, [rdi + 120]\n mov [rsp - 8], rax\n"
        "mov rax, [rdi + 128]\n mov [rsp - 120], rax\n"
        "lea rsp, [rsp - 128]\n push qword ptr [rdi + 112]\n popfq\n lea rsp, [rsp + 128]\n"
        "mov rcx, [rdi + 272]\n"
        "mov rax, [rdi]\n mov rbx, [rdi + 8]\n mov rdx, [rdi + 16]\n mov rsi, [rdi + 24]\n mov rbp, [rdi + 40]\n"
        "mov r8, [rdi + 48]\n mov r9, [rdi + 56]\n mov r10, [rdi + 64]\n mov r11, [rdi + 72]\n"
        "mov r12, [rdi + 80]\n mov r13, [rdi + 88]\n mov r14, [rdi + 96]\n mov r15, [rdi + 104]\n"
        "mov rdi, [rdi + 32]\n"
        "1: loop 1b\n" /* touches rcx and no flag */
        "lea rsp, [rsp - 128]\n pushfq\n push rdi\n cld\n"
        "mov rdi, [rsp + 144]\n"
        "mov [rdi + 136], rax\n mov [rdi + 144], rbx\n mov [rdi + 152], rdx\n mov [rdi + 160], rsi\n"
        "mov [rdi + 176], rbp\n mov [rdi + 184], r8\n mov [rdi + 192], r9\n mov [rdi + 200], r10\n"
        "mov [rdi + 208], r11\n mov [rdi + 216], r12\n mov [rdi + 224], r13\n mov [rdi + 232], r14\n"
        "mov [rdi + 240], r15\n"
        "pop rax\n mov [rdi + 168], rax\n"
        "pop rax\n mov [rdi + 248], rax\n"
        "lea rsp, [rsp + 128]\n"
        "mov rax, [rsp - 8]\n mov [rdi + 256], rax\n"
        "mov rax, [rsp - 120]\n mov [rdi + 264], rax\n"
        "pop rdi\n pop r15\n pop r14\n pop r13\n pop r12\n pop rbp\n pop rbx\n ret\n"
        ".att_syntax prefix\n");

/* window_vector(in, out, turns): ymm0 to ymm15. window_fp: the control words of x87 and SSE. */
void window_vector(const void *in, void *out, uint64_t turns);
__asm__(".intel_syntax noprefix\n"
        "window_vector:\n"
        ".set n, 0\n"
        "vmovdqu ymm0, [rdi]\n vmovdqu ymm1, [rdi + 32]\n vmovdqu ymm2, [rdi + 64]\n vmovdqu ymm3, [rdi + 96]\n"
        "vmovdqu ymm4, [rdi + 128]\n vmovdqu ymm5, [rdi + 160]\n vmovdqu ymm6, [rdi + 192]\n"
        "vmovdqu ymm7, [rdi + 224]\n vmovdqu ymm8, [rdi + 256]\n vmovdqu ymm9, [rdi + 288]\n"
        "vmovdqu ymm10, [rdi + 320]\n vmovdqu ymm11, [rdi + 352]\n vmovdqu ymm12, [rdi + 384]\n"
        "vmovdqu ymm13, [rdi + 416]\n vmovdqu ymm14, [rdi + 448]\n vmovdqu ymm15, [rdi + 480]\n"
        "mov rcx, rdx\n"
        "1: loop 1b\n"
        "vmovdqu [rsi], ymm0\n vmovdqu [rsi + 32], ymm1\n vmovdqu [rsi + 64], ymm2\n vmovdqu [rsi + 96], ymm3\n"
        "vmovdqu [rsi + 128], ymm4\n vmovdqu [rsi + 160], ymm5\n vmovdqu [rsi + 192], ymm6\n"
        "vmovdqu [rsi + 224], ymm7\n vmovdqu [rsi + 256], ymm8\n vmovdqu [rsi + 288], ymm9\n"
        "vmovdqu [rsi + 320], ymm10\n vmovdqu [rsi + 352], ymm11\n vmovdqu [rsi + 384], ymm12\n"
        "vmovdqu [rsi + 416], ymm13\n vmovdqu [rsi + 448], ymm14\n vmovdqu [rsi + 480], ymm15\n"
        "vzeroupper\n ret\n"
        ".att_syntax prefix\n");

static uint64_t mix(uint64_t value)
{
    value ^= value >> 31;
    value *= 0x9e3779b97f4a7c15u;
    value ^= value >> 29;
    return value * 0xbf58476d1ce4e5b9u + 1;
}

static void check_registers(uint64_t *seed)
{
    struct general w;
    for (int i = 0; i < 17; i++)
        w.in[i] = *seed = mix(*seed);
    /* CF PF AF ZF SF DF OF at will; bit 1 and IF are always set. */
    w.in[14] = (w.in[14] & 0xcd5) | 0x202;
    w.turns = 100000;
    window_general(&w);
    for (int i = 0; i < 17; i++)
        guest_check(w.in[i] == w.out[i], "register %d: %llx became %llx", i, (unsigned long long)w.in[i],
                    (unsigned long long)w.out[i]);
}

static void check_vectors(uint64_t *seed)
{
    uint64_t in[64], out[64];
    unsigned short control = 0x037f | (*seed & 3) << 10, control_after;
    unsigned rounding = 0x1f80 | (*seed & 3) << 13, rounding_after;
    for (int i = 0; i < 64; i++)
        in[i] = *seed = mix(*seed);
    __asm__ volatile("fldcw %0\n ldmxcsr %1" ::"m"(control), "m"(rounding));
    window_vector(in, out, 100000);
    __asm__ volatile("fnstcw %0\n stmxcsr %1" : "=m"(control_after), "=m"(rounding_after));
    guest_check(control == control_after && (rounding & 0xffc0) == (rounding_after & 0xffc0));
    for (int i = 0; i < 64; i++)
        guest_check(in[i] == out[i], "vector word %d", i);
}

/* Memory of which every page says which turn it is in. */
struct memory {
    uint64_t *words;
    size_t pages;
    uint64_t *turn;
};

static void fill_page(struct memory *memory, size_t page)
{
    uint64_t value = page * 977 + memory->turn[page] + 1;
    for (size_t i = 0; i < 512; i++)
        memory->words[page * 512 + i] = value = mix(value);
}

static void check_page(struct memory *memory, size_t page)
{
    uint64_t value = page * 977 + memory->turn[page] + 1;
    for (size_t i = 0; i < 512; i++) {
        value = mix(value);
        guest_check(memory->words[page * 512 + i] == value, "page %zu, word %zu", page, i);
    }
}

static struct memory new_memory(size_t pages)
{
    struct memory memory = {guest_map(pages, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS), pages,
                            calloc(pages, sizeof(uint64_t))};
    guest_check(memory.turn);
    for (size_t page = 0; page < pages; page++)
        fill_page(&memory, page);
    return memory;
}

static void turn_pages(struct memory *memory, uint64_t *seed, int how_many)
{
    while (how_many--) {
        size_t page = (*seed = mix(*seed)) % memory->pages;
        check_page(memory, page);
        memory->turn[page]++;
        fill_page(memory, page);
    }
}

static void *compute(void *self)
{
    uint64_t seed = (uintptr_t)self + 1;
    while (!ending) {
        check_registers(&seed);
        pause_exactly(PAUSE_NS);
        beat((intptr_t)self);
    }
    return NULL;
}

static void *compute_vectors(void *self)
{
    uint64_t seed = (uintptr_t)self + 1;
    while (!ending) {
        if (__builtin_cpu_supports("avx"))
            check_vectors(&seed);
        pause_exactly(PAUSE_NS);
        beat((intptr_t)self);
    }
    return NULL;
}

static void *keep_memory(void *self)
{
    struct memory memory = new_memory(64);
    uint64_t seed = (uintptr_t)self;
    while (!ending) {
        turn_pages(&memory, &seed, 16);
        pause_exactly(PAUSE_NS);
        beat((intptr_t)self);
    }
    return NULL;
}

static void *sleep_all_ways(void *self)
{
    for (uint64_t turn = 0; !ending; turn++) {
        struct timespec until, wanted = {0, PAUSE_NS};
        struct timeval limit = {0, PAUSE_NS / 1000};
        uint64_t start = now_ns();
        int polled = 0;
        switch (turn % 4) {
        case 0:
            pause_exactly(3 * PAUSE_NS);
            break;
        case 1:
            clock_gettime(CLOCK_MONOTONIC, &until);
            until.tv_nsec += PAUSE_NS;
            if (until.tv_nsec >= 1000000000)
                until.tv_nsec -= 1000000000, until.tv_sec++;
            guest_check(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == 0);
            break;
        case 2:
            polled = poll(NULL, 0, PAUSE_NS / 1000000);
            guest_check(polled == 0 || (resumable && errno == EINTR));
            break;
        case 3:
            guest_check(turn % 8 == 3 ? select(0, NULL, NULL, NULL, &limit) == 0
                                      : ppoll(NULL, 0, &wanted, NULL) == 0);
            break;
        }
        guest_check(polled || resumable || now_ns() - start >= PAUSE_NS - 100000, "woke up after %llu ns in way %d",
                    (unsigned long long)(now_ns() - start), (int)(turn % 4));
        beat((intptr_t)self);
    }
    return NULL;
}

/* Two threads that hand a word to and fro by futex: odd is one's, even the other's. */
static uint32_t ball;

static void *play(void *self)
{
    uint32_t parity = (uintptr_t)self & 1;
    while (!ending) {
        uint32_t seen = __atomic_load_n(&ball, __ATOMIC_SEQ_CST);
        if ((seen & 1) == parity) {
            pause_exactly(PAUSE_NS / 4);
            guest_check(__atomic_fetch_add(&ball, 1, __ATOMIC_SEQ_CST) == seen);
            syscall(SYS_futex, &ball, FUTEX_WAKE, 1, NULL, NULL, 0);
            beat((intptr_t)self);
            continue;
        }
        /* Every other turn with a timeout, which no checkpoint may cut short with EINTR. */
        struct timespec limit = {0, 20000000};
        long result = syscall(SYS_futex, &ball, FUTEX_WAIT, seen, seen & 2 ? &limit : NULL, NULL, 0);
        guest_check(result == 0 || errno == EAGAIN || errno == ETIMEDOUT || (resumable && errno == EINTR));
        if (result && errno == ETIMEDOUT)
            beat((intptr_t)self);
    }
    __atomic_fetch_add(&ball, 1, __ATOMIC_SEQ_CST);
    syscall(SYS_futex, &ball, FUTEX_WAKE, 2, NULL, NULL, 0);
    return NULL;
}

static int pipe_ends[2];

static void *write_pipe(void *self)
{
    for (uint64_t number = 0; !ending; number++) {
        guest_check(write(pipe_ends[1], &number, 8) == 8);
        if (number % 8 == 0)
            pause_exactly(PAUSE_NS);
        beat((intptr_t)self);
    }
    uint64_t last = UINT64_MAX;
    guest_check(write(pipe_ends[1], &last, 8) == 8);
    return NULL;
}

static void *read_pipe(void *self)
{
    for (uint64_t expected = 0, number;; expected++) {
        guest_check(read(pipe_ends[0], &number, 8) == 8);
        if (number == UINT64_MAX)
            return NULL;
        guest_check(number == expected, "%llu came instead of %llu", (unsigned long long)number,
                    (unsigned long long)expected);
        beat((intptr_t)self);
    }
}

/* Signals with numbers: none is lost, none comes twice, and they come in order. */
static _Thread_local int handler_self;
static atomic_ulong signal_expected, timer_signals, alarm_signals;
static pthread_t receiver;
static atomic_int receiver_ready;

static void on_number(int number, siginfo_t *info, void *context)
{
    (void)number, (void)context;
    unsigned long expected = atomic_fetch_add(&signal_expected, 1);
    guest_check((unsigned long)(uintptr_t)info->si_value.sival_ptr == expected, "signal %lu came instead of %lu",
                (unsigned long)(uintptr_t)info->si_value.sival_ptr, expected);
    beat(handler_self);
}

static void on_timer(int number)
{
    atomic_fetch_add(number == SIGALRM ? &alarm_signals : &timer_signals, 1);
    beat(handler_self);
}

static void unblock(int number)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, number);
    guest_check(pthread_sigmask(SIG_UNBLOCK, &set, NULL) == 0);
}

/* Computes under a shower of signals, on an alternate stack. */
static void *receive(void *self)
{
    static char stack[65536];
    uint64_t seed = 7;
    stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
    handler_self = (intptr_t)self;
    guest_check(sigaltstack(&alternate, NULL) == 0);
    receiver = pthread_self();
    unblock(SIGRTMIN + 1);
    receiver_ready = 1;
    while (ending < 2)
        check_registers(&seed), usleep(PAUSE_NS / 1000);
    return NULL;
}

static void *sender(void *self)
{
    while (!receiver_ready)
        pause_exactly(PAUSE_NS);
    for (uintptr_t number = 0; !ending; number++) {
        int result = pthread_sigqueue(receiver, SIGRTMIN + 1, (union sigval){.sival_ptr = (void *)number});
        guest_check(result == 0);
        pause_exactly(PAUSE_NS);
        beat((intptr_t)self);
    }
    return NULL;
}

/* Sleeps in sigsuspend; only a signal with its handler ends it. */
static void *suspend(void *self)
{
    sigset_t all_but;
    timer_t timer;
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGRTMIN + 2};
    event._sigev_un._tid = (pid_t)syscall(SYS_gettid);
    struct itimerspec every = {{0, 3000000}, {0, 3000000}};
    handler_self = (intptr_t)self;
    guest_check(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
    guest_check(timer_settime(timer, 0, &every, NULL) == 0);
    sigfillset(&all_but);
    sigdelset(&all_but, SIGRTMIN + 2);
    while (!ending) {
        unsigned long before = timer_signals;
        guest_check(sigsuspend(&all_but) == -1 && errno == EINTR);
        guest_check(timer_signals > before, "woken without a signal");
    }
    guest_check(timer_delete(timer) == 0);
    return NULL;
}

/* Gets SIGALRM from an interval timer while it reads, with SA_RESTART, from a pipe that never has anything. */
static int never[2];

static void *alarmed(void *self)
{
    char byte;
    struct itimerval every = {{0, 4000}, {0, 4000}};
    handler_self = (intptr_t)self;
    unblock(SIGALRM);
    guest_check(setitimer(ITIMER_REAL, &every, NULL) == 0);
    guest_check(read(never[0], &byte, 1) == 1);
    every = (struct itimerval){0};
    guest_check(setitimer(ITIMER_REAL, &every, NULL) == 0);
    return NULL;
}

static void *take_signals(void *self)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN + 3);
    for (uintptr_t number = 0; !ending; number++) {
        siginfo_t info;
        struct timespec limit = {1, 0};
        guest_check(pthread_sigqueue(pthread_self(), SIGRTMIN + 3, (union sigval){.sival_ptr = (void *)number}) == 0);
        pause_exactly(PAUSE_NS);
        int got;
        /* EINTR is what any stop makes of it: sigtimedwait(2) allows it. */
        while ((got = sigtimedwait(&set, &info, &limit)) < 0 && errno == EINTR)
            ;
        guest_check(got == SIGRTMIN + 3 && (uintptr_t)info.si_value.sival_ptr == number);
        beat((intptr_t)self);
    }
    return NULL;
}

/* The same stack, deeper and back, with words that are checked on the way up. */
static uint64_t descend(int depth, uint64_t value)
{
    volatile uint64_t here[32];
    for (int i = 0; i < 32; i++)
        here[i] = value = mix(value);
    uint64_t below = depth ? descend(depth - 1, value) : (sched_yield(), 0);
    uint64_t sum = 0;
    for (int i = 31; i >= 0; i--)
        sum += here[i];
    return sum ^ below;
}

static void *recurse(void *self)
{
    uint64_t expected = descend(200, 5);
    while (!ending) {
        guest_check(descend(200, 5) == expected);
        pause_exactly(PAUSE_NS);
        beat((intptr_t)self);
    }
    return NULL;
}

static int event_fd, epoll_fd;

static void *poll_events(void *self)
{
    while (!ending) {
        struct epoll_event event;
        uint64_t got = 0;
        int found = epoll_wait(epoll_fd, &event, 1, 5);
        guest_check(found >= 0 || errno == EINTR);
        if (found > 0)
            guest_check(read(event_fd, &got, 8) == 8 && got > 0);
        beat((intptr_t)self);
    }
    return NULL;
}

static void *post_events(void *self)
{
    uint64_t one = 1;
    while (!ending) {
        guest_check(write(event_fd, &one, 8) == 8);
        pause_exactly(3 * PAUSE_NS);
        beat((intptr_t)self);
    }
    return NULL;
}

static void *nothing(void *self)
{
    return self;
}

/* Starts and takes threads as fast as it can. */
static void *churn(void *self)
{
    while (!ending) {
        pthread_t others[4];
        for (int i = 0; i < 4; i++)
            guest_check(pthread_create(&others[i], NULL, nothing, NULL) == 0);
        for (int i = 0; i < 4; i++)
            guest_check(pthread_join(others[i], NULL) == 0);
        beat((intptr_t)self);
    }
    return NULL;
}

static pthread_t threads[THREADS_MAX];

static void start(void *(*what)(void *))
{
    guest_check(count < THREADS_MAX);
    int self = count++;
    guest_check(pthread_create(&threads[self], NULL, what, (void *)(intptr_t)self) == 0);
}

static void start_many(bool with_epoll)
{
    guest_check(pipe(pipe_ends) == 0 && pipe(never) == 0);
    void *(*kinds[])(void *) = {play,          play,           write_pipe,     read_pipe, receive,  sender,
                                suspend,       alarmed,        take_signals,   recurse,   compute,  compute,
                                compute,       compute_vectors, compute_vectors, keep_memory, keep_memory,
                                sleep_all_ways, sleep_all_ways, sleep_all_ways, recurse,   compute_vectors};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        start(kinds[i]);
    if (with_epoll) {
        event_fd = eventfd(0, EFD_CLOEXEC);
        epoll_fd = epoll_create1(EPOLL_CLOEXEC);
        struct epoll_event event = {.events = EPOLLIN};
        guest_check(event_fd >= 0 && epoll_fd >= 0 && epoll_ctl(epoll_fd, EPOLL_CTL_ADD, event_fd, &event) == 0);
        start(poll_events), start(post_events);
    } else {
        start(compute);
    }
}

static void handle(int number, void (*simple)(int), void (*full)(int, siginfo_t *, void *))
{
    struct sigaction action = {.sa_flags = SA_RESTART | SA_ONSTACK | (full ? SA_SIGINFO : 0)};
    if (full)
        action.sa_sigaction = full;
    else
        action.sa_handler = simple;
    guest_check(sigaction(number, &action, NULL) == 0);
}

/* What no process owns: a segment with a key and one that was removed already, a queue with a message, and a semaphore to which
 * something is undone at the end. */
static uint32_t *segments[2];
static int queue = -1, semaphore = -1;

static void make_segments(void)
{
    int ids[2] = {shmget(0x6b000000 | getpid(), 8192, IPC_CREAT | IPC_EXCL | 0600),
                  shmget(IPC_PRIVATE, 8192, IPC_CREAT | 0600)};
    for (int i = 0; i < 2; i++) {
        guest_check(ids[i] >= 0);
        segments[i] = shmat(ids[i], NULL, 0);
        guest_check(segments[i] != (void *)-1);
        guest_fill(segments[i], 4096, i);
    }
    guest_check(shmctl(ids[1], IPC_RMID, NULL) == 0);
    struct sembuf take = {.sem_op = -2, .sem_flg = SEM_UNDO};
    long message[2] = {77, 78};
    queue = msgget(0x6b000000 | getpid(), IPC_CREAT | IPC_EXCL | 0600);
    guest_check(queue >= 0 && msgsnd(queue, message, sizeof message[1], 0) == 0);
    semaphore = semget(0x6b000000 | getpid(), 1, IPC_CREAT | IPC_EXCL | 0600);
    guest_check(semaphore >= 0 && semctl(semaphore, 0, SETVAL, 5) == 0 && semop(semaphore, &take, 1) == 0);
}

static void check_segments(void)
{
    for (int i = 0; i < 2 && segments[i]; i++)
        guest_check(guest_filled(segments[i], 4096, i) && guest_zero(segments[i] + 1024, 4096));
    struct msqid_ds status;
    guest_check(queue < 0 || (msgctl(queue, IPC_STAT, &status) == 0 && status.msg_qnum == 1));
    guest_check(semaphore < 0 || semctl(semaphore, 0, GETVAL) == 3);
}

/* Both ends of a pseudo-terminal and its number, and an instance whose third watch is the root. */
static int terminal[2], terminal_number = -1, instance = -1;

static void make_watching(void)
{
    int locked = 0;
    char path[64];
    terminal[0] = open("/dev/ptmx", O_RDWR | O_NOCTTY);
    guest_check(terminal[0] >= 0 && ioctl(terminal[0], TIOCSPTLCK, &locked) == 0);
    guest_check(ioctl(terminal[0], TIOCGPTN, &terminal_number) == 0);
    snprintf(path, sizeof path, "/dev/pts/%d", terminal_number);
    terminal[1] = open(path, O_RDWR | O_NOCTTY);
    instance = inotify_init1(IN_NONBLOCK);
    guest_check(terminal[1] >= 0 && instance >= 0);
    for (int number = 1; number < 3; number++) {
        guest_check(inotify_add_watch(instance, "/", IN_DELETE_SELF) == number);
        guest_check(inotify_rm_watch(instance, number) == 0);
    }
    guest_check(inotify_add_watch(instance, "/", IN_DELETE_SELF) == 3 && read(instance, path, sizeof path) == 32);
}

static void check_watching(bool last)
{
    int number = -1, bytes = -1;
    struct inotify_event event;
    char found[8] = {0};
    if (instance < 0)
        return;
    guest_check(ioctl(terminal[0], TIOCGPTN, &number) == 0 && number == terminal_number);
    guest_check(ioctl(terminal[1], FIONREAD, &bytes) == 0 && bytes == 0);
    guest_check(ioctl(instance, FIONREAD, &bytes) == 0 && bytes == 0);
    if (!last)
        return;
    guest_check(write(terminal[1], "shown", 5) == 5 && read(terminal[0], found, 8) == 5 && !strcmp(found, "shown"));
    guest_check(inotify_rm_watch(instance, 3) == 0 && read(instance, &event, sizeof event) == sizeof event);
    guest_check(event.wd == 3 && event.mask == IN_IGNORED);
}

/* Two pairs: through the first a pipe with something in it, of which nobody has an end, and the reader itself; through the second
 * bytes alone. And a socket that listens in the file system, which nobody removes but the runner. */
static int passing[2], plain[2];

static void pass(int through, const char *bytes, const int *fds, int fd_count)
{
    char control[CMSG_SPACE(4 * sizeof(int))] = {0};
    struct iovec window = {(void *)bytes, strlen(bytes)};
    struct msghdr message = {.msg_iov = &window, .msg_iovlen = 1, .msg_control = control,
                             .msg_controllen = CMSG_SPACE(fd_count * sizeof *fds)};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    *header = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(fd_count * sizeof *fds)};
    memcpy(CMSG_DATA(header), fds, fd_count * sizeof *fds);
    guest_check(sendmsg(through, &message, MSG_NOSIGNAL) == (ssize_t)strlen(bytes));
}

static void make_passing(void)
{
    int pipes[2], listening = socket(AF_UNIX, SOCK_STREAM, 0);
    struct sockaddr_un name = {.sun_family = AF_UNIX};
    snprintf(name.sun_path, sizeof name.sun_path, "/tmp/ckpt-passing-%d.sock", (int)getpid());
    guest_check(bind(listening, (struct sockaddr *)&name, sizeof name) == 0 && listen(listening, 3) == 0);
    guest_check(socketpair(AF_UNIX, SOCK_STREAM, 0, passing) == 0 && socketpair(AF_UNIX, SOCK_DGRAM, 0, plain) == 0);
    guest_check(pipe(pipes) == 0 && write(pipes[1], "inside", 6) == 6);
    guest_check(write(passing[1], "first", 5) == 5);
    pass(passing[1], "second", (int[]){pipes[0], passing[0], pipes[1]}, 3);
    guest_check(write(passing[1], "third", 5) == 5 && write(plain[1], "plain", 5) == 5);
    guest_check(write(plain[1], "more", 4) == 4 && close(pipes[0]) == 0 && close(pipes[1]) == 0);
}

static int option_of(int fd, int name)
{
    int value = 0;
    socklen_t length = sizeof value;
    guest_check(getsockopt(fd, SOL_SOCKET, name, &value, &length) == 0);
    return value;
}

static void check_passing(bool last)
{
    int bytes = -1, fds[3];
    char found[32] = {0}, control[CMSG_SPACE(sizeof fds)];
    if (!passing[1])
        return;
    guest_check(ioctl(passing[0], FIONREAD, &bytes) == 0 && bytes == 16);
    if (!last)
        return;
    guest_check(option_of(passing[0], SO_PASSCRED) == 0 && option_of(plain[0], SO_PEEK_OFF) == -1);
    guest_check(recvfrom(passing[0], found, 5, 0, NULL, NULL) == 5 && !strcmp(found, "first"));
    struct iovec window = {found, sizeof found};
    struct msghdr message = {.msg_iov = &window, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    guest_check(recvmsg(passing[0], &message, MSG_DONTWAIT) == 6 && !strncmp(found, "second", 6));
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    guest_check(header && header->cmsg_type == SCM_RIGHTS && header->cmsg_len == CMSG_LEN(sizeof fds));
    memcpy(fds, CMSG_DATA(header), sizeof fds);
    guest_check(read(fds[0], found, sizeof found) == 6 && !strncmp(found, "inside", 6));
    guest_check(close(fds[2]) == 0 && read(fds[0], found, 1) == 0);
    guest_check(recvfrom(fds[1], found, sizeof found, 0, NULL, NULL) == 5 && !strncmp(found, "third", 5));
    guest_check(recvfrom(plain[0], found, sizeof found, 0, NULL, NULL) == 5 && recvfrom(plain[0], found, sizeof found, 0, NULL, NULL) == 4);
    guest_check(recvfrom(plain[0], found, 1, MSG_DONTWAIT, NULL, NULL) == -1 && errno == EAGAIN);
}

static void say_where(void)
{
    char text[64];
    snprintf(text, sizeof text, "%lx %d", (unsigned long)&beats, count);
    guest_write_file("beats", text);
}

int main(int argc, char **argv)
{
    const char *kind = argc > 1 ? argv[1] : "small";
    sigset_t all;
    resumable = argc > 1 && !strcmp(argv[argc - 1], "resumable");
    /* What the shell left open is nobody's business. */
    syscall(SYS_close_range, 3, ~0u, 0);
    sigfillset(&all);
    guest_check(sigprocmask(SIG_SETMASK, &all, NULL) == 0);
    handle(SIGRTMIN + 1, NULL, on_number);
    handle(SIGRTMIN + 2, on_timer, NULL);
    handle(SIGALRM, on_timer, NULL);
    struct memory memory = new_memory(!strcmp(kind, "large") && argc > 2 ? atoi(argv[2]) * 256ul : 32);
    uint64_t seed = 99;
    int self = count++;
    if (!strcmp(kind, "still")) {
        say_where();
        guest_announce();
        sigdelset(&all, SIGTERM);
        for (;;)
            sigsuspend(&all);
    }
    if (!strcmp(kind, "many") || !strcmp(kind, "refused"))
        start_many(!strcmp(kind, "refused"));
    if (!strcmp(kind, "segments"))
        make_segments();
    if (!strcmp(kind, "watching"))
        make_watching();
    if (!strcmp(kind, "passing"))
        make_passing();
    if (!strcmp(kind, "churn"))
        start(churn), start(churn), start(churn);
    say_where();
    guest_announce();
    uint64_t begin = now_ns();
    while (!guest_told()) {
        turn_pages(&memory, &seed, 8);
        check_segments();
        check_watching(false);
        check_passing(false);
        check_registers(&seed);
        if (__builtin_cpu_supports("avx"))
            check_vectors(&seed);
        pause_exactly(PAUSE_NS / 4);
        beat(self);
        guest_check(now_ns() - begin < 3600ull * 1000000000u, "was never told to go on");
    }
    ending = 1;
    check_watching(true);
    check_passing(true);
    if (never[1])
        guest_check(write(never[1], "x", 1) == 1);
    for (int i = 1; i < count; i++)
        if (threads[i] != receiver || !receiver_ready)
            guest_check(pthread_join(threads[i], NULL) == 0);
    ending = 2;
    if (receiver_ready)
        guest_check(pthread_join(receiver, NULL) == 0);
    for (size_t page = 0; page < memory.pages; page++)
        check_page(&memory, page);
    return 0;
}
