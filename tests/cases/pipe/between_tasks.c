//# expect: resumes
//# tasks: 5
//# show: pipe content_bytes=6
/* Pipes between tasks, as in a pipeline: who made them has closed them; content is on the way, a reader waits, and the end
 * of file comes when the last writer has ended. */
#include "../tree.h"

static int first[2], second[2];

static void writer(void)
{
    guest_check(close(first[0]) == 0 && close(second[0]) == 0 && close(second[1]) == 0);
    guest_check(write(first[1], "before", 6) == 6);
    tree_checkpoint_here();
    guest_check(write(first[1], " after", 6) == 6);
}

static void filter(void)
{
    char text[13] = {0};
    guest_check(close(first[1]) == 0 && close(second[0]) == 0);
    tree_checkpoint_here();
    for (int length = 0; length < 12;) {
        int more = (int)read(first[0], text + length, 12 - length);
        guest_check(more > 0);
        length += more;
    }
    guest_check(!strcmp(text, "before after"), "%s", text);
    guest_check(read(first[0], text, 1) == 0, "the writer is gone");
    guest_check(write(second[1], "filtered", 8) == 8);
}

static void reader(void)
{
    char text[16] = {0};
    guest_check(close(first[0]) == 0 && close(first[1]) == 0 && close(second[1]) == 0);
    tree_in_place();
    guest_check(read(second[0], text, sizeof text) == 8 && !memcmp(text, "filtered", 8), "%s", text);
    tree_wait();
    guest_check(read(second[0], text, 1) == 0, "the filter is gone");
}

int main(void)
{
    if (tree_is("bystander")) {
        tree_checkpoint_here();
        tree_done();
    }
    guest_check(pipe(first) == 0 && pipe(second) == 0);
    pid_t one = tree_start("writer", writer), two = tree_start("filter", filter), three = tree_start("reader", reader);
    guest_check(close(first[0]) == 0 && close(first[1]) == 0 && close(second[0]) == 0 && close(second[1]) == 0);
    pid_t bystander = tree_start_exec("bystander");
    tree_gather("writer", "filter", "reader", "bystander");
    tree_await_call(three, SYS_read);

    guest_checkpoint_here();

    tree_finish(one, "writer");
    tree_finish(two, "filter");
    tree_finish(three, "reader");
    tree_finish(bystander, "bystander");
    return 0;
}
