//# expect: resumes
//# flavours: alone running killed again exec
//# show: unix peer_user=1234
/* Who has connected (SO_PEERCRED) and who has sent what waits (SCM_CREDENTIALS): processes that have ended, with other users and
 * groups, told where the ids are kept. */
#include "sockets.h"
#include <sys/socket.h>

enum { PAIR = 40, PAIR_PEER, LISTENING, CLIENT, SERVER, DGRAM, DGRAM_PEER, STREAM, STREAM_PEER, LATE, LATE_PEER, WAITS };

static struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "listening.sock"};
static struct ucred child;
static pid_t root;

/* In a process of another user that ends, whose descriptors are these. */
static void as_another(void (*work)(void), uid_t user, gid_t group)
{
    pid_t made = (pid_t)syscall(SYS_clone, CLONE_FILES | SIGCHLD, NULL, NULL, NULL, NULL);
    guest_check(made >= 0);
    if (made == 0) {
        if (syscall(SYS_setresgid, group, group, group) || syscall(SYS_setresuid, user, user, user))
            _exit(1);
        work();
        _exit(0);
    }
    int status;
    guest_check(waitpid(made, &status, 0) == made && status == 0, "%x", status);
    child = (struct ucred){made, user, group};
}

static void make_pair(void)
{
    sockets_pair(SOCK_STREAM, PAIR, PAIR_PEER);
}

static void make_client(void)
{
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    guest_check(dup2(fd, CLIENT) == CLIENT && close(fd) == 0);
    guest_check(connect(CLIENT, (struct sockaddr *)&name, sizeof name) == 0);
}

static void send_some(void)
{
    sockets_send(DGRAM, "by a child");
    sockets_send(STREAM, "by a child");
    sockets_send(LATE, "by a child");
}

static void check_peer(int fd, pid_t pid, uid_t user, gid_t group)
{
    struct ucred found;
    socklen_t length = sizeof found;
    guest_check(getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &found, &length) == 0);
    guest_check(found.pid == pid && found.uid == user && found.gid == group, "%d: %d %d %d, not %d %d %d", fd, found.pid,
                (int)found.uid, (int)found.gid, pid, (int)user, (int)group);
}

static void check_message(int fd, const char *text, const struct ucred *who)
{
    char found[64] = {0}, control[CMSG_SPACE(sizeof *who)] = {0};
    struct iovec bytes = {found, sizeof found - 1};
    struct msghdr message = {.msg_iov = &bytes, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    ssize_t length = recvmsg(fd, &message, MSG_DONTWAIT);
    guest_check(length == (ssize_t)strlen(text) && !strcmp(found, text), "%d: %zd: %s", fd, length, found);
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    guest_check(header && header->cmsg_type == SCM_CREDENTIALS, "%d", fd);
    struct ucred came;
    memcpy(&came, CMSG_DATA(header), sizeof came);
    guest_check(came.pid == who->pid && came.uid == who->uid && came.gid == who->gid, "%d: %s: %d %d %d", fd, text, came.pid,
                (int)came.uid, (int)came.gid);
}

int main(void)
{
    if (geteuid() != 0)
        guest_skip("only root can be others");
    root = getpid();
    struct ucred own = {root, 0, 0}, maker, client, sender;
    int listening = socket(AF_UNIX, SOCK_STREAM, 0);
    guest_check(dup2(listening, LISTENING) == LISTENING && close(listening) == 0);
    guest_check(bind(LISTENING, (struct sockaddr *)&name, sizeof name) == 0 && listen(LISTENING, 3) == 0);
    guest_check(chmod(name.sun_path, 0777) == 0);
    sockets_pair(SOCK_DGRAM, DGRAM, DGRAM_PEER);
    sockets_pair(SOCK_STREAM, STREAM, STREAM_PEER);
    sockets_pair(SOCK_STREAM, LATE, LATE_PEER);
    sockets_set(DGRAM_PEER, SO_PASSCRED, 1);
    sockets_set(STREAM_PEER, SO_PASSCRED, 1);
    as_another(make_pair, 1234, 4321);
    maker = child;
    as_another(make_client, 0, 77);
    client = child;
    int server = accept(LISTENING, NULL, NULL);
    guest_check(dup2(server, SERVER) == SERVER && close(server) == 0);
    sockets_send(DGRAM, "by itself");
    sockets_send(STREAM, "by itself ");
    sockets_send(STREAM, "too");
    as_another(send_some, 99, 98);
    sender = child;

    guest_checkpoint_here();

    check_peer(PAIR, maker.pid, maker.uid, maker.gid);
    check_peer(PAIR_PEER, maker.pid, maker.uid, maker.gid);
    check_peer(SERVER, client.pid, client.uid, client.gid);
    check_peer(CLIENT, root, 0, 0);
    check_peer(DGRAM, root, 0, 0);
    check_message(DGRAM_PEER, "by itself", &own);
    check_message(DGRAM_PEER, "by a child", &sender);
    check_message(STREAM_PEER, "by itself too", &own);
    check_message(STREAM_PEER, "by a child", &sender);
    sockets_set(LATE_PEER, SO_PASSCRED, 1);
    check_message(LATE_PEER, "by a child", &(struct ucred){0, 65534, 65534});
    guest_check(sockets_option(STREAM, SO_PASSCRED) == 0);
    sockets_send(DGRAM, "anew");
    check_message(DGRAM_PEER, "anew", &(struct ucred){getpid(), geteuid(), getegid()});
    return 0;
}
