//# expect: resumes
//# flavours: alone running killed again exec namespace
/* Threads that wait inside of an eventfd for something to take, for their turn at a semaphore, and for room: they go on when
 * there is, and nothing is counted twice. */
#include "../guest.h"
#include <sys/eventfd.h>

static int empty, semaphore, full;
static uint64_t taken;
static atomic_int turns;
static ssize_t given;

static void *take(void *argument)
{
    guest_check(read(empty, &taken, sizeof taken) == sizeof taken);
    return NULL;
}

static void *turn(void *argument)
{
    uint64_t one = 0;
    guest_check(read(semaphore, &one, sizeof one) == sizeof one && one == 1);
    atomic_fetch_add(&turns, 1);
    return NULL;
}

static void *give(void *argument)
{
    uint64_t value = 10;
    given = write(full, &value, sizeof value);
    return NULL;
}

int main(void)
{
    struct guest_thread taker, first, second, giver;
    uint64_t value = UINT64_MAX - 5;
    empty = eventfd(0, 0), semaphore = eventfd(0, EFD_SEMAPHORE), full = eventfd(0, 0);
    guest_check(write(full, &value, sizeof value) == sizeof value);
    guest_spawn(&taker, take, NULL);
    guest_spawn(&first, turn, NULL);
    guest_spawn(&second, turn, NULL);
    guest_spawn(&giver, give, NULL);
    guest_wait_in_call(taker.tid, SYS_read);
    guest_wait_in_call(first.tid, SYS_read);
    guest_wait_in_call(second.tid, SYS_read);
    guest_wait_in_call(giver.tid, SYS_write);

    guest_checkpoint_here();

    guest_check(taken == 0 && turns == 0 && given == 0);
    value = 42;
    guest_check(write(empty, &value, sizeof value) == sizeof value);
    guest_join(&taker);
    guest_check(taken == 42, "%llu", (unsigned long long)taken);
    value = 1;
    guest_check(write(semaphore, &value, sizeof value) == sizeof value);
    for (long start = guest_now_ms(); turns == 0 && guest_now_ms() - start < 10000;)
        usleep(1000);
    usleep(20000);
    guest_check(turns == 1, "%d", turns);
    guest_check(write(semaphore, &value, sizeof value) == sizeof value);
    guest_join(&first);
    guest_join(&second);
    guest_check(given == 0, "it wrote where there was no room");
    guest_check(read(full, &value, sizeof value) == sizeof value && value == UINT64_MAX - 5);
    guest_join(&giver);
    guest_check(given == sizeof value);
    guest_check(read(full, &value, sizeof value) == sizeof value && value == 10);
    return 0;
}
