//# expect: resumes
//# tasks: 4
//# show: sem by=1
//# show: sem by=-2
/* System V semaphores: their values, who waits at one, and what is undone to them when a task ends. */
#include "../tree.h"
#include <sys/ipc.h>
#include <sys/sem.h>

enum { COUNT = 6 };

static int id;

static void operate(int number, int by, int flags)
{
    struct sembuf operation = {.sem_num = (unsigned short)number, .sem_op = (short)by, .sem_flg = (short)flags};
    guest_check(syscall(SYS_semop, id, &operation, 1) == 0, "semaphore %d", number);
}

static void check_values(const char *when, int a, int b, int c, int d, int e, int f)
{
    int wanted[COUNT] = {a, b, c, d, e, f};
    for (int i = 0; i < COUNT; i++)
        guest_check(semctl(id, i, GETVAL) == wanted[i], "%s: semaphore %d is %d", when, i, semctl(id, i, GETVAL));
}

static void *of_a_thread(void *argument)
{
    (void)argument;
    operate(3, -9999, SEM_UNDO);
    return NULL;
}

static void holds(void)
{
    pthread_t thread;
    operate(0, -1, SEM_UNDO);
    operate(1, 2, SEM_UNDO);
    guest_check(pthread_create(&thread, NULL, of_a_thread, NULL) == 0 && pthread_join(thread, NULL) == 0);
    tree_checkpoint_here();
    tree_await("release");
}

static void waits(void)
{
    tree_in_place();
    operate(2, -1, SEM_UNDO);
    tree_wait();
    tree_tell("passed");
    tree_await("end");
}

static void also_holds(void)
{
    operate(0, -1, SEM_UNDO);
    operate(4, 32767, SEM_UNDO);
    operate(5, -32767, SEM_UNDO);
    tree_checkpoint_here();
    tree_await("release too");
}

int main(void)
{
    unsigned short values[COUNT] = {3, 0, 0, 10000, 0, 32767};
    key_t key = (key_t)(0x62000000u + (unsigned)getpid());
    id = semget(key, COUNT, IPC_CREAT | IPC_EXCL | 0600);
    guest_check(id >= 0);
    guest_leaves("-s", id);
    guest_check(semctl(id, 0, SETALL, values) == 0);
    pid_t holder = tree_start("holds", holds), waiter = tree_start("waits", waits);
    pid_t other = tree_start("also holds", also_holds);
    tree_gather("holds", "waits", "also holds");
    tree_await_call(waiter, SYS_semop);
    check_values("before", 1, 2, 0, 1, 32767, 0);

    guest_checkpoint_here();

    guest_check(semget(key, 0, 0) == id);
    check_values("after", 1, 2, 0, 1, 32767, 0);
    guest_check(semctl(id, 2, GETNCNT) == 1 && semctl(id, 5, GETPID) == (int)other);
    guest_check(semctl(id, 0, GETPID) == (int)other || semctl(id, 0, GETPID) == (int)holder);
    operate(2, 1, 0);
    tree_await("passed");
    check_values("when one has passed", 1, 2, 0, 1, 32767, 0);
    tree_tell("release");
    tree_finish(holder, "holds");
    check_values("when one has ended", 2, 0, 0, 10000, 32767, 0);
    tree_tell("release too");
    tree_finish(other, "also holds");
    check_values("when two have ended", 3, 0, 0, 10000, 0, 32767);
    tree_tell("end");
    tree_finish(waiter, "waits");
    check_values("at the end", 3, 0, 1, 10000, 0, 32767);
    guest_check(semctl(id, 0, IPC_RMID) == 0);
    return 0;
}
