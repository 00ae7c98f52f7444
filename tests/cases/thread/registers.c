//# expect: resumes
//# flavours: alone running killed again exec
/* A thread that is in no system call: every general register and the flags, held in a loop of assembly that runs until
 * another thread tells it to stop. */
#include "../guest.h"

static uint64_t found[16]; /* rax rbx rcx rdx rsi rdi rbp r8..r15 flags */
static const uint64_t expected[15] = {
    0x1111111111111111, 0x2222222222222222, 0x3333333333333333, 0x4444444444444444, 0x5555555555555555,
    0x6666666666666666, 0x7777777777777777, 0x8888888888888888, 0x9999999999999999, 0xaaaaaaaaaaaaaaaa,
    0xbbbbbbbbbbbbbbbb, 0xcccccccccccccccc, 0xdddddddddddddddd, 0xeeeeeeeeeeeeeeee, 0xfffffffffffffff1,
};
/* used by name in the assembly */
volatile uint64_t guest_spins __attribute__((used)), guest_aside __attribute__((used)), guest_stop __attribute__((used));
volatile uint64_t guest_entry_stack __attribute__((used)), guest_exit_stack __attribute__((used));

static void *spin(void *argument)
{
    __asm__ volatile(
        "push %%rbp\n push %%rbx\n"
        "lea -256(%%rsp), %%rsp\n"
        "mov %%rsp, guest_entry_stack(%%rip)\n"
        /* carry, parity, adjust, sign and overflow set, zero clear, direction set */
        "pushq $0xc97\n popfq\n"
        "mov $0x1111111111111111, %%rax\n mov $0x2222222222222222, %%rbx\n mov $0x3333333333333333, %%rcx\n"
        "mov $0x4444444444444444, %%rdx\n mov $0x5555555555555555, %%rsi\n mov $0x6666666666666666, %%rdi\n"
        "mov $0x7777777777777777, %%rbp\n mov $0x8888888888888888, %%r8\n mov $0x9999999999999999, %%r9\n"
        "mov $0xaaaaaaaaaaaaaaaa, %%r10\n mov $0xbbbbbbbbbbbbbbbb, %%r11\n mov $0xcccccccccccccccc, %%r12\n"
        "mov $0xdddddddddddddddd, %%r13\n mov $0xeeeeeeeeeeeeeeee, %%r14\n mov $0xfffffffffffffff1, %%r15\n"
        /* the loop changes no flag: rcx is put aside while jrcxz looks at the word */
        "1: mov %%rcx, guest_aside(%%rip)\n"
        "mov guest_stop(%%rip), %%rcx\n"
        "movq $1, guest_spins(%%rip)\n"
        "jrcxz 2f\n"
        "jmp 3f\n"
        "2: mov guest_aside(%%rip), %%rcx\n"
        "jmp 1b\n"
        "3: mov guest_aside(%%rip), %%rcx\n"
        "mov %%rsp, guest_exit_stack(%%rip)\n"
        "mov %%rax, %[found]\n mov %%rbx, 8+%[found]\n mov %%rcx, 16+%[found]\n mov %%rdx, 24+%[found]\n"
        "mov %%rsi, 32+%[found]\n mov %%rdi, 40+%[found]\n mov %%rbp, 48+%[found]\n mov %%r8, 56+%[found]\n"
        "mov %%r9, 64+%[found]\n mov %%r10, 72+%[found]\n mov %%r11, 80+%[found]\n mov %%r12, 88+%[found]\n"
        "mov %%r13, 96+%[found]\n mov %%r14, 104+%[found]\n mov %%r15, 112+%[found]\n"
        "pushfq\n popq 120+%[found]\n"
        "cld\n"
        "lea 256(%%rsp), %%rsp\n"
        "pop %%rbx\n pop %%rbp\n"
        : [found] "=m"(found)
        :
        : "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "cc", "memory");
    return NULL;
}

int main(void)
{
    struct guest_thread thread;
    guest_spawn(&thread, spin, NULL);
    while (!guest_spins)
        usleep(100);

    guest_checkpoint_here();

    guest_spins = 0;
    for (int i = 0; i < 10000 && !guest_spins; i++)
        usleep(1000);
    guest_check(guest_spins == 1, "the thread does not run");
    guest_stop = 1;
    guest_join(&thread);
    for (int i = 0; i < 15; i++)
        guest_check(found[i] == expected[i], "register %d is %lx", i, (unsigned long)found[i]);
    guest_check((found[15] & 0xcd5) == 0xc95, "flags %lx", (unsigned long)found[15]);
    guest_check(guest_entry_stack == guest_exit_stack);
    return 0;
}
