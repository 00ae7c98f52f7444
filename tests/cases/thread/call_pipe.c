//# expect: resumes
//# flavours: alone running killed again exec
/* Reads of an empty pipe and a write to a full one: they wait on, and no byte is lost or doubled. */
#include "../guest.h"

#define MORE 10000

static int empty[2], full[2];
static char got[16], more[MORE];
static ssize_t read_result, write_result;

static void *read_here(void *argument)
{
    read_result = read(empty[0], got, sizeof got);
    return NULL;
}

static void *write_here(void *argument)
{
    write_result = write(full[1], more, MORE);
    return NULL;
}

int main(void)
{
    struct guest_thread reader, writer;
    static char block[65536];
    guest_check(pipe(empty) == 0 && pipe(full) == 0);
    memset(block, 'a', sizeof block);
    memset(more, 'b', sizeof more);
    guest_check(write(full[1], block, sizeof block) == sizeof block);
    guest_spawn(&reader, read_here, NULL);
    guest_spawn(&writer, write_here, NULL);
    guest_wait_in_call(reader.tid, SYS_read);
    guest_wait_in_call(writer.tid, SYS_write);

    guest_checkpoint_here();

    guest_check(write(empty[1], "hello", 5) == 5);
    guest_join(&reader);
    guest_check(read_result == 5 && !memcmp(got, "hello", 5), "%zd", read_result);
    size_t a = 0, b = 0;
    while (a + b < sizeof block + MORE) {
        char part[4096];
        ssize_t count = read(full[0], part, sizeof part);
        guest_check(count > 0);
        for (ssize_t i = 0; i < count; i++)
            if (part[i] == 'a')
                a++;
            else
                b++;
        guest_check(b == 0 || a == sizeof block, "out of order");
    }
    guest_join(&writer);
    guest_check(write_result == MORE, "%zd", write_result);
    return 0;
}
