//# expect: resumes
//# show: mapping backing=anonymous protection=3
//# show: mapping backing=anonymous protection=0
/* Private anonymous memory under every protection, with pages that were never touched between those that were. */
#include "../guest.h"

#define PAGES 64

int main(void)
{
    static const int protections[] = {PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE, PROT_READ | PROT_EXEC,
                                      PROT_READ | PROT_WRITE | PROT_EXEC};
    char *areas[5];
    for (int area = 0; area < 5; area++) {
        areas[area] = guest_map(PAGES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
        for (int page = 0; page < PAGES; page += 3)
            guest_fill(areas[area] + page * GUEST_PAGE, GUEST_PAGE, 100 * area + page);
        /* a page that was written, and is zero */
        memset(areas[area] + GUEST_PAGE, 1, GUEST_PAGE);
        memset(areas[area] + GUEST_PAGE, 0, GUEST_PAGE);
        guest_check(mprotect(areas[area], PAGES * GUEST_PAGE, protections[area]) == 0);
    }

    guest_checkpoint_here();

    for (int area = 0; area < 5; area++) {
        guest_check(mprotect(areas[area], PAGES * GUEST_PAGE, PROT_READ | PROT_WRITE) == 0);
        for (int page = 0; page < PAGES; page++) {
            char *place = areas[area] + page * GUEST_PAGE;
            if (page % 3 == 0)
                guest_check(guest_filled(place, GUEST_PAGE, 100 * area + page), "area %d page %d", area, page);
            else
                guest_check(guest_zero(place, GUEST_PAGE), "area %d page %d", area, page);
            guest_fill(place, GUEST_PAGE, 7);
        }
    }
    return 0;
}
