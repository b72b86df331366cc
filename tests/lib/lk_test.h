/* The test harness, on CUnit. A file tests/<folder>/test_<subject>.c becomes one program:
 *     TEST(adds_two_numbers) { CHECK(1 + 1 == 2); CHECK_CLOSE(x, y, 1e-6); }
 * Its last line is "N passed, N failed, N skipped"; a test that makes no check fails. */
#ifndef LK_TEST_H
#define LK_TEST_H
#include "base/base.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void lk_test_add(const char *name, void (*fn)(void));
bool lk_test_check(bool ok, const char *file, int line, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
void lk_test_skip(const char *why);

#define TEST(name) \
    static void name(void); \
    __attribute__((constructor)) static void lk_register_##name(void) { lk_test_add(#name, name); } \
    static void name(void)
/* Each returns whether it held. */
#define CHECK(cond) lk_test_check((cond), __FILE__, __LINE__, "%s", #cond)
#define CHECK_MSG(cond, ...) lk_test_check((cond), __FILE__, __LINE__, __VA_ARGS__)
#define CHECK_CLOSE(got, want, tol) lk_check_close((got), (want), (tol), __FILE__, __LINE__, #got)   /* |got - want| <= tol; NaN fails */
#define CHECK_OK(call) do { lk_err e_ = (call); lk_test_check(!e_, __FILE__, __LINE__, "%s: %s", #call, lk_err_text(e_)); lk_err_free(e_); } while (0)
/* The call must fail and its message contain `part`. */
#define CHECK_FAILS(call, part) do { lk_err e_ = (call); lk_test_check(e_ && strstr(lk_err_text(e_), (part)), __FILE__, __LINE__, \
    "%s: wanted an error with \"%s\", got \"%s\"", #call, (part), lk_err_text(e_)); lk_err_free(e_); } while (0)
#define SKIP(why) do { lk_test_skip(why); return; } while (0)
static inline bool lk_check_close(double got, double want, double tol, const char *file, int line, const char *what) {
    return lk_test_check(fabs(got - want) <= tol, file, line, "%s = %.17g, want %.17g +- %g", what, got, want, tol);
}
/* A directory of this test program's own under TMPDIR; removed at the end. */
const char *lk_test_dir(void);
#endif
