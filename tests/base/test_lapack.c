/* LAPACK on demand. Oracles: closed forms of 2 x 2 and 3 x 3 matrices, to 1e-14 (a few roundings of binary64). */
#include "base/lapack.h"
#include "tests/lib/lk_test.h"
#include <math.h>

static bool near(double got, double want) { return fabs(got - want) <= 1e-14 * fmax(1, fabs(want)); }

TEST(functions_are_those_of_their_names) {
    CHECK(!lk_la());                                      /* nothing is loaded before it is asked for */
    CHECK_OK(lk_lapack_load());
    CHECK_OK(lk_lapack_load());
    const lk_lapack *la = lk_la();
    if (!la) return;
    CHECK_MSG(lk_starts(la->version, "OpenBLAS "), "%s", la->version);
    double l[4] = {4, 2, 2, 10}, w[2];                    /* = [2 1]' [2 1; 0 3] */
    CHECK(la->dpotrf(LAPACK_ROW_MAJOR, 'U', 2, l, 2) == 0 && near(l[0], 2) && near(l[1], 1) && near(l[3], 3));
    double bad[4] = {1, 2, 2, 1};
    CHECK(la->dpotrf(LAPACK_ROW_MAJOR, 'U', 2, bad, 2) == 2);
    double s[4] = {2, 1, 1, 2};                           /* eigenvalues 1 and 3 */
    CHECK(la->dsyevd(LAPACK_ROW_MAJOR, 'N', 'U', 2, s, 2, w) == 0 && near(w[0], 1) && near(w[1], 3));
    double x[6] = {3, 0, 0, 0, 4, 0}, values[2];          /* by columns; singular values 4 and 3 */
    CHECK(la->dgesdd(LAPACK_COL_MAJOR, 'N', 3, 2, x, 3, values, NULL, 1, NULL, 1) == 0 && near(values[0], 4) && near(values[1], 3));
    double q[4] = {3, 1, 4, 2}, tau[2];                   /* the first column's length is 5 */
    CHECK(la->dgeqrf(LAPACK_ROW_MAJOR, 2, 2, q, 2, tau) == 0 && near(fabs(q[0]), 5) && near(fabs(q[3]), 0.4));
    CHECK(la->dorgqr(LAPACK_ROW_MAJOR, 2, 2, 2, q, 2, tau) == 0 && near(fabs(q[0]), 0.6) && near(fabs(q[2]), 0.8) && near(q[0] * q[1] + q[2] * q[3], 0));
    double a[4] = {1, 2, 3, 4}, b[4] = {5, 6, 7, 8}, c[4] = {0};
    la->dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, 2, 2, 2, 1, a, 2, b, 2, 0, c, 2);
    CHECK(c[0] == 17 && c[1] == 23 && c[2] == 39 && c[3] == 53);
    la->dsyrk(CblasRowMajor, CblasUpper, CblasTrans, 2, 2, 1, a, 2, 0, c, 2);
    CHECK(c[0] == 10 && c[1] == 14 && c[2] == 39 && c[3] == 20);
    la->dtrmm(CblasRowMajor, CblasLeft, CblasUpper, CblasNoTrans, CblasNonUnit, 2, 2, 1, a, 2, b, 2);
    CHECK(b[0] == 19 && b[1] == 22 && b[2] == 28 && b[3] == 32);
}
TEST(a_library_that_is_not_there_is_named_with_its_package) {
    lk_lapack out;
    CHECK_FAILS(lk_lapack_open("libnothing-blas.so.9", "liblapacke.so.3", &out), "libnothing-blas.so.9 cannot be loaded");
    CHECK_FAILS(lk_lapack_open("libnothing-blas.so.9", "liblapacke.so.3", &out), "install libopenblas0");
    CHECK_FAILS(lk_lapack_open("libopenblas.so.0", "libnothing-lapacke.so.9", &out), "install liblapacke");
    CHECK_FAILS(lk_lapack_open("libopenblas.so.0", "libm.so.6", &out), "libopenblas.so.0 and libm.so.6 have no LAPACKE_");
}
