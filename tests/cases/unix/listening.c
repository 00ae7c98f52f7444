//# expect: resumes
//# flavours: alone running killed again exec namespace user
//# show: unix state=listening backlog=7
//# show: unix state=pending
/* Sockets that listen, by an absolute, a relative and an abstract name, with connections that were accepted, with what is
 * on its way, and with some that wait to be accepted. */
#include "sockets.h"

enum { PATH = 40, RELATIVE, ABSTRACT, PATH_CLIENT, PATH_SERVER, RELATIVE_CLIENT, RELATIVE_SERVER, ABSTRACT_CLIENT,
       ABSTRACT_SERVER, FIRST, SECOND, PACKET, PACKET_CLIENT, PACKET_SERVER };

static struct sockaddr_un path = {.sun_family = AF_UNIX}, relative = {.sun_family = AF_UNIX},
                          hidden = {.sun_family = AF_UNIX}, packet = {.sun_family = AF_UNIX};
static socklen_t hidden_length;

static void at(int fd, int number)
{
    guest_check(fd >= 0 && dup2(fd, number) == number && close(fd) == 0);
}

static void listener(int number, int type, struct sockaddr_un *name, socklen_t length, int backlog)
{
    at(socket(AF_UNIX, type, 0), number);
    guest_check(bind(number, (struct sockaddr *)name, length) == 0 && listen(number, backlog) == 0);
}

static void client(int number, int type, struct sockaddr_un *name, socklen_t length)
{
    at(socket(AF_UNIX, type, 0), number);
    guest_check(connect(number, (struct sockaddr *)name, length) == 0);
}

static void check_name(int (*get)(int, struct sockaddr *, socklen_t *), int fd, struct sockaddr_un *name, socklen_t length)
{
    struct sockaddr_un found = {0};
    socklen_t found_length = sizeof found;
    guest_check(get(fd, (struct sockaddr *)&found, &found_length) == 0, "%d", fd);
    if (!name)
        guest_check(found_length == sizeof found.sun_family, "%d: %d", fd, (int)found_length);
    else if (length == sizeof *name)
        guest_check(!strcmp(found.sun_path, name->sun_path), "%d: %s", fd, found.sun_path);
    else
        guest_check(found_length == length && !memcmp(&found, name, length), "%d: %d", fd, (int)found_length);
}

static void accept_one(int listening, const char *text)
{
    int fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
    guest_check(fd >= 0);
    sockets_send(fd, text);
    guest_check(close(fd) == 0);
}

int main(void)
{
    struct stat file;
    snprintf(path.sun_path, sizeof path.sun_path, "%s", guest_path("path.sock"));
    snprintf(relative.sun_path, sizeof relative.sun_path, "relative.sock");
    snprintf(packet.sun_path, sizeof packet.sun_path, "packet.sock");
    snprintf(hidden.sun_path + 1, sizeof hidden.sun_path - 1, "ckpt-test-%d", (int)getpid());
    hidden_length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(hidden.sun_path + 1));
    listener(PATH, SOCK_STREAM, &path, sizeof path, 7);
    listener(RELATIVE, SOCK_STREAM, &relative, sizeof relative, 5);
    listener(ABSTRACT, SOCK_STREAM, &hidden, hidden_length, 5);
    listener(PACKET, SOCK_SEQPACKET, &packet, sizeof packet, 5);
    guest_check(chmod(path.sun_path, 0751) == 0);
    client(PATH_CLIENT, SOCK_STREAM, &path, sizeof path);
    at(accept(PATH, NULL, NULL), PATH_SERVER);
    client(RELATIVE_CLIENT, SOCK_STREAM, &relative, sizeof relative);
    at(accept(RELATIVE, NULL, NULL), RELATIVE_SERVER);
    client(ABSTRACT_CLIENT, SOCK_STREAM, &hidden, hidden_length);
    at(accept(ABSTRACT, NULL, NULL), ABSTRACT_SERVER);
    client(PACKET_CLIENT, SOCK_SEQPACKET, &packet, sizeof packet);
    at(accept(PACKET, NULL, NULL), PACKET_SERVER);
    sockets_send(PATH_CLIENT, "request");
    sockets_send(PATH_SERVER, "answer");
    guest_check(close(ABSTRACT_SERVER) == 0); /* its client has yet to find out */
    sockets_send(PACKET_CLIENT, "one");
    sockets_send(PACKET_CLIENT, "two");
    client(FIRST, SOCK_STREAM, &path, sizeof path);
    client(SECOND, SOCK_STREAM, &path, sizeof path);
    guest_check(shutdown(SECOND, SHUT_WR) == 0);

    guest_checkpoint_here();

    char byte;
    guest_check(stat(path.sun_path, &file) == 0 && S_ISSOCK(file.st_mode) && (file.st_mode & 0777) == 0751);
    check_name(getsockname, PATH, &path, sizeof path);
    check_name(getsockname, PATH_SERVER, &path, sizeof path);
    check_name(getpeername, PATH_CLIENT, &path, sizeof path);
    check_name(getsockname, PATH_CLIENT, NULL, 0);
    check_name(getpeername, PATH_SERVER, NULL, 0);
    check_name(getsockname, RELATIVE_SERVER, &relative, sizeof relative);
    check_name(getpeername, RELATIVE_CLIENT, &relative, sizeof relative);
    check_name(getsockname, ABSTRACT, &hidden, hidden_length);
    check_name(getpeername, ABSTRACT_CLIENT, &hidden, hidden_length);
    guest_check(sockets_option(PATH, SO_ACCEPTCONN) == 1 && sockets_option(PATH_SERVER, SO_ACCEPTCONN) == 0);
    sockets_expect(PATH_SERVER, "request");
    sockets_expect(PATH_CLIENT, "answer");
    sockets_quiet(PATH_SERVER);
    sockets_quiet(PATH_CLIENT);
    sockets_send(RELATIVE_CLIENT, "x");
    sockets_expect(RELATIVE_SERVER, "x");
    guest_check(recv(ABSTRACT_CLIENT, &byte, 1, MSG_DONTWAIT) == 0);
    sockets_expect(PACKET_SERVER, "one");
    sockets_expect(PACKET_SERVER, "two");
    sockets_quiet(PACKET_SERVER);
    /* Those that wait come in their order. */
    accept_one(PATH, "first");
    accept_one(PATH, "second");
    sockets_expect(FIRST, "first");
    sockets_expect(SECOND, "second");
    guest_check(send(SECOND, "x", 1, MSG_NOSIGNAL) == -1 && errno == EPIPE);
    /* New ones come too. */
    for (int i = 0; i < 3; i++) {
        int listening = i == 0 ? PATH : i == 1 ? RELATIVE : ABSTRACT;
        struct sockaddr_un *name = i == 0 ? &path : i == 1 ? &relative : &hidden;
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);
        guest_check(connect(fd, (struct sockaddr *)name, i == 2 ? hidden_length : sizeof *name) == 0, "%d", i);
        accept_one(listening, "hello");
        sockets_expect(fd, "hello");
        guest_check(close(fd) == 0);
    }
    /* Copies take turns. */
    guest_check(close(PATH) == 0 && close(RELATIVE) == 0 && close(PACKET) == 0);
    return 0;
}
