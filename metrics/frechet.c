/* Frechet distance between Gaussians (Dowson & Landau 1982; Heusel et al. 2017 for FID):
 *     |mu1 - mu2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^(1/2).
 * With S = F^T F the last trace is the sum of singular values of F1 F2^T: no square root of a matrix, and nothing is lost where
 * a covariance is singular, which is where sqrtm and eigenvalue routes come out low. F is the samples when there are no more of
 * them than dimensions (centred; above EXACT_MOST dimensions their contrasts, which lack the direction that is always zero), else a
 * triangle (Householder, Cholesky), or from moments the scaled eigenvectors.
 * Up to EXACT_MOST dimensions everything is our own arithmetic in fixed order; above, LAPACK, and the result is inexact. There the
 * singular values are roots of the eigenvalues of the cross Gram's square, a quarter of the time, unless that loses digits. */
#include "base/lapack.h"       /* dgesdd, dpotrf, dsyevd, dgeqrf, dgemm, dsyrk, dtrmm */
#include "metrics/linalg.h"
#include "metrics/metrics.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EXACT_MOST = 256 };

/* Rows f[r][d] with f^T f = the covariance. */
typedef struct { int64_t n, r; double *mean, *f, trace; } factor;
static void factor_free(factor *f) { free(f->mean); free(f->f); }

static void centre(const double *x, int64_t n, int64_t d, factor *out, double *centred) {
    out->n = n;
    out->mean = lk_xcalloc((size_t)d, sizeof(double));
    for (int64_t i = 0; i < n; i++) for (int64_t j = 0; j < d; j++) out->mean[j] += x[i * d + j];
    for (int64_t j = 0; j < d; j++) out->mean[j] /= (double)n;
    double scale = 1 / sqrt((double)(n - 1));
    for (int64_t i = 0; i < n; i++) for (int64_t j = 0; j < d; j++) centred[i * d + j] = (x[i * d + j] - out->mean[j]) * scale;
    out->trace = lk_dot(centred, centred, n * d);
}
/* The triangle of QR by LAPACK, zeros below. */
static double *lapack_r(double *x, int64_t n, int64_t d) {
    double *r = lk_xcalloc((size_t)(d * d), sizeof *r), *tau = lk_xmalloc((size_t)d * sizeof *tau), *t = lk_xmalloc((size_t)(n * d) * sizeof *t);
    for (int64_t i = 0; i < n; i++) for (int64_t j = 0; j < d; j++) t[j * n + i] = x[i * d + j];
    lk_la()->dgeqrf(LAPACK_COL_MAJOR, (lapack_int)n, (lapack_int)d, t, (lapack_int)n, tau);
    for (int64_t i = 0; i < d; i++) for (int64_t j = i; j < d; j++) r[i * d + j] = t[j * n + i];
    free(t);
    free(tau);
    return r;
}
/* Upper triangle by Cholesky of the Gram matrix; NULL where it is not safely positive. */
static double *cholesky_r(const double *x, int64_t n, int64_t d) {
    double *s = lk_xcalloc((size_t)(d * d), sizeof *s), least = INFINITY, most = 0;
    lk_la()->dsyrk(CblasRowMajor, CblasUpper, CblasTrans, (int)d, (int)n, 1, x, (int)d, 0, s, (int)d);
    bool ok = lk_la()->dpotrf(LAPACK_ROW_MAJOR, 'U', (lapack_int)d, s, (lapack_int)d) == 0;
    for (int64_t i = 0; ok && i < d; i++) {
        least = fmin(least, s[i * d + i]);
        most = fmax(most, s[i * d + i]);
    }
    if (ok && least > 1e-4 * most) return s;
    free(s);
    return NULL;
}
/* n - 1 orthonormal contrasts (Helmert) of the rows of c, in place: the same c^T c without the direction in which centred rows vanish. */
static void contrasts(double *c, int64_t n, int64_t d) {
    double *sum = lk_xmalloc((size_t)d * sizeof *sum);
    memcpy(sum, c, (size_t)d * sizeof *sum);
    for (int64_t k = 1; k < n; k++) {
        double scale = 1 / sqrt((double)k * (double)(k + 1)), *row = c + k * d, *to = row - d;
        for (int64_t j = 0; j < d; j++) {
            double x = row[j];
            to[j] = (sum[j] - (double)k * x) * scale;
            sum[j] += x;
        }
    }
    free(sum);
}
static factor factor_of(const double *x, int64_t n, int64_t d) {
    factor f = { 0 };
    double *c = lk_xmalloc((size_t)(n * d) * sizeof *c);
    centre(x, n, d, &f, c);
    f.r = n < d ? n : d;
    if (n <= d) {
        if (d > EXACT_MOST) contrasts(c, n, d), f.r = n - 1;
        f.f = c;
        return f;
    }
    if (d <= EXACT_MOST) lk_householder_r(c, n, d, f.f = lk_xmalloc((size_t)(d * d) * sizeof *c));
    else if (!(f.f = cholesky_r(c, n, d))) f.f = lapack_r(c, n, d);
    free(c);
    return f;
}

/* ---- the cross term: sum of singular values of F1 F2^T --------------------------------------------------------------------- */
static double nuclear_exact(const factor *a, const factor *b, int64_t d) {
    if (a->r > b->r) { const factor *t = a; a = b; b = t; }
    double *g = lk_xmalloc((size_t)(a->r * b->r) * sizeof *g), *values = lk_xmalloc((size_t)a->r * sizeof *values);
    for (int64_t i = 0; i < a->r; i++) for (int64_t j = 0; j < b->r; j++) g[i * b->r + j] = lk_dot(a->f + i * d, b->f + j * d, d);
    lk_jacobi_singular(g, a->r, b->r, values);
    double sum = lk_sum(values, a->r);
    free(values);
    free(g);
    return sum;
}
/* Singular values as roots of the eigenvalues of g's smaller Gram matrix. A root's error is eps * largest / (2 root): false where their
 * sum may be off by more than 1e-12 of the distance, and by more than the singular values themselves would be. */
static bool roots_of_square(const double *g, int64_t rows, int64_t columns, double apart, double *sum) {
    int64_t r = rows < columns ? rows : columns;
    double *m = lk_xmalloc((size_t)(r * r + r) * sizeof *m), *w = m + r * r, slack = 0;      /* w: ascending */
    lk_la()->dsyrk(CblasRowMajor, CblasUpper, rows < columns ? CblasNoTrans : CblasTrans, (int)r, (int)(rows < columns ? columns : rows), 1, g, (int)columns, 0, m, (int)r);
    bool ok = lk_la()->dsyevd(LAPACK_COL_MAJOR, 'N', 'L', (lapack_int)r, m, (lapack_int)r, w) == 0;
    double largest = ok ? w[r - 1] : 0;
    for (int64_t i = 0; ok && i < r; i++) {
        ok = w[i] > 0;
        w[i] = ok ? sqrt(w[i]) : 0;
        slack += 1.1e-16 * largest / w[i];
    }
    *sum = lk_sum(w, r);
    double allowed = fmax(1e-12 * fabs(apart - 2 * *sum), 1e-15 * (double)r * sqrt(largest));
    free(m);
    return ok && slack <= allowed;
}
static lk_err nuclear_lapack(const factor *a, const factor *b, int64_t d, double apart /* the distance and twice the sum */, double *sum) {
    int64_t r = a->r < b->r ? a->r : b->r;
    double *g = lk_xmalloc((size_t)(a->r * b->r) * sizeof *g);
    lk_la()->dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)a->r, (int)b->r, (int)d, 1, a->f, (int)d, b->f, (int)d, 0, g, (int)b->r);
    lapack_int info = 0;
    if (!roots_of_square(g, a->r, b->r, apart, sum)) {
        double *values = lk_xmalloc((size_t)r * sizeof *values);
        info = lk_la()->dgesdd(LAPACK_COL_MAJOR, 'N', (lapack_int)b->r, (lapack_int)a->r, g, (lapack_int)b->r, values, NULL, 1, NULL, 1);
        *sum = lk_sum(values, r);
        free(values);
    }
    free(g);
    return info ? lk_error(LK_ENUM, "Frechet distance: singular values did not converge (dgesdd info %d)", (int)info) : LK_OK;
}
static int64_t rank_of(const factor *f, int64_t d) {
    double *c = lk_xmalloc((size_t)(f->r * d) * sizeof *c), *values = lk_xmalloc((size_t)f->r * sizeof *values), most = 0;
    int64_t rank = 0;
    memcpy(c, f->f, (size_t)(f->r * d) * sizeof *c);
    lk_jacobi_singular(c, f->r, d, values);
    for (int64_t i = 0; i < f->r; i++) most = values[i] > most ? values[i] : most;
    for (int64_t i = 0; i < f->r; i++) rank += values[i] > most * 1e-12;
    free(values);
    free(c);
    return rank;
}
static lk_err distance(const factor *a, const factor *b, int64_t d, lk_frechet *out) {
    out->d = d;
    out->exact = d <= EXACT_MOST;
    out->mean_term = lk_squared_distance(a->mean, b->mean, d);
    out->trace_term = a->trace + b->trace;
    if (out->exact) out->cross_term = nuclear_exact(a, b, d);
    else LK_TRY(nuclear_lapack(a, b, d, out->mean_term + out->trace_term, &out->cross_term));
    out->value = out->mean_term + out->trace_term - 2 * out->cross_term;
    return LK_OK;
}

/* ---- jackknife over groups i mod G, both sets at once -------------------------------------------------------------------------- */
static int64_t without(const double *x, int64_t n, int64_t d, int groups, int g, double *to) {
    int64_t k = 0;
    for (int64_t i = 0; i < n; i++) if (i % groups != g) memcpy(to + k++ * d, x + i * d, (size_t)d * sizeof *x);
    return k;
}
static lk_err jackknife(const double *x, int64_t nx, const double *y, int64_t ny, int64_t d, int groups, lk_frechet *out) {
    double *room = lk_xmalloc((size_t)((nx + ny) * d + groups) * sizeof *room), *rest = room + nx * d, *part = rest + ny * d, mean, squares = 0;
    lk_err e = LK_OK;
    for (int g = 0; g < groups && !e; g++) {
        lk_frechet f = { 0 };
        factor a = factor_of(room, without(x, nx, d, groups, g, room), d), b = factor_of(rest, without(y, ny, d, groups, g, rest), d);
        e = distance(&a, &b, d, &f);
        part[g] = f.value;
        factor_free(&a);
        factor_free(&b);
    }
    mean = lk_sum(part, groups) / groups;
    for (int g = 0; g < groups; g++) squares += (part[g] - mean) * (part[g] - mean);
    out->debiased = groups * out->value - (groups - 1) * mean;
    out->se = sqrt((groups - 1.0) / groups * squares);
    out->groups = groups;
    free(room);
    return e;
}

static lk_err check_set(const char *which, const double *x, int64_t n, int64_t d) {
    if (n < 2 || d < 1) return lk_error(LK_EINPUT, "Frechet distance: the %s set has %lld samples of %lld features; at least 2 samples", which, (long long)n, (long long)d);
    for (int64_t i = 0; i < n * d; i++)
        if (!isfinite(x[i])) return lk_error(LK_ENUM, "Frechet distance: sample %lld of the %s set has %g at feature %lld", (long long)(i / d), which, x[i], (long long)(i % d));
    return LK_OK;
}
static void warn(lk_frechet *f) {
    int64_t least = f->n[0] < f->n[1] ? f->n[0] : f->n[1];
    if (f->few)
        snprintf(f->warning, sizeof f->warning, "%lld samples for %lld dimensions: covariances of rank %lld and %lld; the value is biased upwards and comparable "
                 "only at equal n", (long long)least, (long long)f->d, (long long)f->rank[0], (long long)f->rank[1]);
    else if (f->rank[0] < f->d || f->rank[1] < f->d)
        snprintf(f->warning, sizeof f->warning, "singular covariance: rank %lld and %lld of %lld", (long long)f->rank[0], (long long)f->rank[1], (long long)f->d);
    else if (least < 10 * f->d)
        snprintf(f->warning, sizeof f->warning, "%lld samples for %lld dimensions: fewer than 10 a dimension, the bias is not negligible", (long long)least, (long long)f->d);
}
lk_err lk_frechet_features(const double *x, int64_t nx, const double *y, int64_t ny, int64_t d, int groups, lk_frechet *out) {
    LK_TRY(check_set("first", x, nx, d));
    LK_TRY(check_set("second", y, ny, d));
    if (groups && (groups < 2 || nx < 2 * groups || ny < 2 * groups))
        return lk_error(LK_EINPUT, "Frechet distance: a jackknife over %d groups needs at least %d samples in each set (%lld and %lld are given); ask for none",
                        groups, 2 * groups, (long long)nx, (long long)ny);
    if (d > EXACT_MOST) LK_TRY(lk_lapack_load());
    *out = (lk_frechet){ .debiased = NAN, .se = NAN, .n = { nx, ny }, .few = nx - 1 < d || ny - 1 < d };
    factor a = factor_of(x, nx, d), b = factor_of(y, ny, d);
    lk_err e = distance(&a, &b, d, out);
    for (int i = 0; i < 2; i++) {
        const factor *f = i ? &b : &a;
        out->rank[i] = out->exact ? rank_of(f, d) : f->n - 1 < d ? f->n - 1 : d;
    }
    factor_free(&a);
    factor_free(&b);
    if (!e && groups) e = jackknife(x, nx, y, ny, d, groups, out);
    warn(out);
    return e;
}

/* ---- from moments ------------------------------------------------------------------------------------------------------------------ */
/* Rows sqrt(eigenvalue) * eigenvector of a covariance. What is below rounding of the largest eigenvalue is zero: its root would be noise. */
static lk_err factor_of_moments(const char *which, const double *mean, const double *cov, int64_t d, factor *out) {
    double *a = lk_xmalloc((size_t)(2 * d * d + d) * sizeof *a), *v = a + d * d, *w = v + d * d, most = 0;
    for (int64_t i = 0; i < d; i++) for (int64_t j = 0; j < d; j++) a[i * d + j] = (cov[i * d + j] + cov[j * d + i]) / 2;
    *out = (factor){ 0, 0, lk_xmalloc((size_t)d * sizeof(double)), lk_xmalloc((size_t)(d * d) * sizeof(double)), 0 };
    memcpy(out->mean, mean, (size_t)d * sizeof *mean);
    for (int64_t i = 0; i < d; i++) out->trace += cov[i * d + i];
    if (d <= EXACT_MOST) lk_jacobi_symmetric(a, d, w, v);
    else {
        memcpy(v, a, (size_t)(d * d) * sizeof *a);
        if (lk_la()->dsyevd(LAPACK_COL_MAJOR, 'V', 'U', (lapack_int)d, v, (lapack_int)d, w)) {
            free(a);
            factor_free(out);
            return lk_error(LK_ENUM, "Frechet distance: eigenvalues of the %s covariance did not converge", which);
        }
    }
    for (int64_t i = 0; i < d; i++) most = fabs(w[i]) > most ? fabs(w[i]) : most;
    for (int64_t i = 0; i < d; i++) {
        if (!(w[i] > most * 1e-15 * 4)) continue;
        double root = sqrt(w[i]);
        for (int64_t j = 0; j < d; j++) out->f[out->r * d + j] = root * v[i * d + j];
        out->r++;
    }
    free(a);
    return LK_OK;
}
/* Both covariances positive: sum of roots of the eigenvalues of L1^T S2 L1. false where a Cholesky factor does not exist. */
static bool cross_by_cholesky(const double *c1, const double *c2, int64_t d, double *sum) {
    double *l = lk_xmalloc((size_t)(2 * d * d + d) * sizeof *l), *m = l + d * d, *w = m + d * d, least = INFINITY, most = 0;
    memcpy(l, c1, (size_t)(d * d) * sizeof *l);
    memcpy(m, c2, (size_t)(d * d) * sizeof *m);
    bool ok = lk_la()->dpotrf(LAPACK_ROW_MAJOR, 'U', (lapack_int)d, l, (lapack_int)d) == 0;
    if (ok) {
        lk_la()->dtrmm(CblasRowMajor, CblasLeft, CblasUpper, CblasNoTrans, CblasNonUnit, (int)d, (int)d, 1, l, (int)d, m, (int)d);
        lk_la()->dtrmm(CblasRowMajor, CblasRight, CblasUpper, CblasTrans, CblasNonUnit, (int)d, (int)d, 1, l, (int)d, m, (int)d);
        ok = lk_la()->dsyevd(LAPACK_ROW_MAJOR, 'N', 'U', (lapack_int)d, m, (lapack_int)d, w) == 0;
    }
    *sum = 0;
    for (int64_t i = 0; ok && i < d; i++) {
        least = fmin(least, w[i]);
        most = fmax(most, w[i]);
        *sum += sqrt(fmax(w[i], 0));
    }
    free(l);
    return ok && least > 1e-9 * most;
}
lk_err lk_frechet_moments(const double *mean1, const double *cov1, const double *mean2, const double *cov2, int64_t d, lk_frechet *out) {
    if (d < 1) return lk_error(LK_EINPUT, "Frechet distance: dimension %lld", (long long)d);
    for (int64_t i = 0; i < d * d; i++)
        if (!isfinite(cov1[i]) || !isfinite(cov2[i])) return lk_error(LK_ENUM, "Frechet distance: a covariance has a NaN or infinity at (%lld, %lld)", (long long)(i / d), (long long)(i % d));
    if (d > EXACT_MOST) LK_TRY(lk_lapack_load());
    *out = (lk_frechet){ .debiased = NAN, .se = NAN, .d = d };
    double sum;
    if (d > EXACT_MOST && cross_by_cholesky(cov1, cov2, d, &sum)) {
        out->mean_term = lk_squared_distance(mean1, mean2, d);
        for (int64_t i = 0; i < d; i++) out->trace_term += cov1[i * d + i] + cov2[i * d + i];
        out->cross_term = sum;
        out->value = out->mean_term + out->trace_term - 2 * sum;
        out->rank[0] = out->rank[1] = d;
        return LK_OK;
    }
    factor a, b;
    LK_TRY(factor_of_moments("first", mean1, cov1, d, &a));
    lk_err e = factor_of_moments("second", mean2, cov2, d, &b);
    if (e) { factor_free(&a); return e; }
    e = distance(&a, &b, d, out);
    out->rank[0] = a.r;
    out->rank[1] = b.r;
    if (a.r < d || b.r < d) snprintf(out->warning, sizeof out->warning, "singular covariance: rank %lld and %lld of %lld", (long long)a.r, (long long)b.r, (long long)d);
    factor_free(&a);
    factor_free(&b);
    return e;
}
