//# expect: resumes
//# state: stopped
//# flavours: alone running killed again
/* The same with several threads, one of which runs in a loop. */
#include "../guest.h"

static atomic_long turns;
static atomic_int stop;

static void *run(void *argument)
{
    while (!stop)
        atomic_fetch_add(&turns, 1);
    return NULL;
}

static void *wait_here(void *argument)
{
    while (!stop)
        usleep(1000);
    return NULL;
}

int main(void)
{
    struct guest_thread threads[2];
    guest_spawn(&threads[0], run, NULL);
    guest_spawn(&threads[1], wait_here, NULL);

    guest_checkpoint_here();

    long before = turns;
    for (int i = 0; i < 1000 && turns == before; i++)
        usleep(1000);
    guest_check(turns > before);
    stop = 1;
    guest_join(&threads[0]);
    guest_join(&threads[1]);
    return 0;
}
