/* Dense algebra in fixed order (linalg.h). Jacobi methods rather than faster ones: every sum has one order, small singular
 * values keep their relative accuracy (Demmel & Veselic 1992), and up to 256 dimensions the time is a fraction of a second. */
#include "metrics/linalg.h"
#include "base/base.h"      /* lk_xmalloc */
#include <stdlib.h>         /* free */
#include <string.h>         /* memcpy */

enum { SWEEPS = 60 };

static double fold8(double l[8]) {
    for (int i = 0; i < 4; i++) l[i] += l[i + 4];
    for (int i = 0; i < 2; i++) l[i] += l[i + 2];
    return l[0] + l[1];
}
double lk_dot(const double *a, const double *b, int64_t n) {
    double l[8] = { 0 };
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) for (int k = 0; k < 8; k++) l[k] += a[i + k] * b[i + k];
    for (; i < n; i++) l[i & 7] += a[i] * b[i];
    return fold8(l);
}
double lk_sum(const double *a, int64_t n) {
    double l[8] = { 0 };
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) for (int k = 0; k < 8; k++) l[k] += a[i + k];
    for (; i < n; i++) l[i & 7] += a[i];
    return fold8(l);
}
double lk_squared_distance(const double *a, const double *b, int64_t n) {
    double l[8] = { 0 };
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) for (int k = 0; k < 8; k++) { double e = a[i + k] - b[i + k]; l[k] += e * e; }
    for (; i < n; i++) { double e = a[i] - b[i]; l[i & 7] += e * e; }
    return fold8(l);
}

/* The rotation that annuls `off` between diagonal entries alpha and beta: tangent of the smaller angle. */
static void rotation(double alpha, double beta, double off, double *c, double *s, double *t) {
    double zeta = (beta - alpha) / (2 * off), a = __builtin_fabs(zeta);
    *t = (zeta < 0 ? -1.0 : 1.0) / (a + __builtin_sqrt(1 + zeta * zeta));
    *c = 1 / __builtin_sqrt(1 + *t * *t);
    *s = *c * *t;
}
static void rotate(double *x, double *y, int64_t n, double c, double s) {
    for (int64_t i = 0; i < n; i++) {
        double u = x[i], v = y[i];
        x[i] = c * u - s * v;
        y[i] = s * u + c * v;
    }
}

void lk_jacobi_singular(double *a, int64_t rows, int64_t n, double *values) {
    /* Rows are turned in pairs until all are orthogonal (cosine below 1e-13: the error in a singular value is its square).
     * A pair whose product is beyond rounding of the whole matrix is left alone, or noise rows would turn for ever. */
    double total = 0;
    for (int64_t i = 0; i < rows; i++) total += lk_dot(a + i * n, a + i * n, n);
    double floor2 = total * 1e-34;
    for (int sweep = 0; sweep < SWEEPS; sweep++) {
        int64_t turned = 0;
        for (int64_t i = 0; i < rows; i++) values[i] = lk_dot(a + i * n, a + i * n, n);
        for (int64_t p = 0; p < rows; p++) for (int64_t q = p + 1; q < rows; q++) {
            if (!(values[p] > floor2 || values[q] > floor2) || values[p] == 0 || values[q] == 0) continue;
            double off = lk_dot(a + p * n, a + q * n, n), c, s, t;
            if (off * off <= 1e-26 * values[p] * values[q]) continue;
            rotation(values[p], values[q], off, &c, &s, &t);
            rotate(a + p * n, a + q * n, n, c, s);
            values[p] = lk_dot(a + p * n, a + p * n, n);
            values[q] = lk_dot(a + q * n, a + q * n, n);
            turned++;
        }
        if (!turned) break;
    }
    for (int64_t i = 0; i < rows; i++) values[i] = __builtin_sqrt(lk_dot(a + i * n, a + i * n, n));
}

void lk_jacobi_symmetric(double *a, int64_t n, double *values, double *v) {
    if (v) for (int64_t i = 0; i < n; i++) for (int64_t j = 0; j < n; j++) v[i * n + j] = i == j;
    double norm2 = lk_dot(a, a, n * n);
    for (int sweep = 0; sweep < SWEEPS; sweep++) {
        int64_t turned = 0;
        for (int64_t p = 0; p < n; p++) for (int64_t q = p + 1; q < n; q++) {
            double off = a[p * n + q], c, s, t;
            if (off * off <= 1e-36 * norm2) continue;
            rotation(a[p * n + p], a[q * n + q], off, &c, &s, &t);
            rotate(a + p * n, a + q * n, n, c, s);
            for (int64_t i = 0; i < n; i++) {
                double x = a[i * n + p], y = a[i * n + q];
                a[i * n + p] = c * x - s * y;
                a[i * n + q] = s * x + c * y;
            }
            a[p * n + q] = a[q * n + p] = 0;
            if (v) rotate(v + p * n, v + q * n, n, c, s);
            turned++;
        }
        if (!turned) break;
    }
    for (int64_t i = 0; i < n; i++) values[i] = a[i * n + i];
}

void lk_householder_r(const double *x, int64_t n, int64_t d, double *r) {
    double *column = lk_xmalloc((size_t)(n * d) * sizeof *column);
    for (int64_t j = 0; j < d; j++) for (int64_t i = 0; i < n; i++) column[j * n + i] = x[i * d + j];
    memset(r, 0, (size_t)(d * d) * sizeof *r);
    for (int64_t k = 0; k < d; k++) {
        double *v = column + k * n + k;
        int64_t m = n - k;
        double norm = __builtin_sqrt(lk_dot(v, v, m)), alpha = v[0] > 0 ? -norm : norm;
        r[k * d + k] = alpha;
        if (norm == 0) {
            for (int64_t j = k + 1; j < d; j++) r[k * d + j] = column[j * n + k];
            continue;
        }
        v[0] -= alpha;
        double half = lk_dot(v, v, m) / 2;
        for (int64_t j = k + 1; j < d; j++) {
            double *y = column + j * n + k, f = lk_dot(v, y, m) / half;
            for (int64_t i = 0; i < m; i++) y[i] -= f * v[i];
            r[k * d + j] = y[0];
        }
    }
    free(column);
}
