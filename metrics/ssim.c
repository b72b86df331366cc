/* SSIM and MS-SSIM (Wang et al. 2004, 2003) in the forms of the implementations people quote. A variant is a table row; the
 * differences that move published numbers are window, covariance divisor, border, pooling and what happens on odd sides. How a map's mean
 * is found is in ssim_window.c; the 7x7 window of 8-bit pictures is exact sums of integers (ssim_bytes.c). */
#include "metrics/metrics.h"
#include "metrics/ssim_internal.h"
#include "base/exact_math.h"     /* lk_pow_d */
#include <string.h>

enum { LEVELS = 5 };
typedef enum { DROP_ODD, ZERO_TOP_LEFT, REPLICATE_BOTH } odd_sides;
struct lk_ssim_variant {
    const char *name;
    lk_window window;
    bool sample_covariance;      /* n/(n-1) with n = taps^2 */
    bool whole_map;              /* reflect-pad by 5 and average the whole map; variances clamped at 0 (torchmetrics) */
    bool pool_first;             /* average-pool by max(1, round(min side / 256)) (piq) */
    /* multi-scale */
    odd_sides odd;
    bool channels_first;         /* mean over channels before the product over scales */
    bool f32_weights, no_relu;
    int least;                   /* least side */
};
static const struct lk_ssim_variant ssim_table[] = {
    { "wang04",                 LK_GAUSS11,     .least = 11 },                                     /* skimage gaussian_weights, population covariance */
    { "skimage",                LK_UNIFORM7,    .sample_covariance = true, .least = 7 },           /* structural_similarity's default */
    { "skimage_gaussian",       LK_GAUSS11,     .sample_covariance = true, .least = 11 },
    { "torchmetrics",           LK_GAUSS11,     .whole_map = true, .least = 6 },                   /* >= 1.4.2 */
    { "piq",                    LK_GAUSS11,     .pool_first = true, .least = 11 },
    { "piq_nodown",             LK_GAUSS11,     .least = 11 },
    { "pytorch_msssim",         LK_GAUSS11,     .least = 11 },
    { "pytorch_msssim_f32taps", LK_GAUSS11_F32, .least = 11 },                                     /* its default window: binary32, sum not 1 */
};
static const struct lk_ssim_variant ms_table[] = {
    { "pytorch_msssim",         LK_GAUSS11,     .odd = ZERO_TOP_LEFT, .least = 161 },
    { "pytorch_msssim_f32taps", LK_GAUSS11_F32, .odd = ZERO_TOP_LEFT, .least = 161 },
    { "piq",                    LK_GAUSS11,     .odd = REPLICATE_BOTH, .least = 161 },
    { "torchmetrics",           LK_GAUSS11,     .whole_map = true, .odd = DROP_ODD, .channels_first = true, .f32_weights = true, .least = 176 },
    { "torchmetrics_nonorm",    LK_GAUSS11,     .whole_map = true, .odd = DROP_ODD, .channels_first = true, .f32_weights = true, .no_relu = true, .least = 176 },
};
#define COUNT(t) (int)(sizeof(t) / sizeof *(t))
static const lk_ssim_variant *find(const lk_ssim_variant *t, int n, const char *name) {
    for (int i = 0; i < n; i++) if (!strcmp(t[i].name, name)) return t + i;
    return NULL;
}
const lk_ssim_variant *lk_ssim_find(const char *name) { return find(ssim_table, COUNT(ssim_table), name); }
const lk_ssim_variant *lk_ms_ssim_find(const char *name) { return find(ms_table, COUNT(ms_table), name); }
const char *lk_ssim_name(int i) { return i >= 0 && i < COUNT(ssim_table) ? ssim_table[i].name : NULL; }
const char *lk_ms_ssim_name(int i) { return i >= 0 && i < COUNT(ms_table) ? ms_table[i].name : NULL; }

static int64_t round_half_even(double x) {
    double f = (double)(int64_t)x, rest = x - f;
    return (int64_t)f + (rest > .5 || (rest == .5 && ((int64_t)f & 1)));
}
static double ssim_of(const lk_ssim_variant *v, const lk_planes *full, double range, lk_pool *pool) {
    const lk_plane *p = &full->plane[0][0];
    const lk_ssim_map map = { .window = v->window, .sample_covariance = v->sample_covariance, .whole = v->whole_map };
    int64_t f = v->pool_first ? round_half_even((double)(p->h < p->w ? p->h : p->w) / 256.0) : 1;
    double each[LK_SSIM_CHANNELS], total = 0;
    lk_planes small = { 0 };
    if (f > 1) small = lk_planes_shrunk(full, (lk_blocks){ .f = f }, pool);
    lk_ssim_means(&map, f > 1 ? &small : full, range, pool, each);
    lk_planes_free(&small);
    for (int k = 0; k < full->c; k++) total += each[k];
    return total / full->c;
}
static lk_planes halved(odd_sides odd, const lk_planes *from, lk_pool *pool) {
    int top = from->plane[0][0].h & 1, left = from->plane[0][0].w & 1, both = top || left;
    lk_blocks b = odd == REPLICATE_BOTH ? (lk_blocks){ 2, both, both, true } : odd == ZERO_TOP_LEFT ? (lk_blocks){ 2, top, left, false } : (lk_blocks){ .f = 2 };
    return lk_planes_shrunk(from, b, pool);
}
static double ms_ssim_of(const lk_ssim_variant *v, const lk_planes *full, double range, lk_pool *pool) {
    static const double weights[LEVELS] = { .0448, .2856, .3001, .2363, .1333 };
    double score[LEVELS][LK_SSIM_CHANNELS], total = 0;
    const int c = full->c, rows = v->channels_first ? 1 : c;
    lk_planes small[LEVELS] = { 0 };         /* level 0 is the caller's */
    for (int i = 0; i < LEVELS; i++) {
        const lk_ssim_map map = { .window = v->window, .sample_covariance = v->sample_covariance, .whole = v->whole_map, .scale = true, .contrast = i < LEVELS - 1 };
        if (i) small[i] = halved(v->odd, i > 1 ? &small[i - 1] : full, pool);
        lk_ssim_means(&map, i ? &small[i] : full, range, pool, score[i]);
        if (!v->channels_first) continue;
        for (int k = 1; k < c; k++) score[i][0] += score[i][k];
        score[i][0] /= c;
    }
    for (int i = 1; i < LEVELS; i++) lk_planes_free(&small[i]);
    for (int k = 0; k < rows; k++) {
        double product = 1;
        for (int i = 0; i < LEVELS; i++) {
            double weight = v->f32_weights ? (double)(float)weights[i] : weights[i], x = score[i][k];
            product *= lk_pow_d(x < 0 && !v->no_relu ? 0 : x, weight);
        }
        total += product;
    }
    return total / rows;
}
static lk_err fits(const char *what, const lk_ssim_variant *v, int h, int w, int c, double range) {
    if (!v) return lk_error(LK_EINPUT, "%s: no such variant", what);
    if (c < 1 || c > LK_SSIM_CHANNELS || !(range > 0)) return lk_error(LK_EINPUT, "%s: %d channels, data range %g; 1 to %d channels and a positive range", what, c, range, LK_SSIM_CHANNELS);
    if (h < v->least || w < v->least)
        return lk_error(LK_EINPUT, "%s %s: a picture of %d x %d; the least side is %d", what, v->name, w, h, v->least);
    return LK_OK;
}
static lk_err numbers(const char *what, const lk_ssim_variant *v, const double *a, const double *b, int64_t n) {
    double s[8] = { 0 };
    for (int64_t i = 0; i < n; i++) s[i & 7] += a[i] * 0 + b[i] * 0;
    for (int i = 1; i < 8; i++) s[0] += s[i];
    return s[0] == 0 ? LK_OK : lk_error(LK_ENUM, "%s %s: a pixel is NaN or infinite", what, v->name);
}
lk_err lk_ssim(const lk_ssim_variant *v, const double *a, const double *b, int h, int w, int c, double range, lk_pool *pool, double *out) {
    LK_TRY(fits("SSIM", v, h, w, c, range));
    LK_TRY(numbers("SSIM", v, a, b, (int64_t)h * w * c));
    const lk_planes p = lk_planes_of_values(a, b, h, w, c);
    *out = ssim_of(v, &p, range, pool);
    return LK_OK;
}
lk_err lk_ms_ssim(const lk_ssim_variant *v, const double *a, const double *b, int h, int w, int c, double range, lk_pool *pool, double *out) {
    LK_TRY(fits("MS-SSIM", v, h, w, c, range));
    LK_TRY(numbers("MS-SSIM", v, a, b, (int64_t)h * w * c));
    const lk_planes p = lk_planes_of_values(a, b, h, w, c);
    *out = ms_ssim_of(v, &p, range, pool);
    return LK_OK;
}
lk_err lk_ssim_images(const lk_ssim_variant *v, bool multi_scale, const lk_image *a, const lk_image *b, lk_pool *pool, double *out) {
    if (a->w != b->w || a->h != b->h || a->c != b->c)
        return lk_error(LK_EINPUT, "SSIM: pictures of %dx%dx%d and %dx%dx%d (width, height, channels); both must be equal",
                        a->w, a->h, a->c, b->w, b->h, b->c);
    LK_TRY(fits(multi_scale ? "MS-SSIM" : "SSIM", v, a->h, a->w, a->c, 255));
    if (!multi_scale && v->window == LK_UNIFORM7 && !v->whole_map && !v->pool_first) {
        *out = lk_ssim_bytes7(a, b, v->sample_covariance ? 49.0 / 48 : 1, pool);
        return LK_OK;
    }
    lk_planes p = lk_planes_of_images(a, b, pool);
    *out = (multi_scale ? ms_ssim_of : ssim_of)(v, &p, 255, pool);
    lk_planes_free(&p);
    return LK_OK;
}
