/* Tests that enumerate, and corrections for families of tests. Arithmetic alone: no libm, no GSL, so what they give may be
 * in a digest (the normal tail of Wilcoxon's approximation apart, which is inexact). */
#include "metrics/linalg.h"
#include "metrics/metrics.h"
#include <math.h>           /* isfinite */
#include <stdlib.h>
#include <string.h>

enum { FLIP_MOST = 20 };

/* Sums over all sign patterns of n values, pattern bit i set = minus. */
static double *signed_sums(const double *d, int n) {
    double *s = lk_xmalloc(((size_t)1 << n) * sizeof *s);
    for (uint32_t k = 0; k < 1u << n; k++) {
        double t = 0;
        for (int i = 0; i < n; i++) t += k >> i & 1 ? -d[i] : d[i];
        s[k] = t;
    }
    return s;
}
lk_err lk_sign_flip(const double *d, int64_t n, lk_sign_flips *out) {
    if (n < 1 || n > FLIP_MOST)
        return lk_error(LK_EINPUT, "sign-flip test: %lld differences; 1 to %d are enumerated exactly", (long long)n, FLIP_MOST);
    double total = 0;
    for (int64_t i = 0; i < n; i++) {
        if (!isfinite(d[i])) return lk_error(LK_ENUM, "sign-flip test: difference %lld is %g", (long long)i, d[i]);
        total += __builtin_fabs(d[i]);
    }
    int low = (int)n / 2, high = (int)n - low;
    double *a = signed_sums(d, low), *b = signed_sums(d + low, high), tie = total * 0x1p-40, observed = a[0] + b[0], size = __builtin_fabs(observed);
    uint64_t greater = 0, outside = 0;
    for (uint32_t j = 0; j < 1u << high; j++) for (uint32_t i = 0; i < 1u << low; i++) {
        double s = a[i] + b[j];
        greater += s >= observed - tie;
        outside += __builtin_fabs(s) >= size - tie;
    }
    free(a);
    free(b);
    double patterns = (double)((uint64_t)1 << n);
    *out = (lk_sign_flips){ n, (uint64_t)1 << n, greater, outside, (double)greater / patterns, (double)outside / patterns, 2 / patterns };
    return LK_OK;
}
lk_err lk_sign_flip_reaches(int64_t n, double alpha) {
    int64_t need = 1;
    double least = 1;
    for (; least >= alpha && need < 1000; need++) least /= 2;
    if (!(alpha > 0)) return lk_error(LK_EINPUT, "sign-flip test: alpha = %g, must be positive", alpha);
    if (n >= need) return LK_OK;
    return lk_error(LK_EINPUT, "sign-flip test: %lld units cannot reach p < %g (the least two-sided p is 2^(1-n)); at least %lld are needed",
                    (long long)n, alpha, (long long)need);
}

/* ---- Wilcoxon's signed ranks ------------------------------------------------------------------------------------------------ */
typedef struct { double size; int sign; } signed_difference;
static int by_size(const void *a, const void *b) {
    double x = ((const signed_difference *)a)->size, y = ((const signed_difference *)b)->size;
    return (x > y) - (x < y);
}
/* P(R <= r) under the null for n untied ranks: counts of subsets of 1..n by their sum. */
static double rank_sum_lower(int n, double r) {
    int most = n * (n + 1) / 2;
    double *ways = lk_xcalloc((size_t)most + 1, sizeof *ways), p = 0, all = 1;
    ways[0] = 1;
    for (int k = 1; k <= n; k++, all *= 2) for (int s = most; s >= k; s--) ways[s] += ways[s - k];
    for (int s = 0; s <= most && s <= r; s++) p += ways[s];
    free(ways);
    return p / all;
}
lk_err lk_wilcoxon(const double *x, const double *y, int64_t n, lk_signed_ranks *out) {
    signed_difference *d = lk_xmalloc((size_t)(n > 0 ? n : 1) * sizeof *d);
    int64_t m = 0;
    bool zeros = false, ties = false;
    for (int64_t i = 0; i < n; i++) {
        double e = x[i] - y[i];
        if (!isfinite(e)) { free(d); return lk_error(LK_ENUM, "Wilcoxon: difference %lld is %g", (long long)i, e); }
        if (e == 0) zeros = true; else d[m++] = (signed_difference){ __builtin_fabs(e), e > 0 ? 1 : -1 };
    }
    if (m == 0) { free(d); return lk_error(LK_ENUM, "Wilcoxon: every difference is zero"); }
    qsort(d, (size_t)m, sizeof *d, by_size);
    double plus = 0, minus = 0, tie_term = 0;
    for (int64_t i = 0, j; i < m; i = j) {
        for (j = i; j < m && d[j].size == d[i].size; ) j++;
        double rank = (double)(i + 1 + j) / 2, t = (double)(j - i);
        ties |= j - i > 1;
        tie_term += t * t * t - t;
        for (int64_t k = i; k < j; k++) *(d[k].sign > 0 ? &plus : &minus) += rank;
    }
    free(d);
    double least = plus < minus ? plus : minus, c = (double)m, p;
    out->statistic = least;
    out->exact = !zeros && !ties && m <= 50;
    if (out->exact) p = 2 * rank_sum_lower((int)m, least);
    else p = 2 * lk_normal_upper((c * (c + 1) / 4 - least) / __builtin_sqrt((c * (c + 1) * (2 * c + 1) - tie_term / 2) / 24));
    out->p = p > 1 ? 1 : p;
    return LK_OK;
}

/* ---- families ------------------------------------------------------------------------------------------------------------------- */
typedef struct { double p; int at; } ordered;
static int by_p(const void *a, const void *b) {
    const ordered *x = a, *y = b;
    return x->p < y->p ? -1 : x->p > y->p ? 1 : x->at - y->at;
}
static ordered *sorted(const double *p, int n) {
    ordered *o = lk_xmalloc((size_t)(n > 0 ? n : 1) * sizeof *o);
    for (int i = 0; i < n; i++) o[i] = (ordered){ p[i], i };
    qsort(o, (size_t)n, sizeof *o, by_p);
    return o;
}
static double at_most_1(double p) { return p > 1 ? 1 : p; }
void lk_bonferroni(const double *p, int n, double *out) {
    for (int i = 0; i < n; i++) out[i] = at_most_1(p[i] * n);
}
void lk_holm(const double *p, int n, double *out) {              /* Holm 1979: step down */
    ordered *o = sorted(p, n);
    double most = 0;
    for (int i = 0; i < n; i++) {
        double v = o[i].p * (n - i);
        most = v > most ? v : most;
        out[o[i].at] = at_most_1(most);
    }
    free(o);
}
void lk_benjamini_hochberg(const double *p, int n, double *out) { /* Benjamini & Hochberg 1995: step up */
    ordered *o = sorted(p, n);
    double least = 1;
    for (int i = n - 1; i >= 0; i--) {
        double v = o[i].p * n / (i + 1);
        least = v < least ? v : least;
        out[o[i].at] = least;
    }
    free(o);
}
void lk_hommel(const double *p, int n, double *out) {            /* Hommel 1988 by Wright's (1992) algorithm */
    ordered *o = sorted(p, n);
    double *a = lk_xmalloc((size_t)(n > 0 ? n : 1) * sizeof *a);
    for (int i = 0; i < n; i++) a[i] = o[i].p;
    for (int m = n; m > 1; m--) {
        double least = INFINITY;
        for (int j = 0; j < m; j++) {
            double v = m * o[n - m + j].p / (j + 1);
            least = v < least ? v : least;
        }
        for (int i = n - m; i < n; i++) a[i] = a[i] > least ? a[i] : least;
        for (int i = 0; i < n - m; i++) {
            double v = m * o[i].p < least ? m * o[i].p : least;
            a[i] = a[i] > v ? a[i] : v;
        }
    }
    for (int i = 0; i < n; i++) out[o[i].at] = at_most_1(a[i]);
    free(a);
    free(o);
}
