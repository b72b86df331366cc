/* Diversity and its loss: how far apart the outputs of one condition are, how many directions they span, how near they are to
 * the training pictures, and whether the condition is heard at all. One number hides collapse: mean, least and median go together. */
#include "metrics/linalg.h"
#include "metrics/metrics.h"
#include "base/exact_math.h"     /* lk_exp_d, lk_log_d */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define LEGACY_THRESHOLD 0.05    /* mean pairwise L1 on [0, 1] below which earlier work called a set collapsed */

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}
/* Mean, least and median of the pairs' L1, mean of their RMS. l1 is sorted. */
static void summarise(lk_diversity *out, double *l1, const double *rms, int64_t pairs) {
    out->mean_l1 = lk_sum(l1, pairs) / (double)pairs;
    out->mean_rms = lk_sum(rms, pairs) / (double)pairs;
    qsort(l1, (size_t)pairs, sizeof *l1, by_value);
    out->min_l1 = l1[0];
    out->median_l1 = pairs & 1 ? l1[pairs / 2] : (l1[pairs / 2 - 1] + l1[pairs / 2]) / 2;
    out->legacy_collapsed = out->mean_l1 < LEGACY_THRESHOLD;
}
/* Eigenvalues of the centred Gram matrix: exp of their entropy, and (sum w)^2 / sum w^2. Equal samples: 1, exp of no entropy
 * (as the peer's table has it); min_l1 = 0 tells them apart from samples on a line. */
static void spread(const double *x, int64_t n, int64_t d, lk_diversity *out) {
    double *c = lk_xmalloc((size_t)(n * d + n * n + n + d) * sizeof *c), *gram = c + n * d, *w = gram + n * n, *mean = w + n, sum = 0, squares = 0, entropy = 0;
    memset(mean, 0, (size_t)d * sizeof *mean);
    for (int64_t i = 0; i < n; i++) for (int64_t j = 0; j < d; j++) mean[j] += x[i * d + j];
    for (int64_t i = 0; i < n; i++) for (int64_t j = 0; j < d; j++) c[i * d + j] = x[i * d + j] - mean[j] / (double)n;
    lk_gram(c, n, c, n, d, NULL, gram);
    double scale = lk_dot(x, x, n * d);
    lk_jacobi_symmetric(gram, n, w, NULL);
    for (int64_t i = 0; i < n; i++) {
        w[i] = w[i] > scale * 1e-24 ? w[i] : 0;
        sum += w[i];
        squares += w[i] * w[i];
    }
    for (int64_t i = 0; i < n; i++) if (w[i] > sum * 1e-14) entropy -= w[i] / sum * lk_log_d(w[i] / sum);
    out->effective_rank = sum > 0 ? lk_exp_d(entropy) : 1;
    out->participation = sum > 0 ? sum * sum / squares : 1;
    free(c);
}
static lk_err directions(const double *x, int64_t n, int64_t d, lk_diversity *out) {
    spread(x, n, d, out);
    lk_err e = lk_vendi_cosine(x, n, d, 1, &out->vendi);
    if (e) out->vendi = NAN;                          /* an all-black picture has no direction: the other measures stand */
    lk_err_free(e);
    return LK_OK;
}

lk_err lk_diversity_images(const lk_image *im, int64_t n, lk_diversity *out) {
    if (n < 2) return lk_error(LK_EINPUT, "diversity: %lld pictures; at least 2", (long long)n);
    for (int64_t i = 1; i < n; i++)
        if (im[i].w != im[0].w || im[i].h != im[0].h || im[i].c != im[0].c)
            return lk_error(LK_EINPUT, "diversity: picture %lld is %dx%dx%d, the first %dx%dx%d (width, height, channels); all must be equal",
                            (long long)i, im[i].w, im[i].h, im[i].c, im[0].w, im[0].h, im[0].c);
    int64_t d = (int64_t)im[0].w * im[0].h * im[0].c, pairs = n * (n - 1) / 2, k = 0;
    if (d < 1) return lk_error(LK_EINPUT, "diversity: empty pictures");
    double *x = lk_xmalloc((size_t)(n * d + 2 * pairs) * sizeof *x), *l1 = x + n * d, *rms = l1 + pairs;
    for (int64_t i = 0; i < n; i++) for (int64_t j = 0; j < d; j++) x[i * d + j] = im[i].px[j] / 255.0;
    for (int64_t i = 0; i < n; i++) for (int64_t j = i + 1; j < n; j++, k++) {
        uint64_t a = 0, s = 0;
        for (int64_t t = 0; t < d; t++) {
            int e = im[i].px[t] - im[j].px[t];
            a += (uint64_t)(e < 0 ? -e : e);
            s += (uint64_t)(e * e);
        }
        l1[k] = (double)a / ((double)d * 255);
        rms[k] = sqrt((double)s / (double)d) / 255;
    }
    *out = (lk_diversity){ .n = n };
    summarise(out, l1, rms, pairs);
    lk_err e = directions(x, n, d, out);
    free(x);
    return e;
}
lk_err lk_diversity_values(const double *x, int64_t n, int64_t d, lk_diversity *out) {
    if (n < 2 || d < 1) return lk_error(LK_EINPUT, "diversity: %lld samples of %lld values; at least 2 of 1", (long long)n, (long long)d);
    for (int64_t i = 0; i < n * d; i++) if (!isfinite(x[i])) return lk_error(LK_ENUM, "diversity: sample %lld has %g at %lld", (long long)(i / d), x[i], (long long)(i % d));
    int64_t pairs = n * (n - 1) / 2, k = 0;
    double *l1 = lk_xmalloc((size_t)(2 * pairs + d) * sizeof *l1), *rms = l1 + pairs, *row = rms + pairs;
    for (int64_t i = 0; i < n; i++) for (int64_t j = i + 1; j < n; j++, k++) {
        for (int64_t t = 0; t < d; t++) row[t] = fabs(x[i * d + t] - x[j * d + t]);
        l1[k] = lk_sum(row, d) / (double)d;
        rms[k] = sqrt(lk_squared_distance(x + i * d, x + j * d, d) / (double)d);
    }
    *out = (lk_diversity){ .n = n };
    summarise(out, l1, rms, pairs);
    free(l1);
    return directions(x, n, d, out);
}

lk_err lk_nearest_distance(const double *x, int64_t n, const double *refs, int64_t m, int64_t d, double *distance, int64_t *nearest) {
    if (m < 1 || d < 1) return lk_error(LK_EINPUT, "nearest training picture: %lld references of %lld values; at least 1 of 1", (long long)m, (long long)d);
    for (int64_t i = 0; i < n; i++) {
        double least = INFINITY;
        int64_t at = -1;
        for (int64_t j = 0; j < m; j++) {
            double s = lk_squared_distance(x + i * d, refs + j * d, d);
            if (!isfinite(s)) return lk_error(LK_ENUM, "nearest training picture: sample %lld against reference %lld gives %g", (long long)i, (long long)j, s);
            if (s < least) { least = s; at = j; }
        }
        distance[i] = sqrt(least);
        if (nearest) nearest[i] = at;
    }
    return LK_OK;
}
lk_err lk_same_seed_ratio(const double *a, const double *b, int64_t n, int64_t d, double *ratio) {
    if (n < 2 || d < 1) return lk_error(LK_EINPUT, "same-seed control: %lld pairs; at least 2", (long long)n);
    double same = 0, other = 0;
    for (int64_t i = 0; i < n; i++) for (int64_t j = 0; j < n; j++) {
        double s = sqrt(lk_squared_distance(a + i * d, b + j * d, d));
        *(i == j ? &same : &other) += s;
    }
    double mean_other = other / (double)(n * (n - 1));
    if (!(mean_other > 0)) return lk_error(LK_ENUM, "same-seed control: outputs of different seeds are equal or not numbers");
    *ratio = same / (double)n / mean_other;
    return LK_OK;
}
