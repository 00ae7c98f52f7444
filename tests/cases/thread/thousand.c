//# expect: resumes
//# flavours: alone running killed exec
/* A thousand threads, each with something of its own in a register, on its stack and in its thread-local memory. */
#include "../guest.h"

#define COUNT 1000

static pthread_barrier_t barrier;
static __thread int local;
static atomic_int arrived, right;

static void *run(void *argument)
{
    int me = (int)(intptr_t)argument;
    volatile int on_stack[64];
    local = me;
    for (int i = 0; i < 64; i++)
        on_stack[i] = me * i;
    atomic_fetch_add(&arrived, 1);
    pthread_barrier_wait(&barrier);
    bool good = local == me && (int)(intptr_t)argument == me;
    for (int i = 0; i < 64; i++)
        good = good && on_stack[i] == me * i;
    atomic_fetch_add(&right, good);
    return NULL;
}

int main(void)
{
    static struct guest_thread threads[COUNT];
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 65536);
    pthread_barrier_init(&barrier, NULL, COUNT + 1);
    for (intptr_t i = 0; i < COUNT; i++)
        guest_check(pthread_create(&threads[i].handle, &attributes, run, (void *)i) == 0, "thread %d", (int)i);
    while (arrived < COUNT)
        usleep(1000);
    usleep(100000); /* from the count to the barrier; not all of them need to be there */

    guest_checkpoint_here();

    pthread_barrier_wait(&barrier);
    for (int i = 0; i < COUNT; i++)
        guest_join(&threads[i]);
    guest_check(right == COUNT, "%d", right);
    return 0;
}
