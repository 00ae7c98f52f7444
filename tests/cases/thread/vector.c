//# expect: resumes
//# flavours: alone running killed again exec
/* The floating-point and vector registers of a thread that is in no system call: x87 stack and control word, MXCSR, and as
 * much of SSE, AVX and AVX-512 as this processor has. */
#include "../guest.h"

static atomic_int stop, spins;
static unsigned char in[64 * 32] __attribute__((aligned(64))), out[64 * 32] __attribute__((aligned(64)));
static uint64_t masks_in[8], masks_out[8];
static unsigned short control_out;
static unsigned mxcsr_out;
static double x87_out[3];

static void fill(void)
{
    guest_fill(in, sizeof in, 5);
    for (int i = 0; i < 8; i++)
        masks_in[i] = 0x8000000000000001ul + 0x1111 * i;
}

#define SPIN_UNTIL_TOLD                                                                                                \
    "1: movl $1, %[spins]\n"                                                                                           \
    "cmpl $0, %[stop]\n"                                                                                               \
    "je 1b\n"

#define ALL16(op) op(0) op(1) op(2) op(3) op(4) op(5) op(6) op(7) op(8) op(9) op(10) op(11) op(12) op(13) op(14) op(15)
#define UPPER16(op)                                                                                                    \
    op(16) op(17) op(18) op(19) op(20) op(21) op(22) op(23) op(24) op(25) op(26) op(27) op(28) op(29) op(30) op(31)
#define LOAD_SSE(n) "movups 64*" #n "(%[in]), %%xmm" #n "\n"
#define SAVE_SSE(n) "movups %%xmm" #n ", 64*" #n "(%[out])\n"
#define LOAD_AVX(n) "vmovups 64*" #n "(%[in]), %%ymm" #n "\n"
#define SAVE_AVX(n) "vmovups %%ymm" #n ", 64*" #n "(%[out])\n"
#define LOAD_512(n) "vmovups 64*" #n "(%[in]), %%zmm" #n "\n"
#define SAVE_512(n) "vmovups %%zmm" #n ", 64*" #n "(%[out])\n"
#define ALL8(op) op(0) op(1) op(2) op(3) op(4) op(5) op(6) op(7)
#define LOAD_MASK(n) "kmovq 8*" #n "(%[masks_in]), %%k" #n "\n"
#define SAVE_MASK(n) "kmovq %%k" #n ", 8*" #n "(%[masks_out])\n"
#define OPERANDS                                                                                                       \
    : [spins] "+m"(spins), [stop] "+m"(stop)                                                                           \
    : [in] "r"(in), [out] "r"(out), [masks_in] "r"(masks_in), [masks_out] "r"(masks_out)                               \
    : "memory", "cc", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",         \
      "xmm11", "xmm12", "xmm13", "xmm14", "xmm15"

static void x87_in(void)
{
    unsigned short control = 0x0f3f; /* round towards zero, one exception open */
    unsigned mxcsr = 0xff80;         /* flush to zero, round towards zero */
    control |= 0x3f;
    __asm__ volatile("fninit\n fldcw %0\n ldmxcsr %1\n fldpi\n fld1\n fldl2e\n" : : "m"(control), "m"(mxcsr));
}

static void x87_away(void)
{
    unsigned plain = 0x1f80;
    __asm__ volatile("fstpl 16+%0\n fstpl 8+%0\n fstpl %0\n fnstcw %1\n stmxcsr %2\n fninit\n ldmxcsr %3\n"
                     : "=m"(x87_out), "=m"(control_out), "=m"(mxcsr_out)
                     : "m"(plain));
}

static void *spin_sse(void *argument)
{
    x87_in();
    __asm__ volatile(ALL16(LOAD_SSE) SPIN_UNTIL_TOLD ALL16(SAVE_SSE) OPERANDS);
    x87_away();
    return NULL;
}

static void *spin_avx(void *argument)
{
    x87_in();
    __asm__ volatile(ALL16(LOAD_AVX) SPIN_UNTIL_TOLD ALL16(SAVE_AVX) "vzeroupper\n" OPERANDS);
    x87_away();
    return NULL;
}

__attribute__((target("avx512f,avx512bw"))) static void *spin_avx512(void *argument)
{
    x87_in();
    __asm__ volatile(ALL16(LOAD_512) UPPER16(LOAD_512) ALL8(LOAD_MASK) SPIN_UNTIL_TOLD ALL16(SAVE_512) UPPER16(SAVE_512)
                         ALL8(SAVE_MASK) "vzeroupper\n" OPERANDS,
                     "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25", "xmm26",
                     "xmm27", "xmm28", "xmm29", "xmm30", "xmm31", "k1", "k2", "k3", "k4", "k5", "k6", "k7");
    x87_away();
    return NULL;
}

int main(void)
{
    struct guest_thread thread;
    int registers = 16, width = 16;
    void *(*spin)(void *) = spin_sse;
    if (__builtin_cpu_supports("avx512bw"))
        spin = spin_avx512, registers = 32, width = 64;
    else if (__builtin_cpu_supports("avx"))
        spin = spin_avx, width = 32;
    fill();
    guest_spawn(&thread, spin, NULL);
    while (!spins)
        usleep(100);

    guest_checkpoint_here();

    spins = 0;
    for (int i = 0; i < 10000 && !spins; i++)
        usleep(1000);
    guest_check(spins == 1, "the thread does not run");
    stop = 1;
    guest_join(&thread);
    for (int i = 0; i < registers; i++)
        guest_check(!memcmp(out + 64 * i, in + 64 * i, width), "register %d of %d bytes", i, width);
    if (width == 64)
        guest_check(!memcmp(masks_in, masks_out, sizeof masks_in), "mask registers");
    guest_check((control_out & ~0x40) == 0x0f3f, "x87 control word %x", control_out);
    guest_check((mxcsr_out & ~0x3f) == 0xff80, "MXCSR %x", mxcsr_out);
    guest_check(x87_out[0] > 3.14159 && x87_out[0] < 3.1416 && x87_out[1] == 1 && x87_out[2] > 1.44 && x87_out[2] < 1.45);
    return 0;
}
