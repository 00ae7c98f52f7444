//# expect: resumes
//# tasks: 7
/* Children of another thread than the main one: it alone waits for them (__WNOTHREAD), and its end is what they are told by
 * their signal. One was executed, one has ended, one is a grandchild. */
#include "../tree.h"

static atomic_int made, waits, goes;
static pid_t children[4];

/* Whether `child` is in the list of the children of `tid`. */
static bool is_child_of(pid_t child, pid_t tid)
{
    char path[64], text[256] = {0}, word[16];
    snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)tid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    guest_check(fd >= 0 && read(fd, text, sizeof text - 1) >= 0 && close(fd) == 0);
    snprintf(word, sizeof word, "%d", (int)child);
    for (char *at = strtok(text, " "); at; at = strtok(NULL, " "))
        if (!strcmp(at, word))
            return true;
    return false;
}

static void plain(void)
{
    tree_checkpoint_here();
}

static void with_child(void)
{
    pid_t child = tree_start("grandchild", plain);
    tree_checkpoint_here();
    tree_finish(child, "grandchild");
}

static void told(void)
{
    guest_check(prctl(PR_SET_PDEATHSIG, SIGTERM) == 0);
    tree_checkpoint_here();
    for (;;)
        pause();
}

static void *parent(void *nothing)
{
    children[0] = tree_start("with_child", with_child);
    children[1] = tree_start_exec("executed");
    children[2] = fork();
    if (children[2] == 0)
        _exit(7);
    siginfo_t info;
    guest_check(waitid(P_PID, children[2], &info, WEXITED | WNOWAIT) == 0);
    atomic_fetch_add(&made, 1);
    while (!atomic_load(&waits))
        usleep(1000);
    int status;
    guest_check(waitpid(children[2], &status, __WNOTHREAD) == children[2] && WEXITSTATUS(status) == 7);
    for (int i = 0; i < 2; i++)
        guest_check(waitpid(children[i], &status, __WNOTHREAD) == children[i] && status == 0, "status %x", status);
    return nothing;
}

static void *ends_early(void *nothing)
{
    children[3] = tree_start("told", told);
    atomic_fetch_add(&made, 1);
    while (!atomic_load(&goes))
        usleep(1000);
    return nothing;
}

int main(void)
{
    if (tree_is("executed")) {
        tree_checkpoint_here();
        tree_done();
    }
    struct guest_thread first, second;
    guest_spawn(&first, parent, NULL);
    /* Not while another thread's stack is half made: the child would have it so. */
    while (atomic_load(&made) < 1)
        usleep(1000);
    guest_spawn(&second, ends_early, NULL);
    while (atomic_load(&made) < 2)
        usleep(1000);
    pid_t own = tree_start("own", plain);
    tree_gather("with_child", "grandchild", "executed", "told", "own");

    guest_checkpoint_here();

    for (int i = 0; i < 3; i++)
        guest_check(is_child_of(children[i], first.tid) && !is_child_of(children[i], getpid()), "child %d", i);
    guest_check(is_child_of(children[3], second.tid) && is_child_of(own, getpid()));
    guest_check(waitpid(children[0], NULL, WNOHANG | __WNOTHREAD) == -1 && errno == ECHILD);
    int status;
    guest_check(waitpid(children[3], &status, WNOHANG) == 0);
    atomic_store(&goes, 1);
    guest_join(&second);
    guest_check(waitpid(children[3], &status, 0) == children[3] && WTERMSIG(status) == SIGTERM, "status %x", status);
    atomic_store(&waits, 1);
    guest_join(&first);
    tree_finish(own, "own");
    tree_all_done("with_child", "grandchild", "executed");
    return 0;
}
