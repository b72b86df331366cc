/* The peers' tables of metrics through the golden runner: every row within its own tolerance; and a changed row is seen. */
#include "cli/golden/golden.h"
#include "tests/lib/lk_test.h"
#include <unistd.h>

static void run(const char *path, int *passed, int *failed) {
    lk_golden g = { .pool = lk_pool_new(2) };
    lk_golden_failed(&g, path, lk_golden_walk(&g, path));
    *passed = g.passed;
    *failed = g.failed;
    for (int i = 0; i < g.n_claimed; i++) free(g.claimed[i]);
    free(g.claimed);
    lk_pool_free(g.pool);
}
TEST(every_row_of_the_peers_tables_holds) {
    int passed, failed;
    run("tests/golden/metrics", &passed, &failed);
    CHECK_MSG(failed == 0, "%d rows failed", failed);
    CHECK_MSG(passed > 1500, "only %d rows ran", passed);
}
TEST(a_changed_value_and_an_unknown_call_are_seen) {
    char path[512];
    snprintf(path, sizeof path, "%s/stats.json", lk_test_dir());
    static const char text[] = "{\"data\": {\"p\": [0.01, 0.02]}, \"rows\": ["
        "{\"id\": \"m/holm\", \"value\": [0.02, 0.02], \"call\": \"multipletests(p,method='holm')\", \"inputs\": \"p\", \"tol_abs\": 1e-12},"
        "{\"id\": \"m/holm2\", \"value\": [0.02, 0.04], \"call\": \"multipletests(p,method='holm')\", \"inputs\": \"p\", \"tol_abs\": 1e-12},"
        "{\"id\": \"m/other\", \"value\": 1, \"call\": \"never heard of\", \"tol_abs\": 1}]}";
    CHECK_OK(lk_write_file_atomic(path, text, sizeof text - 1));
    int passed, failed;
    run(path, &passed, &failed);
    CHECK(passed == 1);
    CHECK(failed == 2);
}
