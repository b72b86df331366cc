/* Precision, recall, density, coverage; Vendi score; Inception Score. Counts are exact: squared distances are compared, and a tie
 * falls as the named implementation lets it fall. */
#include "metrics/linalg.h"
#include "metrics/metrics.h"
#include "base/exact_math.h"     /* lk_exp_d, lk_log_d, lk_pow_d */
#include <math.h>
#include <stdlib.h>
#include <string.h>

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}
/* Squared distance of each sample to its k-th nearest other. */
typedef struct { const double *x; int64_t n, d; int k; double *r; } radii_job;
static void radii_rows(void *ctx, int64_t begin, int64_t end, int thread) {
    const radii_job *p = ctx;
    double *row = lk_xmalloc((size_t)p->n * sizeof *row);
    (void)thread;
    for (int64_t i = begin; i < end; i++) {
        int64_t m = 0;
        for (int64_t j = 0; j < p->n; j++) if (j != i) row[m++] = lk_squared_distance(p->x + i * p->d, p->x + j * p->d, p->d);
        qsort(row, (size_t)m, sizeof *row, by_value);
        p->r[i] = row[p->k - 1];
    }
    free(row);
}
static double *radii(const double *x, int64_t n, int64_t d, int k, lk_pool *pool) {
    radii_job p = { x, n, d, k, lk_xmalloc((size_t)n * sizeof(double)) };
    lk_parallel(pool, n, 8, radii_rows, &p);
    return p.r;
}
/* Real samples against generated ones. Threads share fake_in alone, and only ever set it. */
typedef struct {
    const double *real, *fake, *rr, *rf; int64_t nf, d; bool strict;
    bool *fake_in, *real_in, *covered, *bad; int64_t *pairs;
} compare_job;
static void compare_rows(void *ctx, int64_t begin, int64_t end, int thread) {
    const compare_job *p = ctx;
    (void)thread;
    for (int64_t i = begin; i < end; i++) for (int64_t j = 0; j < p->nf; j++) {
        double s = lk_squared_distance(p->real + i * p->d, p->fake + j * p->d, p->d);
        bool in_real = p->strict ? s < p->rr[i] : s <= p->rr[i], in_fake = p->strict ? s < p->rf[j] : s <= p->rf[j];
        p->bad[i] |= !isfinite(s);
        p->pairs[i] += in_real;
        p->covered[i] |= in_real;
        p->real_in[i] |= in_fake;
        if (in_real) __atomic_store_n(p->fake_in + j, true, __ATOMIC_RELAXED);
    }
}
lk_err lk_prdc_of(const double *real, int64_t nr, const double *fake, int64_t nf, int64_t d, int k, bool strict, lk_pool *pool, lk_prdc *out) {
    if (d < 1 || k < 1 || nr <= k || nf <= k)
        return lk_error(LK_EINPUT, "precision and recall: %lld real and %lld generated samples with k = %d; each set needs more than k", (long long)nr, (long long)nf, k);
    double *rr = radii(real, nr, d, k, pool), *rf = radii(fake, nf, d, k, pool);
    bool *fake_in = lk_xcalloc((size_t)nf, 1), *real_in = lk_xcalloc((size_t)(3 * nr), 1), *covered = real_in + nr, *wrong = covered + nr, bad = false;
    int64_t *pairs = lk_xcalloc((size_t)nr, sizeof *pairs);
    compare_job p = { real, fake, rr, rf, nf, d, strict, fake_in, real_in, covered, wrong, pairs };
    lk_parallel(pool, nr, 8, compare_rows, &p);
    *out = (lk_prdc){ 0 };
    for (int64_t j = 0; j < nf; j++) out->fake_in_real += fake_in[j];
    for (int64_t i = 0; i < nr; i++) {
        out->real_in_fake += real_in[i];
        out->real_with_fake += covered[i];
        out->pairs += pairs[i];
        bad |= wrong[i];
    }
    free(rr);
    free(rf);
    free(fake_in);
    free(real_in);
    free(pairs);
    out->precision = (double)out->fake_in_real / (double)nf;
    out->recall = (double)out->real_in_fake / (double)nr;
    out->density = (double)out->pairs / ((double)k * (double)nf);
    out->coverage = (double)out->real_with_fake / (double)nr;
    double s = out->precision + out->recall;
    out->f_score = s > 0 ? 2 * out->precision * out->recall / s : 0;
    return bad ? lk_error(LK_ENUM, "precision and recall: a feature is NaN or infinite") : LK_OK;
}

/* ---- Vendi ------------------------------------------------------------------------------------------------------------------------ */
/* exp of Renyi's entropy of order q of eigenvalues w (summing to one); what is below 1e-12 is rounding of a zero. */
static double effective_number(const double *w, int64_t n, double q) {
    double s = 0, most = 0;
    for (int64_t i = 0; i < n; i++) {
        if (!(w[i] > 1e-12)) continue;
        most = w[i] > most ? w[i] : most;
        if (q == 1) s -= w[i] * lk_log_d(w[i]);
        else if (!isinf(q)) s += lk_pow_d(w[i], q);
    }
    return q == 1 ? lk_exp_d(s) : isinf(q) ? 1 / most : lk_exp_d(lk_log_d(s) / (1 - q));
}
lk_err lk_vendi(const double *kernel, int64_t n, const double *p, double q, double *out) {
    if (n < 1 || !(q > 0)) return lk_error(LK_EINPUT, "Vendi score: %lld samples, order %g; both must be positive", (long long)n, q);
    double *a = lk_xmalloc((size_t)(n * n + n) * sizeof *a), *w = a + n * n;
    for (int64_t i = 0; i < n; i++) for (int64_t j = 0; j < n; j++) {
        a[i * n + j] = kernel[i * n + j] * (p ? sqrt(p[i]) * sqrt(p[j]) : 1 / (double)n);
        if (!isfinite(a[i * n + j])) { free(a); return lk_error(LK_ENUM, "Vendi score: similarity (%lld, %lld) is not a number", (long long)i, (long long)j); }
    }
    lk_jacobi_symmetric(a, n, w, NULL);
    *out = effective_number(w, n, q);
    free(a);
    return LK_OK;
}
lk_err lk_vendi_cosine(const double *x, int64_t n, int64_t d, double q, double *out) {
    double *k = lk_xmalloc((size_t)(n * n + n) * sizeof *k), *norm = k + n * n;
    lk_gram(x, n, x, n, d, NULL, k);
    for (int64_t i = 0; i < n; i++) norm[i] = sqrt(k[i * n + i]);
    for (int64_t i = 0; i < n; i++)
        if (!(norm[i] > 0)) { free(k); return lk_error(LK_ENUM, "Vendi score: sample %lld is zero or not a number and has no direction", (long long)i); }
    for (int64_t i = 0; i < n; i++) for (int64_t j = 0; j < n; j++) k[i * n + j] /= norm[i] * norm[j];
    lk_err e = lk_vendi(k, n, NULL, q, out);
    free(k);
    return e;
}

/* ---- Inception Score (Salimans et al. 2016) --------------------------------------------------------------------------------------------- */
/* log p of one sample; stable: maximum first. */
static void log_softmax(const double *logits, int64_t c, double *out) {
    double most = logits[0], s = 0;
    for (int64_t j = 1; j < c; j++) most = logits[j] > most ? logits[j] : most;
    for (int64_t j = 0; j < c; j++) s += lk_exp_d(logits[j] - most);
    double shift = most + lk_log_d(s);
    for (int64_t j = 0; j < c; j++) out[j] = logits[j] - shift;
}
static double part_score(const double *logp, int64_t begin, int64_t end, int64_t c) {
    double *mean = lk_xcalloc((size_t)(2 * c), sizeof *mean), *entropy = mean + c, n = (double)(end - begin);
    for (int64_t i = begin; i < end; i++) for (int64_t j = 0; j < c; j++) {
        double l = logp[i * c + j], p = lk_exp_d(l);
        mean[j] += p;
        entropy[j] += p * l;
    }
    double kl = 0;
    for (int64_t j = 0; j < c; j++) if (mean[j] > 0) kl += entropy[j] / n - mean[j] / n * lk_log_d(mean[j] / n);
    free(mean);
    return lk_exp_d(kl);
}
lk_err lk_inception_score(const double *logits, int64_t n, int64_t c, int splits, bool by_ceil, const int64_t *permutation, double *mean, double *sd) {
    if (c < 2 || splits < 1 || n < splits)
        return lk_error(LK_EINPUT, "Inception Score: %lld samples of %lld classes in %d parts", (long long)n, (long long)c, splits);
    double *logp = lk_xmalloc((size_t)(n * c + splits) * sizeof *logp), *score = logp + n * c, squares = 0;
    for (int64_t i = 0; i < n; i++) {
        int64_t from = permutation ? permutation[i] : i;
        if (from < 0 || from >= n) { free(logp); return lk_error(LK_EINPUT, "Inception Score: permutation entry %lld is %lld of %lld", (long long)i, (long long)from, (long long)n); }
        log_softmax(logits + from * c, c, logp + i * c);
    }
    int64_t size = (n + splits - 1) / splits;
    int parts = by_ceil ? (int)((n + size - 1) / size) : splits;
    for (int s = 0; s < parts; s++) {
        int64_t begin = by_ceil ? s * size : s * n / splits, end = by_ceil ? begin + size : (s + 1) * n / splits;
        score[s] = part_score(logp, begin, end < n ? end : n, c);
    }
    *mean = lk_sum(score, parts) / parts;
    for (int s = 0; s < parts; s++) squares += (score[s] - *mean) * (score[s] - *mean);
    *sd = sqrt(squares / (by_ceil ? parts - 1 : parts));
    free(logp);
    return isfinite(*mean) ? LK_OK : lk_error(LK_ENUM, "Inception Score: a logit is NaN or infinite");
}
