/* SSIM and MS-SSIM (Wang et al. 2004, 2003) in the forms of the implementations people quote. A variant is a table row; the
 * differences that move published numbers are window, covariance divisor, border, pooling and what happens on odd sides.
 *
 * One pass: each input row is filtered along x for the five maps (a, b, aa, bb, ab) once, a ring of such rows is filtered
 * along y. Symmetric taps add their two ends first. Rows are independent, their sums fold in order: same bits for any number
 * of threads. 7x7 windows add integers of 8-bit pictures exactly and divide by 49 afterwards. */
#include "metrics/linalg.h"
#include "metrics/metrics.h"
#include "base/exact_math.h"     /* lk_exp_d, lk_pow_d */
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAPS = 5, TAPS_MOST = 11, LEVELS = 5 };
typedef enum { UNIFORM7, GAUSS11, GAUSS11_F32 } window;
typedef enum { DROP_ODD, ZERO_TOP_LEFT, REPLICATE_BOTH } odd_sides;
struct lk_ssim_variant {
    const char *name;
    window window;
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
    { "wang04",                 GAUSS11,     .least = 11 },                                     /* skimage gaussian_weights, population covariance */
    { "skimage",                UNIFORM7,    .sample_covariance = true, .least = 7 },           /* structural_similarity's default */
    { "skimage_gaussian",       GAUSS11,     .sample_covariance = true, .least = 11 },
    { "torchmetrics",           GAUSS11,     .whole_map = true, .least = 6 },                   /* >= 1.4.2 */
    { "piq",                    GAUSS11,     .pool_first = true, .least = 11 },
    { "piq_nodown",             GAUSS11,     .least = 11 },
    { "pytorch_msssim",         GAUSS11,     .least = 11 },
    { "pytorch_msssim_f32taps", GAUSS11_F32, .least = 11 },                                     /* its default window: binary32, sum not 1 */
};
static const struct lk_ssim_variant ms_table[] = {
    { "pytorch_msssim",         GAUSS11,     .odd = ZERO_TOP_LEFT, .least = 161 },
    { "pytorch_msssim_f32taps", GAUSS11_F32, .odd = ZERO_TOP_LEFT, .least = 161 },
    { "piq",                    GAUSS11,     .odd = REPLICATE_BOTH, .least = 161 },
    { "torchmetrics",           GAUSS11,     .whole_map = true, .odd = DROP_ODD, .channels_first = true, .f32_weights = true, .least = 176 },
    { "torchmetrics_nonorm",    GAUSS11,     .whole_map = true, .odd = DROP_ODD, .channels_first = true, .f32_weights = true, .no_relu = true, .least = 176 },
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

/* ---- windows ----------------------------------------------------------------------------------------------------------- */
typedef struct { int taps; double tap[TAPS_MOST], scale; } kernel;      /* scale: applied to the 2-d sum */
static kernel kernel_of(window w) {
    kernel k = { w == UNIFORM7 ? 7 : 11, { 0 }, w == UNIFORM7 ? 1.0 / 49 : 1 };
    double sum = 0;
    double sum32 = 0;                        /* of binary32 taps */
    float tap32[TAPS_MOST];
    for (int i = 0; i < k.taps; i++) {
        int x = i - k.taps / 2;
        k.tap[i] = w == UNIFORM7 ? 1 : lk_exp_d(-(double)(x * x) / 4.5);
        sum += k.tap[i];
        tap32[i] = (float)lk_exp_d((float)-(x * x) / 4.5f);
        sum32 += tap32[i];
    }
    if (w == GAUSS11) for (int i = 0; i < k.taps; i++) k.tap[i] /= sum;
    if (w == GAUSS11_F32) for (int i = 0; i < k.taps; i++) k.tap[i] = tap32[i] / (float)sum32;
    return k;
}

/* ---- one plane -------------------------------------------------------------------------------------------------------------- */
/* dst[x] = sum_k tap[k] src[x + k]; n a multiple of 8, src readable to n + taps. */
LK_CLONES static void filter_row(const kernel *k, const double *src, double *dst, int64_t n) {
    int mid = k->taps / 2, last = k->taps - 1;
    for (int64_t x = 0; x < n; x += 8) {
        lk_vec s = LK_AT(src + x + mid) * k->tap[mid];
        for (int i = mid - 1; i >= 0; i--) s += (LK_AT(src + x + i) + LK_AT(src + x + last - i)) * k->tap[i];
        LK_AT(dst + x) = s;
    }
}
LK_CLONES static void products(const double *a, const double *b, double *to, int64_t stride, int64_t n) {
    for (int64_t x = 0; x < n; x += 8) {
        lk_vec u = LK_AT(a + x), v = LK_AT(b + x);
        LK_AT(to + x) = u * u;
        LK_AT(to + stride + x) = v * v;
        LK_AT(to + 2 * stride + x) = u * v;
    }
}
typedef int64_t lanes64 __attribute__((vector_size(64)));
typedef struct { double c1, c2, covariance, scale; bool clamp; } terms;
/* rows[k]: MAPS filtered rows of length n each. */
LK_CLONES static void map_row(const kernel *k, double *const rows[], int64_t n, const terms *t, double *ssim, double *cs) {
    int mid = k->taps / 2, last = k->taps - 1;
    for (int64_t x = 0; x < n; x += 8) {
        lk_vec m[MAPS];
        for (int j = 0; j < MAPS; j++) {
            lk_vec s = LK_AT(rows[mid] + j * n + x) * k->tap[mid];
            for (int i = mid - 1; i >= 0; i--) s += (LK_AT(rows[i] + j * n + x) + LK_AT(rows[last - i] + j * n + x)) * k->tap[i];
            m[j] = s * t->scale;
        }
        lk_vec aa = m[0] * m[0], bb = m[1] * m[1], ab = m[0] * m[1];
        lk_vec va = (m[2] - aa) * t->covariance, vb = (m[3] - bb) * t->covariance, vab = (m[4] - ab) * t->covariance;
        if (t->clamp) {
            va = (lk_vec)((lanes64)va & (va > 0.0));
            vb = (lk_vec)((lanes64)vb & (vb > 0.0));
        }
        lk_vec contrast = (2.0 * vab + t->c2) / (va + vb + t->c2);
        LK_AT(cs + x) = contrast;
        LK_AT(ssim + x) = (2.0 * ab + t->c1) / (aa + bb + t->c1) * contrast;
    }
}
typedef struct {
    const double *a, *b;         /* planes [h][w], readable 16 values past the end */
    int64_t h, w, oh, ow, cs_crop;
    kernel k;
    terms t;
    double *ssim_row, *cs_row;   /* [oh] sums of rows */
} plane_job;
static void plane_rows(void *ctx, int64_t begin, int64_t end, int thread) {
    plane_job *p = ctx;
    (void)thread;
    int taps = p->k.taps;
    int64_t n = (p->ow + 7) / 8 * 8, wide = n + 16;
    double *room = lk_xcalloc((size_t)(taps * MAPS * n + 5 * wide + 2 * n), sizeof *room), *ring = room, *line = ring + taps * MAPS * n;
    double *ssim = line + 5 * wide, *cs = ssim + n, *rows[TAPS_MOST];
    for (int64_t y = begin; y < end + taps - 1; y++) {
        memcpy(line, p->a + y * p->w, (size_t)p->w * sizeof *line);
        memcpy(line + wide, p->b + y * p->w, (size_t)p->w * sizeof *line);
        products(line, line + wide, line + 2 * wide, wide, wide);
        for (int j = 0; j < MAPS; j++) filter_row(&p->k, line + j * wide, ring + ((y % taps) * MAPS + j) * n, n);
        int64_t out = y - (taps - 1);
        if (out < begin) continue;
        for (int i = 0; i < taps; i++) rows[i] = ring + ((out + i) % taps) * MAPS * n;
        map_row(&p->k, rows, n, &p->t, ssim, cs);
        p->ssim_row[out] = lk_sum(ssim, p->ow);
        p->cs_row[out] = lk_sum(cs + p->cs_crop, p->ow - 2 * p->cs_crop);
    }
    free(room);
}
static double *reflected(const double *x, int64_t h, int64_t w, int pad) {
    int64_t H = h + 2 * pad, W = w + 2 * pad;
    double *r = lk_xmalloc((size_t)(H * W) * sizeof *r);
    for (int64_t i = 0; i < H; i++) for (int64_t j = 0; j < W; j++) {
        int64_t y = llabs(i - pad), z = llabs(j - pad);
        r[i * W + j] = x[(y < h ? y : 2 * (h - 1) - y) * w + (z < w ? z : 2 * (w - 1) - z)];
    }
    return r;
}
static void plane(const lk_ssim_variant *v, const double *a, const double *b, int64_t h, int64_t w, double range, lk_pool *pool, double *ssim, double *cs) {
    plane_job p = { a, b, h, w, 0, 0, 0, kernel_of(v->window), { 0 }, NULL, NULL };
    int taps = p.k.taps;
    double n = taps * taps, *ra = NULL, *rb = NULL;
    p.t = (terms){ (.01 * range) * (.01 * range), (.03 * range) * (.03 * range), v->sample_covariance ? n / (n - 1) : 1, p.k.scale, v->whole_map };
    if (v->whole_map) {
        p.a = ra = reflected(a, h, w, taps / 2);
        p.b = rb = reflected(b, h, w, taps / 2);
        p.h += taps - 1;
        p.w += taps - 1;
        p.cs_crop = w > 2 * (taps / 2) && h > 2 * (taps / 2) ? taps / 2 : 0;
    }
    p.oh = p.h - taps + 1;
    p.ow = p.w - taps + 1;
    p.ssim_row = lk_xmalloc((size_t)(2 * p.oh) * sizeof *p.ssim_row);
    p.cs_row = p.ssim_row + p.oh;
    lk_parallel(pool, p.oh, 64, plane_rows, &p);
    int64_t crop = p.cs_crop;
    *ssim = lk_sum(p.ssim_row, p.oh) / (double)(p.oh * p.ow);
    *cs = lk_sum(p.cs_row + crop, p.oh - 2 * crop) / (double)((p.oh - 2 * crop) * (p.ow - 2 * crop));
    free(p.ssim_row);
    free(ra);
    free(rb);
}

/* ---- pictures -------------------------------------------------------------------------------------------------------------- */
static double *channel(const double *x, int64_t n, int c, int k) {
    double *p = lk_xmalloc((size_t)n * sizeof *p);
    for (int64_t i = 0; i < n; i++) p[i] = x[i * c + k];
    return p;
}
/* Means of f x f blocks; what is left over at the bottom and right is dropped. *x is replaced. */
static void pool_blocks(double **x, int64_t *h, int64_t *w, int64_t f) {
    int64_t H = *h / f, W = *w / f;
    double *y = lk_xmalloc((size_t)(H * W) * sizeof *y);
    for (int64_t i = 0; i < H; i++) for (int64_t j = 0; j < W; j++) {
        double s = 0;
        for (int64_t u = 0; u < f; u++) for (int64_t v = 0; v < f; v++) s += (*x)[(i * f + u) * *w + j * f + v];
        y[i * W + j] = s / (double)(f * f);
    }
    free(*x);
    *x = y;
    *h = H;
    *w = W;
}
static lk_err checked(const char *what, const lk_ssim_variant *v, const double *a, const double *b, int h, int w, int c, double range) {
    if (!v) return lk_error(LK_EINPUT, "%s: no such variant", what);
    if (c < 1 || !(range > 0)) return lk_error(LK_EINPUT, "%s: %d channels, data range %g; both must be positive", what, c, range);
    if (h < v->least || w < v->least)
        return lk_error(LK_EINPUT, "%s %s: a picture of %d x %d; the least side is %d", what, v->name, w, h, v->least);
    double s = 0;
    for (int64_t i = 0; i < (int64_t)h * w * c; i++) s += a[i] * 0 + b[i] * 0;
    return s == 0 ? LK_OK : lk_error(LK_ENUM, "%s %s: a pixel is NaN or infinite", what, v->name);
}
static int64_t round_half_even(double x) {
    double f = (double)(int64_t)x, rest = x - f;
    return (int64_t)f + (rest > .5 || (rest == .5 && ((int64_t)f & 1)));
}
lk_err lk_ssim(const lk_ssim_variant *v, const double *a, const double *b, int h, int w, int c, double range, lk_pool *pool, double *out) {
    LK_TRY(checked("SSIM", v, a, b, h, w, c, range));
    int64_t f = v->pool_first ? round_half_even((h < w ? h : w) / 256.0) : 1;
    double total = 0;
    for (int k = 0; k < c; k++) {
        int64_t H = h, W = w, H2 = h, W2 = w;
        double *x = channel(a, (int64_t)h * w, c, k), *y = channel(b, (int64_t)h * w, c, k), s, cs;
        if (f > 1) {
            pool_blocks(&x, &H, &W, f);
            pool_blocks(&y, &H2, &W2, f);
        }
        plane(v, x, y, H, W, range, pool, &s, &cs);
        total += s;
        free(x);
        free(y);
    }
    *out = total / c;
    return LK_OK;
}

/* A row and a column in front: of zeros, or repeating the first. */
static void grow(double **x, int64_t *h, int64_t *w, int top, int left, bool repeat) {
    int64_t H = *h + top, W = *w + left;
    double *y = lk_xcalloc((size_t)(H * W), sizeof *y);
    for (int64_t i = 0; i < H; i++) for (int64_t j = 0; j < W; j++) {
        int64_t u = i - top, v = j - left;
        if (repeat || (u >= 0 && v >= 0)) y[i * W + j] = (*x)[(u < 0 ? 0 : u) * *w + (v < 0 ? 0 : v)];
    }
    free(*x);
    *x = y;
    *h = H;
    *w = W;
}
static void halve(odd_sides odd, double **x, int64_t *h, int64_t *w) {
    int oh = (int)(*h & 1), ow = (int)(*w & 1);
    if (odd == ZERO_TOP_LEFT && (oh || ow)) grow(x, h, w, oh, ow, false);
    if (odd == REPLICATE_BOTH && (oh || ow)) grow(x, h, w, 1, 1, true);
    pool_blocks(x, h, w, 2);
}
lk_err lk_ms_ssim(const lk_ssim_variant *v, const double *a, const double *b, int h, int w, int c, double range, lk_pool *pool, double *out) {
    static const double weights[LEVELS] = { .0448, .2856, .3001, .2363, .1333 };
    LK_TRY(checked("MS-SSIM", v, a, b, h, w, c, range));
    double (*score)[LEVELS] = lk_xcalloc((size_t)c, sizeof *score), total = 0;
    for (int k = 0; k < c; k++) {
        int64_t H = h, W = w, H2 = h, W2 = w;
        double *x = channel(a, (int64_t)h * w, c, k), *y = channel(b, (int64_t)h * w, c, k);
        for (int level = 0; level < LEVELS; level++) {
            double s, cs;
            plane(v, x, y, H, W, range, pool, &s, &cs);
            score[k][level] = level == LEVELS - 1 ? s : cs;
            if (level == LEVELS - 1) break;
            halve(v->odd, &x, &H, &W);
            halve(v->odd, &y, &H2, &W2);
        }
        free(x);
        free(y);
    }
    int rows = v->channels_first ? 1 : c;
    if (v->channels_first) for (int level = 0; level < LEVELS; level++) {
        for (int k = 1; k < c; k++) score[0][level] += score[k][level];
        score[0][level] /= c;
    }
    for (int k = 0; k < rows; k++) {
        double product = 1;
        for (int level = 0; level < LEVELS; level++) {
            double weight = v->f32_weights ? (double)(float)weights[level] : weights[level], s = score[k][level];
            product *= lk_pow_d(s < 0 && !v->no_relu ? 0 : s, weight);
        }
        total += product;
    }
    free(score);
    *out = total / rows;
    return LK_OK;
}

lk_err lk_ssim_images(const lk_ssim_variant *v, bool multi_scale, const lk_image *a, const lk_image *b, lk_pool *pool, double *out) {
    if (a->w != b->w || a->h != b->h || a->c != b->c)
        return lk_error(LK_EINPUT, "SSIM: pictures of %dx%dx%d and %dx%dx%d (width, height, channels); both must be equal",
                        a->w, a->h, a->c, b->w, b->h, b->c);
    int64_t n = (int64_t)a->w * a->h * a->c;
    double *x = lk_xmalloc((size_t)(2 * n) * sizeof *x), *y = x + n;
    for (int64_t i = 0; i < n; i++) {
        x[i] = a->px[i];
        y[i] = b->px[i];
    }
    lk_err e = (multi_scale ? lk_ms_ssim : lk_ssim)(v, x, y, a->h, a->w, a->c, 255, pool, out);
    free(x);
    return e;
}
