#include "tests/lib/lk_test.h"
#include <CUnit/CUnit.h>
#include <CUnit/TestRun.h>
#include <unistd.h>

/* CUnit holds the registry and counts assertions; this file adds the message, the skip and the last line. */
enum { MAX_TESTS = 4096 };
static struct { const char *name; void (*fn)(void); } tests[MAX_TESTS];
static int n_tests, n_run, n_failed, n_skipped;
static int checks, failures; static const char *skipped;
static char dir[256];

void lk_test_add(const char *name, void (*fn)(void)) { if (n_tests < MAX_TESTS) { tests[n_tests].name = name; tests[n_tests++].fn = fn; } }
void lk_test_skip(const char *why) { skipped = why; }
bool lk_test_check(bool ok, const char *file, int line, const char *fmt, ...) {
    checks++;
    char text[2048] = "";
    if (!ok) {
        va_list ap; va_start(ap, fmt); vsnprintf(text, sizeof text, fmt, ap); va_end(ap);
        if (++failures <= 20) printf("    %s:%d: %s\n", file, line, text);
    }
    CU_assertImplementation(ok, (unsigned)line, text, file, "", CU_FALSE);
    return ok;
}
static void before(const CU_pTest t, const CU_pSuite s) { (void)t; (void)s; checks = failures = 0; skipped = NULL; n_run++; }
static void after(const CU_pTest t, const CU_pSuite s, const CU_pFailureRecord f) {
    (void)s; (void)f;
    if (skipped && !failures) { n_skipped++; printf("  SKIP %s: %s\n", t->pName, skipped); }
    else if (failures || !checks) { n_failed++; printf("  FAIL %s: %s\n", t->pName, checks ? "see above" : "made no check"); }
    else printf("  ok   %s (%d checks)\n", t->pName, checks);
    fflush(stdout);
}
const char *lk_test_dir(void) {
    if (!dir[0]) {
        const char *tmp = getenv("TMPDIR");
        snprintf(dir, sizeof dir, "%s/lk-test-XXXXXX", tmp ? tmp : "/tmp");
        if (!mkdtemp(dir)) { perror(dir); exit(1); }
    }
    return dir;
}
int main(int argc, char **argv) {
    const char *only = argc > 1 ? argv[1] : NULL;      /* part of a test's name */
    if (CU_initialize_registry() != CUE_SUCCESS) return 1;
    CU_pSuite suite = CU_add_suite("likeness", NULL, NULL);
    for (int i = 0; i < n_tests; i++) if (!only || strstr(tests[i].name, only)) CU_add_test(suite, tests[i].name, tests[i].fn);
    CU_set_test_start_handler(before); CU_set_test_complete_handler(after);
    CU_run_all_tests();
    CU_cleanup_registry();
    if (dir[0]) { char cmd[300]; snprintf(cmd, sizeof cmd, "rm -rf '%s'", dir); if (system(cmd)) perror(dir); }
    printf("%d passed, %d failed, %d skipped\n", n_run - n_failed - n_skipped, n_failed, n_skipped);
    return n_failed || !n_run;
}
