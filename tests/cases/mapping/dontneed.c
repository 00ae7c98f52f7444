//# expect: resumes
/* Memory given back with MADV_DONTNEED reads zero again, before the checkpoint and after the resume; a private file
 * mapping shows the file again. Allocators rely on it. */
#include "../guest.h"

#define PAGES 600 /* more than a huge page */

int main(void)
{
    char *heap = sbrk(PAGES * GUEST_PAGE);
    char *area = guest_map(PAGES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
    int fd = guest_new_file("file", "the file's own words");
    guest_check(ftruncate(fd, GUEST_PAGE) == 0);
    char *file = mmap(NULL, GUEST_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    guest_check(heap != (void *)-1 && file != MAP_FAILED);
    heap = (char *)(((uintptr_t)heap + GUEST_PAGE - 1) & ~(GUEST_PAGE - 1));
    size_t length = (PAGES - 1) * GUEST_PAGE;
    guest_fill(heap, length, 1);
    guest_fill(area, length, 2);
    strcpy(file, "private words");
    guest_check(madvise(heap, 10 * GUEST_PAGE, MADV_DONTNEED) == 0);

    guest_checkpoint_here();

    guest_check(guest_zero(heap, 10 * GUEST_PAGE));
    guest_check(guest_filled(area, length, 2));
    guest_check(!strcmp(file, "private words"));
    guest_check(madvise(heap, length, MADV_DONTNEED) == 0);
    guest_check(madvise(area, length, MADV_DONTNEED) == 0);
    guest_check(madvise(file, GUEST_PAGE, MADV_DONTNEED) == 0);
    guest_check(guest_zero(heap, length));
    guest_check(guest_zero(area, length));
    guest_check(!strcmp(file, "the file's own words"), "%s", file);
    guest_fill(heap, length, 3);
    guest_fill(area, length, 4);
    return 0;
}
