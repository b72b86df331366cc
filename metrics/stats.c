/* Intervals, paired differences, clusters, correlations, ICC, bootstrap. The distributions are distributions.c's; whatever used a quantile or a tail is inexact (numerics.md rule 9). Means and sums run in fixed order.
 * Undefined is an error or NaN, never a number: one observation has no interval, equal values no correlation. */
#include "metrics/linalg.h"      /* sums in fixed order */
#include "metrics/metrics.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static lk_err all_finite(const char *what, const double *x, int64_t n, int64_t least) {
    if (n < least) return lk_error(LK_EINPUT, "%s: %lld values, at least %lld are needed", what, (long long)n, (long long)least);
    for (int64_t i = 0; i < n; i++)
        if (!isfinite(x[i])) return lk_error(LK_ENUM, "%s: value %lld is %g; drop it and say so, or report it as a failure", what, (long long)i, x[i]);
    return LK_OK;
}
static lk_err level_ok(double level) {
    return level > 0 && level < 1 ? LK_OK : lk_error(LK_EINPUT, "confidence level %g: between 0 and 1, for example 0.95", level);
}
static double mean_of(const double *x, int64_t n) { return lk_sum(x, n) / (double)n; }
static double centred_squares(const double *x, int64_t n, double mean) {
    double s = 0;
    for (int64_t i = 0; i < n; i++) s += (x[i] - mean) * (x[i] - mean);
    return s;
}
static void interval_from(lk_interval *v, double level) {
    double half = lk_t_quantile(.5 + level / 2, v->df) * v->se;
    v->lo = v->mean - half;
    v->hi = v->mean + half;
}

lk_err lk_mean_t(const double *x, int64_t n, double level, lk_interval *out) {
    LK_TRY(level_ok(level));
    LK_TRY(all_finite("mean with t interval", x, n, 2));
    double m = mean_of(x, n), sd = sqrt(centred_squares(x, n, m) / (double)(n - 1));
    *out = (lk_interval){ n, m, sd, sd / sqrt((double)n), (double)(n - 1), 0, 0 };
    interval_from(out, level);
    return LK_OK;
}

lk_err lk_paired_t(const double *x, const double *y, int64_t n, double level, lk_paired *out) {
    LK_TRY(all_finite("paired differences, first arm", x, n, 2));
    LK_TRY(all_finite("paired differences, second arm", y, n, 2));
    double *d = lk_xmalloc((size_t)n * sizeof *d);
    for (int64_t i = 0; i < n; i++) d[i] = x[i] - y[i];
    lk_err e = lk_mean_t(d, n, level, &out->diff);
    free(d);
    LK_TRY(e);
    double vx = centred_squares(x, n, mean_of(x, n)) / (double)(n - 1), vy = centred_squares(y, n, mean_of(y, n)) / (double)(n - 1);
    out->t = out->diff.mean / out->diff.se;
    out->p = 2 * lk_t_upper(fabs(out->t), out->diff.df);
    out->d_z = out->diff.mean / out->diff.sd;
    out->d_av = out->diff.mean / sqrt((vx + vy) / 2);
    return LK_OK;
}

/* ---- clusters ------------------------------------------------------------------------------------------------------------ */
typedef struct { int64_t label, n; double sum; } group;
/* One entry a label, in order of first appearance. */
static int64_t group_by(const double *x, const int64_t *cluster, int64_t n, group *out) {
    int64_t g = 0;
    for (int64_t i = 0; i < n; i++) {
        int64_t k = 0;
        while (k < g && out[k].label != cluster[i]) k++;
        if (k == g) out[g++] = (group){ cluster[i], 0, 0 };
        out[k].n++;
        out[k].sum += x[i];
    }
    return g;
}
static lk_err clusters(const double *x, const int64_t *cluster, int64_t n, double level, group **out, int64_t *g) {
    LK_TRY(level_ok(level));
    LK_TRY(all_finite("clustered mean", x, n, 2));
    *out = lk_xmalloc((size_t)n * sizeof **out);
    *g = group_by(x, cluster, n, *out);
    if (*g >= 2) return LK_OK;
    free(*out);
    return lk_error(LK_EINPUT, "clustered mean: all %lld values are of one cluster; at least two are needed", (long long)n);
}
lk_err lk_cluster_t(const double *x, const int64_t *cluster, int64_t n, double level, lk_interval *out) {
    group *g;
    int64_t count;
    LK_TRY(clusters(x, cluster, n, level, &g, &count));
    double *means = lk_xmalloc((size_t)count * sizeof *means);
    for (int64_t k = 0; k < count; k++) means[k] = g[k].sum / (double)g[k].n;
    lk_err e = lk_mean_t(means, count, level, out);
    free(means);
    free(g);
    return e;
}
lk_err lk_cluster_cr1(const double *x, const int64_t *cluster, int64_t n, double level, lk_interval *out) {
    group *g;
    int64_t count;
    LK_TRY(clusters(x, cluster, n, level, &g, &count));
    double m = mean_of(x, n), s = 0;
    for (int64_t k = 0; k < count; k++) {
        double residual = g[k].sum - m * (double)g[k].n;
        s += residual * residual;
    }
    free(g);
    *out = (lk_interval){ n, m, sqrt(centred_squares(x, n, m) / (double)(n - 1)),
                          sqrt((double)count / (double)(count - 1) * s) / (double)n, (double)(count - 1), 0, 0 };
    interval_from(out, level);
    return LK_OK;
}

/* ---- correlations ----------------------------------------------------------------------------------------------------------- */
lk_err lk_pearson(const double *a, const double *b, int64_t n, lk_correlation *out) {
    LK_TRY(all_finite("correlation, first variable", a, n, 3));
    LK_TRY(all_finite("correlation, second variable", b, n, 3));
    double ma = mean_of(a, n), mb = mean_of(b, n), sab = 0;
    double saa = centred_squares(a, n, ma), sbb = centred_squares(b, n, mb);
    for (int64_t i = 0; i < n; i++) sab += (a[i] - ma) * (b[i] - mb);
    if (!(saa > 0) || !(sbb > 0)) return lk_error(LK_ENUM, "correlation: the %s variable is constant", saa > 0 ? "second" : "first");
    double r = fmax(-1, fmin(1, sab / (sqrt(saa) * sqrt(sbb)))), df = (double)(n - 2);
    double half = n > 3 ? lk_normal_quantile(.975) / sqrt((double)(n - 3)) : INFINITY;
    out->n = n;
    out->r = r;
    out->p = fabs(r) == 1 ? 0 : 2 * lk_t_upper(fabs(r) * sqrt(df / ((1 - r) * (1 + r))), df);
    out->lo = tanh(atanh(r) - half);
    out->hi = tanh(atanh(r) + half);
    return LK_OK;
}
typedef struct { double value; int64_t at; } placed;
static int by_place(const void *a, const void *b) {
    const placed *x = a, *y = b;
    return x->value < y->value ? -1 : x->value > y->value ? 1 : (x->at > y->at) - (x->at < y->at);
}
static void average_ranks(const double *x, int64_t n, double *rank) {
    placed *order = lk_xmalloc((size_t)n * sizeof *order);
    for (int64_t i = 0; i < n; i++) order[i] = (placed){ x[i], i };
    qsort(order, (size_t)n, sizeof *order, by_place);
    for (int64_t i = 0, j; i < n; i = j) {
        for (j = i; j < n && order[j].value == order[i].value; ) j++;
        for (int64_t k = i; k < j; k++) rank[order[k].at] = (double)(i + 1 + j) / 2;
    }
    free(order);
}
lk_err lk_spearman(const double *a, const double *b, int64_t n, lk_correlation *out) {
    LK_TRY(all_finite("rank correlation, first variable", a, n, 3));
    LK_TRY(all_finite("rank correlation, second variable", b, n, 3));
    double *r = lk_xmalloc((size_t)(2 * n) * sizeof *r);
    average_ranks(a, n, r);
    average_ranks(b, n, r + n);
    lk_err e = lk_pearson(r, r + n, n, out);
    free(r);
    if (!e) out->lo = out->hi = NAN;
    return e;
}
lk_err lk_kendall_tau_b(const double *a, const double *b, int64_t n, double *tau) {
    LK_TRY(all_finite("Kendall's tau, first variable", a, n, 2));
    LK_TRY(all_finite("Kendall's tau, second variable", b, n, 2));
    double score = 0, untied_a = 0, untied_b = 0;
    for (int64_t i = 0; i < n; i++) for (int64_t j = i + 1; j < n; j++) {
        int sa = (a[i] > a[j]) - (a[i] < a[j]), sb = (b[i] > b[j]) - (b[i] < b[j]);
        score += sa * sb;
        untied_a += sa != 0;
        untied_b += sb != 0;
    }
    if (untied_a == 0 || untied_b == 0) return lk_error(LK_ENUM, "Kendall's tau: a variable is constant");
    *tau = score / sqrt(untied_a) / sqrt(untied_b);
    return LK_OK;
}

/* ---- intraclass correlation ---------------------------------------------------------------------------------------------------- */
static void anova(const double *x, double n, double k, lk_icc_table *t) {
    double grand = lk_sum(x, (int64_t)(n * k)) / (n * k), rows = 0, columns = 0, total = 0;
    for (int64_t i = 0; i < (int64_t)n; i++) {
        double m = lk_sum(x + i * (int64_t)k, (int64_t)k) / k;
        rows += (m - grand) * (m - grand);
    }
    for (int64_t j = 0; j < (int64_t)k; j++) {
        double m = 0;
        for (int64_t i = 0; i < (int64_t)n; i++) m += x[i * (int64_t)k + j];
        columns += (m / n - grand) * (m / n - grand);
    }
    for (int64_t i = 0; i < (int64_t)(n * k); i++) total += (x[i] - grand) * (x[i] - grand);
    t->ms_rows = k * rows / (n - 1);
    t->ms_columns = n * columns / (k - 1);
    t->ms_within = (total - k * rows) / (n * (k - 1));
    t->ms_error = (total - k * rows - n * columns) / ((n - 1) * (k - 1));
}
lk_err lk_icc(const double *x, int64_t targets, int64_t raters, double level, lk_icc_table *t) {
    LK_TRY(level_ok(level));
    if (targets < 2 || raters < 2)
        return lk_error(LK_EINPUT, "ICC: %lld targets by %lld raters; at least 2 by 2", (long long)targets, (long long)raters);
    LK_TRY(all_finite("ICC", x, targets * raters, 4));
    double n = (double)targets, k = (double)raters, q = .5 + level / 2;
    anova(x, n, k, t);
    double R = t->ms_rows, C = t->ms_columns, E = t->ms_error, W = t->ms_within;
    if (!(R > 0) || !(E > 0)) return lk_error(LK_ENUM, "ICC: no variation %s", R > 0 ? "within targets" : "between targets");
    double df1 = n - 1, df_w = n * (k - 1), df_e = (n - 1) * (k - 1), f1 = R / W, f3 = R / E;
    t->row[0] = (lk_icc_row){ (R - W) / (R + (k - 1) * W), f1, df1, df_w, lk_f_upper(f1, df1, df_w), 0, 0 };
    t->row[1] = (lk_icc_row){ (R - E) / (R + (k - 1) * E + k * (C - E) / n), f3, df1, df_e, lk_f_upper(f3, df1, df_e), 0, 0 };
    t->row[2] = (lk_icc_row){ (R - E) / (R + (k - 1) * E), f3, df1, df_e, t->row[1].p, 0, 0 };
    for (int i = 0; i < 3; i++) t->row[3 + i] = t->row[i];
    t->row[3].icc = (R - W) / R;
    t->row[4].icc = (R - E) / (R + (C - E) / n);
    t->row[5].icc = (R - E) / R;
    for (int i = 0; i < 3; i += 2) {                     /* one-way and consistency: F intervals */
        double df2 = i ? df_e : df_w, f = i ? f3 : f1;
        double lo = f / lk_f_quantile(q, df1, df2), hi = f * lk_f_quantile(q, df2, df1);
        t->row[i].lo = (lo - 1) / (lo + k - 1);
        t->row[i].hi = (hi - 1) / (hi + k - 1);
        t->row[3 + i].lo = 1 - 1 / lo;
        t->row[3 + i].hi = 1 - 1 / hi;
    }
    double icc = t->row[1].icc, fj = C / E, a = n * (1 + (k - 1) * icc) - k * icc;   /* agreement: Satterthwaite's degrees */
    double v = df_e * (k * icc * fj + a) * (k * icc * fj + a) / (df1 * k * k * icc * icc * fj * fj + a * a);
    double fu = lk_f_quantile(q, df1, v), fl = lk_f_quantile(q, v, df1);
    t->satterthwaite_df = v;
    t->row[1].lo = n * (R - fu * E) / (fu * (k * C + (k * n - k - n) * E) + n * R);
    t->row[1].hi = n * (fl * R - E) / (k * C + (k * n - k - n) * E + n * fl * R);
    t->row[4].lo = t->row[1].lo * k / (1 + t->row[1].lo * (k - 1));
    t->row[4].hi = t->row[1].hi * k / (1 + t->row[1].hi * (k - 1));
    return LK_OK;
}

/* ---- bootstrap -------------------------------------------------------------------------------------------------------------------- */
static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}
static double acceleration(const double *x, int64_t n, lk_statistic f, void *ctx, double *room) {
    double *jack = room, *rest = room + n, mean, cubes = 0, squares = 0;
    for (int64_t i = 0; i < n; i++) {
        memcpy(rest, x, (size_t)i * sizeof *x);
        memcpy(rest + i, x + i + 1, (size_t)(n - 1 - i) * sizeof *x);
        jack[i] = f(rest, n - 1, ctx);
    }
    mean = mean_of(jack, n);
    for (int64_t i = 0; i < n; i++) {
        double e = mean - jack[i];
        squares += e * e;
        cubes += e * e * e;
    }
    return squares == 0 ? 0 : cubes / (6 * pow(squares, 1.5));
}
lk_err lk_bca(const double *x, int64_t n, lk_statistic f, void *ctx, double level, int resamples, uint64_t seed, double *lo, double *hi) {
    LK_TRY(level_ok(level));
    if (n < 20) return lk_error(LK_EINPUT, "BCa bootstrap: n = %lld; below 20 its coverage is poor, use the t interval", (long long)n);
    LK_TRY(all_finite("BCa bootstrap", x, n, 20));
    if (resamples < 999) return lk_error(LK_EINPUT, "BCa bootstrap: %d resamples, at least 999", resamples);
    double *room = lk_xmalloc((size_t)(2 * n + resamples) * sizeof *room), *boot = room + 2 * n, below = 0, at = f(x, n, ctx);
    uint64_t key = lk_stream_key(seed, "bca");
    double a = acceleration(x, n, f, ctx, room);
    int64_t undefined = !isfinite(at) || !isfinite(a);
    for (int b = 0; b < resamples; b++) {
        for (int64_t i = 0; i < n; i++) room[i] = x[lk_philox_below(key, (uint64_t)b, 0, (uint64_t)i, (uint32_t)n)];
        boot[b] = f(room, n, ctx);
        undefined += !isfinite(boot[b]);
        below += boot[b] < at ? 1 : boot[b] == at ? .5 : 0;
    }
    if (undefined) {
        free(room);
        return lk_error(LK_ENUM, "BCa bootstrap: the statistic is not a number on the sample or on %lld of %d resamples; it has no interval of this kind", (long long)undefined, resamples);
    }
    qsort(boot, (size_t)resamples, sizeof *boot, by_value);
    double z0 = lk_normal_quantile(fmin(fmax(below, .5), resamples - .5) / resamples), ends[2];
    for (int i = 0; i < 2; i++) {
        double z = z0 + lk_normal_quantile(i ? .5 + level / 2 : .5 - level / 2);
        double p = 1 - lk_normal_upper(z0 + z / (1 - a * z));
        int64_t k = (int64_t)floor(p * (resamples + 1)) - 1;
        ends[i] = boot[k < 0 ? 0 : k >= resamples ? resamples - 1 : k];
    }
    free(room);
    *lo = ends[0];
    *hi = ends[1];
    return LK_OK;
}
