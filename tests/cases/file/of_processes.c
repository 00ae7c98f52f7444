//# expect: resumes
//# tasks: 2
//# may-differ: fd/3/link who has ended may have had another id
//# may-differ: fd/4/link the same
/* Files of /proc: the own ones of a task, those of its thread and of another task of the tree, of nobody, of one that has
 * ended; at their offsets, shared, and watched. After a resume with another id they are those of the same tasks. */
#include "../tree.h"
#include <dirent.h>
#include <sys/epoll.h>

static int value = 41;

static int proc(const char *format, int id, int flags)
{
    char path[64];
    snprintf(path, sizeof path, format, id);
    int fd = open(path, flags);
    guest_check(fd >= 0, "%s", path);
    return fd;
}

/* The number at the start of a stat file. */
static int first_number(int fd)
{
    char text[32] = "";
    guest_check(pread(fd, text, sizeof text - 1, 0) > 0, "fd %d", fd);
    return atoi(text);
}

static int word_of_status(const char *word, const char *text)
{
    const char *at = strstr(text, word);
    return at ? atoi(at + strlen(word)) : -1;
}

static void *wait_there(void *argument)
{
    guest_linger();
    return argument;
}

static int own, of_child = -1;

static void child(void)
{
    int parents = proc("/proc/%d/stat", getppid(), O_RDONLY);
    tree_checkpoint_here();
    guest_check(first_number(parents) == getppid());
    guest_check(first_number(own) == getppid(), "what was inherited is the parent's");
    tree_tell("looked");
}

int main(void)
{
    struct guest_thread thread;
    char text[4096] = "", link[64], *line;
    pid_t dead = fork();
    if (dead == 0) {
        pause();
        _exit(0);
    }
    int of_dead = proc("/proc/%d/stat", dead, O_RDONLY), mem_of_dead = proc("/proc/%d/fdinfo/0", dead, O_RDONLY);
    guest_check(kill(dead, SIGKILL) == 0 && waitpid(dead, NULL, 0) == dead);
    own = proc("/proc/self/stat", 0, O_RDONLY);
    int status = proc("/proc/self/status", 0, O_RDONLY), memory = proc("/proc/self/mem", 0, O_RDWR);
    int maps = proc("/proc/self/maps", 0, O_RDONLY), fds = proc("/proc/self/fd", 0, O_RDONLY | O_DIRECTORY);
    int comm = proc("/proc/self/comm", 0, O_RDWR), folder = proc("/proc/%d", getpid(), O_PATH | O_DIRECTORY);
    int net = proc("/proc/net/dev", 0, O_RDONLY), mounts = proc("/proc/self/mounts", 0, O_RDONLY);
    int version = proc("/proc/version", 0, O_RDONLY), watch = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLPRI, .data.u32 = 7};
    guest_check(epoll_ctl(watch, EPOLL_CTL_ADD, mounts, &event) == 0);
    guest_spawn(&thread, wait_there, NULL);
    snprintf(link, sizeof link, "/proc/self/task/%d/stat", (int)thread.tid);
    int of_thread = open(link, O_RDONLY);
    pid_t pid = tree_start("child", child);
    of_child = proc("/proc/%d/stat", pid, O_RDONLY);
    guest_check(of_thread >= 0 && lseek(status, 6, SEEK_SET) == 6 && lseek(memory, (off_t)&value, SEEK_SET) == (off_t)&value);
    guest_check(first_number(own) == getpid() && first_number(of_thread) == thread.tid && first_number(of_child) == pid);
    guest_check(read(maps, text, 100) > 0);
    tree_gather("child");

    guest_checkpoint_here();

    guest_check(first_number(own) == getpid() && first_number(of_child) == pid);
    guest_check(first_number(of_thread) == thread.tid);
    guest_check(lseek(status, 0, SEEK_CUR) == 6 && read(status, text, sizeof text - 1) > 0);
    guest_check(word_of_status("\nPid:\t", text) == getpid(), "%.200s", text);
    guest_check(read(memory, &value, 0) == 0 && lseek(memory, 0, SEEK_CUR) == (off_t)&value);
    int forty_two = 42;
    guest_check(write(memory, &forty_two, sizeof value) == sizeof value && *(volatile int *)&value == 42);
    guest_check(read(maps, text, sizeof text) > 0 && (line = memchr(text, '\n', sizeof text)) != NULL);
    guest_check(write(comm, "renamed", 7) == 7 && prctl(PR_GET_NAME, link) == 0 && !strcmp(link, "renamed"), "%s", link);
    int again = openat(folder, "stat", O_RDONLY);
    guest_check(again >= 0 && first_number(again) == getpid());
    guest_check(pread(net, text, 5, 0) == 5 && !memcmp(text, "Inter", 5) && pread(version, text, 5, 0) == 5 && !memcmp(text, "Linux", 5));
    guest_check(pread(of_dead, text, 5, 0) == -1 && errno == ESRCH && pread(mem_of_dead, text, 5, 0) == -1);
    DIR *entries = fdopendir(fds);
    int count = 0;
    for (struct dirent *entry; (entry = readdir(entries));)
        count += entry->d_name[0] != '.';
    guest_check(count >= 14, "%d", count);
    guest_check(epoll_ctl(watch, EPOLL_CTL_ADD, mounts, &event) == -1 && errno == EEXIST);
    guest_check(epoll_ctl(watch, EPOLL_CTL_DEL, mounts, &event) == 0);
    guest_join(&thread);
    tree_await("looked");
    tree_finish(pid, "child");
    return 0;
}
