/* Kernel distances: KID (polynomial kernel), CMMD (Gaussian kernel). Gram matrices once, sums from them in row order.
 * Every estimator people print is here by its own name: the full U-statistic for unequal sizes, Sutherland's variance, the estimate
 * without the cross diagonal; means over subsets (torch-fidelity, torchmetrics, clean-fid) are in kid_subsets.c. */
#include "metrics/linalg.h"
#include "metrics/metrics.h"
#include "base/exact_math.h"     /* lk_exp_d */
#include <math.h>
#include <stdlib.h>
#include <string.h>

static lk_err check(const char *what, int64_t nx, int64_t ny, int64_t d, int64_t least) {
    if (d < 1 || nx < least || ny < least)
        return lk_error(LK_EINPUT, "%s: sets of %lld and %lld samples of %lld features; at least %lld samples each", what, (long long)nx, (long long)ny, (long long)d, (long long)least);
    return LK_OK;
}
static lk_err number(const char *what, double v) { return isfinite(v) ? LK_OK : lk_error(LK_ENUM, "%s: the result is %g; a feature is NaN, infinite or too large", what, v); }

static double cubic(double dot, double d) {
    double k = dot / d + 1;
    return k * k * k;
}
static double *kernel(const double *x, int64_t n, const double *y, int64_t m, int64_t d, lk_pool *pool) {
    double *k = lk_xmalloc((size_t)(n * m) * sizeof *k);
    lk_gram(x, n, y, m, d, pool, k);
    for (int64_t i = 0; i < n * m; i++) k[i] = cubic(k[i], (double)d);
    return k;
}

/* ---- all samples ------------------------------------------------------------------------------------------------------------------ */
typedef struct { double *row, *cross, total, cross_total; } sums;      /* off-diagonal row sums of one set; sums against the other */
static sums sums_of(const double *within, int64_t n, const double *cross, int64_t m, bool transposed) {
    sums s = { lk_xmalloc((size_t)n * sizeof(double)), lk_xcalloc((size_t)n, sizeof(double)), 0, 0 };
    for (int64_t i = 0; i < n; i++) {
        s.row[i] = lk_sum(within + i * n, i) + lk_sum(within + i * n + i + 1, n - 1 - i);
        if (!transposed) s.cross[i] = lk_sum(cross + i * m, m);
    }
    if (transposed) for (int64_t j = 0; j < m; j++) for (int64_t i = 0; i < n; i++) s.cross[i] += cross[j * n + i];
    s.total = lk_sum(s.row, n);
    s.cross_total = lk_sum(s.cross, n);
    return s;
}
static void sums_free(sums *s) { free(s->row); free(s->cross); }
/* Delete-one jackknife variance over one set: the statistic without sample i from the row sums. */
static double jackknife(const sums *s, const sums *other, double n, double m) {
    double *part = lk_xmalloc((size_t)n * sizeof *part), mean, squares = 0, fixed = other->total / (m * (m - 1));
    for (int64_t i = 0; i < (int64_t)n; i++)
        part[i] = (s->total - 2 * s->row[i]) / ((n - 1) * (n - 2)) + fixed - 2 * (s->cross_total - s->cross[i]) / ((n - 1) * m);
    mean = lk_sum(part, (int64_t)n) / n;
    for (int64_t i = 0; i < (int64_t)n; i++) squares += (part[i] - mean) * (part[i] - mean);
    free(part);
    return (n - 1) / n * squares;
}
lk_err lk_kid_full(const double *x, int64_t nx, const double *y, int64_t ny, int64_t d, lk_pool *pool, lk_mmd *out) {
    LK_TRY(check("KID", nx, ny, d, 2));
    double *xx = kernel(x, nx, x, nx, d, pool), *yy = kernel(y, ny, y, ny, d, pool), *xy = kernel(x, nx, y, ny, d, pool), n = (double)nx, m = (double)ny;
    sums a = sums_of(xx, nx, xy, ny, false), b = sums_of(yy, ny, xy, nx, true);
    out->value = a.total / (n * (n - 1)) + b.total / (m * (m - 1)) - 2 * a.cross_total / (n * m);
    out->variance = nx > 2 && ny > 2 ? jackknife(&a, &b, n, m) + jackknife(&b, &a, m, n) : NAN;
    sums_free(&a);
    sums_free(&b);
    free(xx);
    free(yy);
    free(xy);
    return number("KID", out->value);
}
lk_err lk_kid_sutherland(const double *x, const double *y, int64_t n, int64_t d, lk_pool *pool, lk_mmd *out) {
    LK_TRY(check("KID", n, n, d, 4));
    double *xx = kernel(x, n, x, n, d, pool), *yy = kernel(y, n, y, n, d, pool), *xy = kernel(x, n, y, n, d, pool), m = (double)n;
    sums a = sums_of(xx, n, xy, n, false), b = sums_of(yy, n, xy, n, true);
    double squares = 0, xy2 = lk_dot(xy, xy, n * n), q1 = m * (m - 1), C = a.cross_total, T = a.total + b.total;
    for (int64_t i = 0; i < n; i++) for (int64_t j = 0; j < n; j++)
        if (i != j) squares += xx[i * n + j] * xx[i * n + j] + yy[i * n + j] * yy[i * n + j];
    double rows2 = lk_dot(a.row, a.row, n) + lk_dot(b.row, b.row, n), cross2 = lk_dot(a.cross, a.cross, n) + lk_dot(b.cross, b.cross, n);
    double dots = lk_dot(a.row, a.cross, n) + lk_dot(b.row, b.cross, n), totals2 = a.total * a.total + b.total * b.total;
    /* zeta_1 and zeta_2: variances of the first and second projections of the U-statistic's kernel. */
    double z1 = (rows2 - squares) / (q1 * (m - 2)) - totals2 / (q1 * q1) + (cross2 - 2 * xy2) / (m * q1) - 2 * C * C / (m * m * m * m)
              - 2 * dots / (m * q1) + 2 * T * C / (m * m * q1);
    double z2 = squares / q1 - totals2 / (q1 * q1) + 2 * xy2 / (m * m) - 2 * C * C / (m * m * m * m) - 4 * dots / (m * q1) + 4 * T * C / (m * m * q1);
    out->value = T / q1 - 2 * C / (m * m);
    out->variance = 4 * (m - 2) / q1 * z1 + 2 / q1 * z2;
    sums_free(&a);
    sums_free(&b);
    free(xx);
    free(yy);
    free(xy);
    return number("KID", out->value);
}
lk_err lk_kid_no_diagonal(const double *x, const double *y, int64_t n, int64_t d, lk_pool *pool, double *value) {
    LK_TRY(check("KID", n, n, d, 2));
    double *k[3] = { kernel(x, n, x, n, d, pool), kernel(y, n, y, n, d, pool), kernel(x, n, y, n, d, pool) }, s[3], m = (double)n;
    for (int i = 0; i < 3; i++) {
        double diagonal = 0;
        for (int64_t j = 0; j < n; j++) diagonal += k[i][j * n + j];
        s[i] = lk_sum(k[i], n * n) - diagonal;
        free(k[i]);
    }
    *value = (s[0] + s[1] - 2 * s[2]) / (m * (m - 1));
    return number("KID", *value);
}

/* ---- CMMD ---------------------------------------------------------------------------------------------------------------------------- */
/* exp(x) - 1 for x <= 0: the series near 0, where the difference would lose what CMMD is made of. */
static double expm1_exact(double x) {
    if (x < -.125) return lk_exp_d(x) - 1;
    double t = 1;
    for (int k = 14; k > 1; k--) t = 1 + x / k * t;
    return x * t;
}
typedef struct { const double *x, *y; int64_t m, d; double *row; } gauss_job;
static void gauss_rows(void *ctx, int64_t begin, int64_t end, int thread) {
    gauss_job *g = ctx;
    (void)thread;
    double *k = lk_xmalloc((size_t)g->m * sizeof *k);
    for (int64_t i = begin; i < end; i++) {
        for (int64_t j = 0; j < g->m; j++) k[j] = expm1_exact(-lk_squared_distance(g->x + i * g->d, g->y + j * g->d, g->d) / 200);
        g->row[i] = lk_sum(k, g->m);
    }
    free(k);
}
static double mean_minus_one(const double *x, int64_t n, const double *y, int64_t m, int64_t d, lk_pool *pool) {
    gauss_job g = { x, y, m, d, lk_xmalloc((size_t)n * sizeof(double)) };
    lk_parallel(pool, n, 16, gauss_rows, &g);
    double mean = lk_sum(g.row, n) / ((double)n * (double)m);
    free(g.row);
    return mean;
}
lk_err lk_cmmd(const double *x, int64_t nx, const double *y, int64_t ny, int64_t d, lk_pool *pool, double *value) {
    LK_TRY(check("CMMD", nx, ny, d, 1));
    *value = 1000 * (mean_minus_one(x, nx, x, nx, d, pool) + mean_minus_one(y, ny, y, ny, d, pool) - 2 * mean_minus_one(x, nx, y, ny, d, pool));
    return number("CMMD", *value);
}
