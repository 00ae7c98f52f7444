//# expect: resumes
//# needs: capability sys_admin
//# tasks: 4
//# flavours: alone running killed again twice exec namespace
//# show: namespace kind=uts host_name=ckpt-guest domain_name=ckpt-domain
//# show: namespace kind=uts host_name=ckpt-apart
//# show: namespace kind=ipc
/* A tree in UTS and IPC namespaces of its own, and a task in another pair: names, limits, a message queue, and who lives with
 * whom. */
#include "../tree.h"
#include <sys/msg.h>
#include <sys/utsname.h>

static int queue;

static void name(const char *host, const char *domain)
{
    guest_check(sethostname(host, strlen(host)) == 0 && setdomainname(domain, strlen(domain)) == 0);
}

static bool is_named(const char *host, const char *domain)
{
    struct utsname names;
    guest_check(uname(&names) == 0);
    return !strcmp(names.nodename, host) && !strcmp(names.domainname, domain);
}

static void limit(const char *setting, const char *value, bool set)
{
    char path[128], text[64] = {0};
    snprintf(path, sizeof path, "/proc/sys/%s", setting);
    int fd = open(path, (set ? O_RDWR : O_RDONLY) | O_CLOEXEC);
    guest_check(fd >= 0, "%s", path);
    if (set)
        guest_check(write(fd, value, strlen(value)) == (ssize_t)strlen(value));
    else
        guest_check(read(fd, text, sizeof text - 1) > 0 && !strncmp(text, value, strlen(value)), "%s: %s", setting, text);
    close(fd);
}

/* Whether this process lives where the root does. */
static bool is_with_root(const char *kind)
{
    char path[64], root[64] = {0}, own[64] = {0};
    snprintf(path, sizeof path, "/proc/%d/ns/%s", (int)tree_root, kind);
    guest_check(readlink(path, root, sizeof root - 1) > 0);
    snprintf(path, sizeof path, "/proc/self/ns/%s", kind);
    guest_check(readlink(path, own, sizeof own - 1) > 0);
    return !strcmp(root, own);
}

static void with_root(void)
{
    tree_checkpoint_here();
    guest_check(is_named("ckpt-guest", "ckpt-domain") && is_with_root("uts") && is_with_root("ipc"));
    limit("kernel/msgmax", "4321", false);
}

static void apart(void)
{
    guest_check(unshare(CLONE_NEWUTS | CLONE_NEWIPC) == 0);
    name("ckpt-apart", "(none)");
    limit("kernel/shmmni", "77", true);
    tree_checkpoint_here();
    guest_check(is_named("ckpt-apart", "(none)") && !is_with_root("uts") && !is_with_root("ipc"));
    limit("kernel/shmmni", "77", false);
}

int main(void)
{
    struct {
        long type;
        char text[8];
    } message = {.type = 5, .text = "waiting"};
    if (tree_is("execed")) {
        with_root();
        tree_done();
    }
    guest_check(unshare(CLONE_NEWUTS | CLONE_NEWIPC) == 0);
    name("ckpt-guest", "ckpt-domain");
    limit("kernel/msgmax", "4321", true);
    limit("fs/mqueue/msg_max", "33", true);
    queue = msgget(0x636b, IPC_CREAT | 0600);
    guest_check(queue >= 0 && msgsnd(queue, &message, sizeof message.text, 0) == 0);
    pid_t forked = tree_start("forked", with_root);
    pid_t execed = tree_start_exec("execed");
    pid_t other = tree_start("apart", apart);
    tree_gather("forked", "execed", "apart");
    guest_checkpoint_here();
    guest_check(is_named("ckpt-guest", "ckpt-domain"));
    limit("kernel/msgmax", "4321", false);
    limit("fs/mqueue/msg_max", "33", false);
    memset(&message, 0, sizeof message);
    /* A copy beside the original uses the queue of the same namespace, where the message is taken once. */
    guest_check(msgget(0x636b, 0) == queue);
    guest_check(msgrcv(queue, &message, sizeof message.text, 5, IPC_NOWAIT) == sizeof message.text);
    guest_check(!strcmp(message.text, "waiting"));
    tree_finish(forked, "forked");
    tree_finish(execed, "execed");
    tree_finish(other, "apart");
    return 0;
}
