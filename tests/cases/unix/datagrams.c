//# expect: resumes
//# flavours: alone running killed again exec namespace
//# show: unix state=connected
/* Datagram sockets with names: connected one way, messages of several senders with their names, a lost name. */
#include "sockets.h"

enum { SERVER = 40, CLIENT, NAMED, LOST };

static struct sockaddr_un server = {.sun_family = AF_UNIX}, named = {.sun_family = AF_UNIX}, lost = {.sun_family = AF_UNIX};

static void open_at(int number, struct sockaddr_un *name)
{
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    guest_check(fd >= 0 && dup2(fd, number) == number && close(fd) == 0);
    if (name)
        guest_check(bind(number, (struct sockaddr *)name, sizeof *name) == 0);
}

static void receive(int fd, const char *text, struct sockaddr_un *from)
{
    char found[64] = {0};
    struct sockaddr_un who = {0};
    socklen_t length = sizeof who;
    ssize_t got = recvfrom(fd, found, sizeof found - 1, MSG_DONTWAIT, (struct sockaddr *)&who, &length);
    guest_check(got == (ssize_t)strlen(text) && !strcmp(found, text), "%zd: %s, not %s", got, found, text);
    if (from)
        guest_check(!strcmp(who.sun_path, from->sun_path), "%s", who.sun_path);
    else
        guest_check(length == 0 || length == sizeof who.sun_family, "%d", (int)length);
}

int main(void)
{
    snprintf(server.sun_path, sizeof server.sun_path, "%s", guest_path("server.sock"));
    snprintf(named.sun_path, sizeof named.sun_path, "./named.sock");
    snprintf(lost.sun_path, sizeof lost.sun_path, "%s", guest_path("lost.sock"));
    open_at(SERVER, &server);
    open_at(CLIENT, NULL);
    open_at(NAMED, &named);
    open_at(LOST, &lost);
    guest_check(connect(CLIENT, (struct sockaddr *)&server, sizeof server) == 0);
    guest_check(connect(NAMED, (struct sockaddr *)&lost, sizeof lost) == 0);
    sockets_send(CLIENT, "from nobody");
    guest_check(sendto(NAMED, "from named", 10, 0, (struct sockaddr *)&server, sizeof server) == 10);
    guest_check(sendto(LOST, "from lost", 9, 0, (struct sockaddr *)&server, sizeof server) == 9);
    sockets_send(CLIENT, "again");
    sockets_send(NAMED, "to lost");
    guest_check(unlink(lost.sun_path) == 0);

    guest_checkpoint_here();

    struct sockaddr_un found = {0};
    socklen_t length = sizeof found;
    receive(SERVER, "from nobody", NULL);
    receive(SERVER, "from named", &named);
    receive(SERVER, "from lost", &lost);
    receive(SERVER, "again", NULL);
    sockets_quiet(SERVER);
    receive(LOST, "to lost", &named);
    guest_check(getsockname(LOST, (struct sockaddr *)&found, &length) == 0 && !strcmp(found.sun_path, lost.sun_path));
    guest_check(access(lost.sun_path, F_OK) == -1 && access(server.sun_path, F_OK) == 0);
    sockets_send(NAMED, "still");
    receive(LOST, "still", &named);
    sockets_send(CLIENT, "still");
    receive(SERVER, "still", NULL);
    guest_check(sendto(SERVER, "back", 4, 0, (struct sockaddr *)&named, sizeof named) == -1 && errno == EPERM);
    return 0;
}
