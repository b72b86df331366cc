/* The profile's table: sums by operation over all runs but the first, shares, and silence unless asked for. */
#include "backend/profile.h"
#include "tests/lib/lk_test.h"

TEST(off_unless_asked_for) {
    unsetenv("LK_PROFILE");
    CHECK(!lk_profile_new(3));
    setenv("LK_PROFILE", "0", 1);
    CHECK(!lk_profile_new(3));
    unsetenv("LK_PROFILE");
}

TEST(adds_up_by_operation_without_the_first_run) {
    setenv("LK_PROFILE", "1", 1);
    lk_profile *p = lk_profile_new(3);
    unsetenv("LK_PROFILE");
    if (!CHECK(p)) return;
    static const double seconds[3][3] = {{9, 9, 9}, {0.001, 0.002, 0.005}, {0.003, 0.004, 0.005}};
    for (int run = 0; run < 3; run++) {
        for (int i = 0; i < 3; i++) lk_profile_add(p, i, seconds[run][i]);
        lk_profile_run(p);
    }
    lk_profile_step step[3] = {{.kind = "matmul", .flops = 1000000, .bytes = 8, .text = "first"}, {.kind = "add", .bytes = 3000000, .text = "second"}, {.kind = "matmul", .flops = 1, .text = "third"}};
    lk_buf text = {0};
    lk_profile_text(p, step, &text);
    const char *matmul = strstr(text.s, "matmul"), *add = strstr(text.s, "add"), *third = strstr(text.s, "third"), *first = strstr(text.s, "first\n");
    CHECK_MSG(strstr(text.s, "10.000 ms a run in 3 steps"), "%s", text.s);
    CHECK_MSG(strstr(text.s, "7.000 ms  70.0%     2 x"), "%s", text.s);
    CHECK_MSG(strstr(text.s, "1.0 GB/s  add"), "%s", text.s);      /* 3 MB in 3 ms */
    CHECK(matmul && add && matmul < add && third && first && third < first);
    free(text.s);
    lk_profile_free(p);
}
