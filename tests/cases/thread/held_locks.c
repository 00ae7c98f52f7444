//# expect: resumes
/* Mutexes that note the id of the thread that holds them, held by it: those of the program, and dlopen's. Under a new id
 * it must still be the one that holds them. */
#include "../guest.h"
#include <link.h>

enum { RECURSIVE, CHECKING, ROBUST, ROBUST_RECURSIVE, INHERITING, INHERITING_RECURSIVE, KINDS };

static pthread_mutex_t mutexes[KINDS];
static pthread_mutex_t *on_heap;

static void make(pthread_mutex_t *mutex, int type, int robust, int protocol)
{
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_settype(&attributes, type);
    pthread_mutexattr_setrobust(&attributes, robust);
    pthread_mutexattr_setprotocol(&attributes, protocol);
    guest_check(pthread_mutex_init(mutex, &attributes) == 0);
    guest_check(pthread_mutex_lock(mutex) == 0);
}

static void *is_locked(void *mutex)
{
    int error = pthread_mutex_trylock(mutex);
    return (void *)(long)error;
}

static void check_held(pthread_mutex_t *mutex, bool nests)
{
    int error = pthread_mutex_trylock(mutex);
    guest_check(error == (nests ? 0 : EBUSY), "%d", error);
    guest_check(!nests || pthread_mutex_unlock(mutex) == 0);
    pthread_t other;
    void *found;
    guest_check(pthread_create(&other, NULL, is_locked, mutex) == 0);
    guest_check(pthread_join(other, &found) == 0);
    guest_check((long)found == EBUSY, "%ld", (long)found);
    error = pthread_mutex_unlock(mutex);
    guest_check(error == 0, "%d", error);
    guest_check(pthread_mutex_unlock(mutex) == EPERM || mutex == &mutexes[INHERITING]);
}

static int look(struct dl_phdr_info *info, size_t size, void *seen)
{
    (void)info, (void)size;
    ++*(int *)seen;
    return 0;
}

static int checkpoint(struct dl_phdr_info *info, size_t size, void *seen)
{
    (void)info, (void)size;
    guest_checkpoint_here();
    alarm(20);
    dl_iterate_phdr(look, seen);
    alarm(0);
    return 1;
}

int main(void)
{
    make(&mutexes[RECURSIVE], PTHREAD_MUTEX_RECURSIVE, PTHREAD_MUTEX_STALLED, PTHREAD_PRIO_NONE);
    make(&mutexes[CHECKING], PTHREAD_MUTEX_ERRORCHECK, PTHREAD_MUTEX_STALLED, PTHREAD_PRIO_NONE);
    make(&mutexes[ROBUST], PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_ROBUST, PTHREAD_PRIO_NONE);
    make(&mutexes[ROBUST_RECURSIVE], PTHREAD_MUTEX_RECURSIVE, PTHREAD_MUTEX_ROBUST, PTHREAD_PRIO_NONE);
    make(&mutexes[INHERITING], PTHREAD_MUTEX_NORMAL, PTHREAD_MUTEX_STALLED, PTHREAD_PRIO_INHERIT);
    make(&mutexes[INHERITING_RECURSIVE], PTHREAD_MUTEX_RECURSIVE, PTHREAD_MUTEX_STALLED, PTHREAD_PRIO_INHERIT);
    on_heap = malloc(sizeof *on_heap);
    make(on_heap, PTHREAD_MUTEX_RECURSIVE, PTHREAD_MUTEX_STALLED, PTHREAD_PRIO_NONE);

    int seen = 0;
    dl_iterate_phdr(checkpoint, &seen);

    guest_check(seen > 0);
    check_held(on_heap, true);
    for (int kind = 0; kind < KINDS; kind++)
        check_held(&mutexes[kind], kind == RECURSIVE || kind == ROBUST_RECURSIVE || kind == INHERITING_RECURSIVE);
    return 0;
}
