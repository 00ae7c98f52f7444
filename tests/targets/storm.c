/* Processes that come and go a thousand times a second: the target of the tests with storms.
 *
 * Four forkers make children that end at once with a status of their own, and wait for each. The counters, one of each
 * forker and one of the root, are where the file `beats` says, in memory that all share. Told to go on, the forkers end, and
 * the root after them. */
#include "../cases/guest.h"
#include <signal.h>

enum { FORKERS = 4, PAUSE_US = 3000 };

static uint64_t *beats;
static pid_t root;

static bool told(void)
{
    char path[PATH_MAX + 64];
    snprintf(path, sizeof path, "%s/go.%d", guest_home, (int)root);
    return access(path, F_OK) == 0;
}

static void forker(int self)
{
    for (unsigned number = 0;; number++) {
        int status = -1;
        pid_t child = fork();
        if (child == 0)
            _exit(number % 256);
        if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status) || WEXITSTATUS(status) != number % 256)
            _exit(10);
        beats[self]++;
        if (number % 32 == 0 && told())
            _exit(0);
        if (guest_now_ms() > (long)beats[FORKERS + 1])
            _exit(11);
        usleep(PAUSE_US);
    }
}

int main(void)
{
    char text[64];
    pid_t forkers[FORKERS];
    root = getpid();
    beats = guest_map(1, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS);
    beats[FORKERS + 1] = guest_now_ms() + GUEST_PATIENCE_MS;
    for (int i = 0; i < FORKERS; i++) {
        forkers[i] = fork();
        guest_check(forkers[i] >= 0);
        if (forkers[i] == 0)
            forker(i);
    }
    snprintf(text, sizeof text, "%lx %d", (unsigned long)beats, FORKERS + 1);
    guest_write_file("beats", text);
    guest_announce();
    while (!guest_told()) {
        beats[FORKERS]++;
        for (int i = 0; i < FORKERS; i++)
            guest_check(waitpid(forkers[i], NULL, WNOHANG) == 0 || told(), "forker %d has ended", i);
        guest_check(guest_now_ms() < (long)beats[FORKERS + 1], "was never told to go on");
        usleep(1000);
    }
    for (int i = 0; i < FORKERS; i++) {
        int status;
        guest_check(waitpid(forkers[i], &status, 0) == forkers[i] && status == 0, "forker %d: %x", i, status);
    }
    return 0;
}
