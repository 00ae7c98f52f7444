/* What cases of epoll sets have in common. */
#ifndef SETS_H
#define SETS_H

#include "../guest.h"
#include <sys/epoll.h>

#define SETS_MAX 256

__attribute__((unused)) static int sets_new(void)
{
    int set = epoll_create1(0);
    guest_check(set >= 0);
    return set;
}

__attribute__((unused)) static int sets_control(int set, int operation, int number, uint32_t events, uint64_t data)
{
    struct epoll_event event = {.events = events, .data.u64 = data};
    return epoll_ctl(set, operation, number, &event);
}

__attribute__((unused)) static void sets_add(int set, int number, uint32_t events, uint64_t data)
{
    guest_check(sets_control(set, EPOLL_CTL_ADD, number, events, data) == 0, "%d", number);
}

/* What is ready now: the events by data in `found`, which has room for SETS_MAX. Returns how many. */
__attribute__((unused)) static int sets_ready(int set, struct epoll_event *found)
{
    int count = epoll_wait(set, found, SETS_MAX, 0);
    guest_check(count >= 0);
    return count;
}

/* Checks that nothing is ready. */
__attribute__((unused)) static void sets_quiet(int set)
{
    struct epoll_event found[SETS_MAX];
    int count = sets_ready(set, found);
    guest_check(count == 0, "%d are ready, the first with %llx", count, (unsigned long long)found[0].data.u64);
}

/* Checks that exactly these are ready, each given by its data and its events; 0, 0 ends the list. */
#define sets_expect(set, ...) sets_expect_at(__LINE__, set, (const uint64_t[]){__VA_ARGS__, 0, 0})

__attribute__((unused)) static void sets_expect_at(int line, int set, const uint64_t *expected)
{
    struct epoll_event found[SETS_MAX];
    int count = sets_ready(set, found), wanted = 0;
    for (; expected[2 * wanted] || expected[2 * wanted + 1]; wanted++) {
        bool is_there = false;
        for (int i = 0; i < count; i++)
            is_there |= found[i].data.u64 == expected[2 * wanted] && found[i].events == expected[2 * wanted + 1];
        guest_check(is_there, "line %d: %llx with %llx, of %d", line, (unsigned long long)expected[2 * wanted],
                    (unsigned long long)expected[2 * wanted + 1], count);
    }
    guest_check(count == wanted, "line %d: %d are ready, not %d", line, count, wanted);
}

/* A pipe whose ends are at these numbers. */
__attribute__((unused)) static void sets_pipe_at(int reader, int writer)
{
    int ends[2];
    guest_check(pipe(ends) == 0);
    guest_check(dup2(ends[0], reader) == reader && dup2(ends[1], writer) == writer);
    guest_check(close(ends[0]) == 0 && close(ends[1]) == 0);
}

#endif
