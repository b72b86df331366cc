/* SSIM and MS-SSIM (Wang et al. 2004, 2003) in the forms of the implementations people quote. A variant is a table row; the
 * differences that move published numbers are window, covariance divisor, border, pooling and what happens on odd sides.
 *
 * One pass over strips that stay in the nearest cache: each input row is filtered along x for the five maps (a, b, aa, bb, ab) once, a
 * ring of such rows is filtered along y. Symmetric taps add their two ends first. Several scales need aa + bb only where no variance is
 * clamped, four maps, and of each scale but the last the contrast only. A row's sum runs over eight lanes whatever the strips
 * are, rows fold in order: same bits for any number of threads. 7x7 windows of 8-bit pictures are running sums of integers, exact,
 * divided by 49 afterwards (ssim_bytes.c). */
#include "metrics/linalg.h"
#include "metrics/metrics.h"
#include "metrics/ssim_internal.h"
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

/* ---- planes ----------------------------------------------------------------------------------------------------------------- */
/* Where values come from: a plane of bytes, or every step-th of doubles; pad > 0 reflects the edges (the edge itself not repeated). */
typedef struct { const uint8_t *bytes; const double *real; int64_t step, h, w; int pad; } source;
typedef uint8_t eight_bytes __attribute__((vector_size(8), aligned(1), may_alias));
LK_CLONES static void to_doubles(const uint8_t *from, int64_t n, double *to) {
    int64_t i = 0;
    for (; i + 8 <= n; i += 8) LK_AT(to + i) = __builtin_convertvector(*(const eight_bytes *)(from + i), lk_vec);
    for (; i < n; i++) to[i] = from[i];
}
/* Values x .. x + n - 1 of row y, all within the plane. */
static void take(const source *s, int64_t y, int64_t x, int64_t n, double *to) {
    int64_t at = (y * s->w + x) * s->step;
    if (s->bytes) to_doubles(s->bytes + at, n, to);
    else if (s->step == 1) memcpy(to, s->real + at, (size_t)n * sizeof *to);
    else for (int64_t i = 0; i < n; i++) to[i] = s->real[at + i * s->step];
}
static int64_t reflected(int64_t i, int64_t n) { return i < 0 ? -i : i < n ? i : 2 * (n - 1) - i; }
/* Values x .. x + n - 1 of row y of the padded plane; beyond the row: zeros. */
static void take_row(const source *s, int64_t y, int64_t x, int64_t n, double *to) {
    int64_t live = x + n < s->w + 2 * s->pad ? n : s->w + 2 * s->pad - x, left = x < s->pad ? s->pad - x : 0, right = x + live - s->pad - s->w;
    y = reflected(y - s->pad, s->h);
    x -= s->pad;
    right = right > 0 ? right : 0;
    for (int64_t i = 0; i < left; i++) take(s, y, reflected(x + i, s->w), 1, to + i);
    take(s, y, x + left, live - left - right, to + left);
    for (int64_t i = live - right; i < live; i++) take(s, y, reflected(x + i, s->w), 1, to + i);
    for (int64_t i = live; i < n; i++) to[i] = 0;
}
/* sum_k tap[k] at[k * step]: eight neighbours at once. */
static inline __attribute__((always_inline)) void window_sum(const double *at, int64_t step, const double *tap, int taps, lk_vec *to) {
    int mid = taps / 2;
    lk_vec s = LK_AT(at + mid * step) * tap[mid];
    for (int i = mid - 1; i >= 0; i--) s += (LK_AT(at + i * step) + LK_AT(at + (taps - 1 - i) * step)) * tap[i];
    *to = s;
}
enum { STRIP = 64, WIDE = STRIP + 16, ROW = MAPS * STRIP };
/* line[MAPS][WIDE] (a, b given) -> to[maps][STRIP] and the same at `again`. Four maps: a, b, aa + bb, ab. */
static inline __attribute__((always_inline)) void across(double *line, double *to, double *again, const double *tap, int taps, int maps) {
    for (int64_t x = 0; x < WIDE; x += 8) {
        lk_vec u = LK_AT(line + x), v = LK_AT(line + WIDE + x);
        LK_AT(line + 2 * WIDE + x) = maps == MAPS ? u * u : u * u + v * v;
        if (maps == MAPS) LK_AT(line + 3 * WIDE + x) = v * v;
        LK_AT(line + (maps - 1) * WIDE + x) = u * v;
    }
    for (int j = 0; j < maps; j++) for (int64_t x = 0; x < STRIP; x += 8) {
        lk_vec s;
        window_sum(line + j * WIDE + x, 1, tap, taps, &s);
        LK_AT(again + j * STRIP + x) = LK_AT(to + j * STRIP + x) = s;
    }
}
typedef int64_t lanes64 __attribute__((vector_size(64)));
typedef struct { double c1, c2, covariance, scale; bool clamp, contrast /* the map wanted; else SSIM */; } terms;
/* `taps` rows [maps][STRIP] from `rows` on -> one row of the map. */
static inline __attribute__((always_inline)) void down(const double *rows, const terms *t, double *map, const double *tap, int taps, int maps) {
    for (int64_t x = 0; x < STRIP; x += 8) {
        lk_vec m[MAPS];
        for (int j = 0; j < maps; j++) {
            window_sum(rows + j * STRIP + x, ROW, tap, taps, m + j);
            m[j] *= t->scale;
        }
        lk_vec aa = m[0] * m[0], bb = m[1] * m[1], ab = m[0] * m[1], both, vab = (m[maps - 1] - ab) * t->covariance;
        if (maps == MAPS) {
            lk_vec va = (m[2] - aa) * t->covariance, vb = (m[3] - bb) * t->covariance;
            if (t->clamp) {
                va = (lk_vec)((lanes64)va & (va > 0.0));
                vb = (lk_vec)((lanes64)vb & (vb > 0.0));
            }
            both = va + vb;
        } else both = (m[2] - (aa + bb)) * t->covariance;
        lk_vec contrast = (2.0 * vab + t->c2) / (both + t->c2);
        LK_AT(map + x) = t->contrast ? contrast : (2.0 * ab + t->c1) / (aa + bb + t->c1) * contrast;
    }
}
LK_CLONES static void across11(double *line, double *to, double *again, const double *tap) { across(line, to, again, tap, 11, 5); }
LK_CLONES static void across11x4(double *line, double *to, double *again, const double *tap) { across(line, to, again, tap, 11, 4); }
LK_CLONES static void across7(double *line, double *to, double *again, const double *tap) { across(line, to, again, tap, 7, 5); }
LK_CLONES static void down11(const double *rows, const terms *t, double *map, const double *tap) { down(rows, t, map, tap, 11, 5); }
LK_CLONES static void down11x4(const double *rows, const terms *t, double *map, const double *tap) { down(rows, t, map, tap, 11, 4); }
LK_CLONES static void down7(const double *rows, const terms *t, double *map, const double *tap) { down(rows, t, map, tap, 7, 5); }
typedef struct {
    void (*across)(double *line, double *to, double *again, const double *tap);
    void (*down)(const double *rows, const terms *, double *map, const double *tap);
} filters;

/* The planes of one level. A row of output is row r % oh of plane r / oh. */
typedef struct {
    source a[LK_SSIM_CHANNELS], b[LK_SSIM_CHANNELS];
    int planes;
    int64_t oh, ow, crop;                        /* crop: rows and columns that the mean leaves out */
    kernel k;
    filters f;
    terms t;
    double *row;                                 /* [planes * oh]: sums of the map */
} level_job;
/* Lane i & 7 takes value i of [from, to); values are those of columns x .. x + STRIP - 1. */
static void add_lanes(double lane[8], const double *v, int64_t x, int64_t from, int64_t to) {
    int64_t begin = from > x ? from - x : 0, end = to < x + STRIP ? to - x : STRIP;
    if (begin == 0 && end == STRIP) {
        lk_vec s = LK_AT(lane);
        for (int64_t i = 0; i < STRIP; i += 8) s += LK_AT(v + i);
        LK_AT(lane) = s;
    } else for (int64_t i = begin; i < end; i++) lane[i & 7] += v[i];
}
static double fold(double l[8]) {
    for (int i = 0; i < 4; i++) l[i] += l[i + 4];
    for (int i = 0; i < 2; i++) l[i] += l[i + 2];
    return l[0] + l[1];
}
/* Rows begin .. end - 1 of one plane. */
static void plane_rows(const level_job *p, int plane, int64_t begin, int64_t end) {
    int taps = p->k.taps;
    double *room = lk_xcalloc((size_t)(2 * taps * ROW + MAPS * WIDE + STRIP + 8 * (end - begin)), sizeof *room);
    double *line = room + 2 * taps * ROW, *map = line + MAPS * WIDE, *lanes = map + STRIP;
    for (int64_t x = 0; x < p->ow; x += STRIP)
        for (int64_t y = begin; y < end + taps - 1; y++) {
            double *to = room + y % taps * ROW;
            int64_t out = y - (taps - 1);
            take_row(p->a + plane, y, x, WIDE, line);
            take_row(p->b + plane, y, x, WIDE, line + WIDE);
            p->f.across(line, to, to + taps * ROW, p->k.tap);
            if (out < begin) continue;
            p->f.down(room + out % taps * ROW, &p->t, map, p->k.tap);
            add_lanes(lanes + 8 * (out - begin), map, x, p->crop, p->ow - p->crop);
        }
    for (int64_t y = begin; y < end; y++) p->row[plane * p->oh + y] = fold(lanes + 8 * (y - begin));
    free(room);
}
static void level_rows(void *ctx, int64_t begin, int64_t end, int thread) {
    const level_job *p = ctx;
    (void)thread;
    while (begin < end) {
        int plane = (int)(begin / p->oh);
        int64_t stop = (plane + 1) * p->oh < end ? (plane + 1) * p->oh : end;
        plane_rows(p, plane, begin - plane * p->oh, stop - plane * p->oh);
        begin = stop;
    }
}
/* Mean of a map over each of the c planes: of SSIM, or of one scale's contrast. */
typedef enum { WHOLE, SCALE_CONTRAST, SCALE_WHOLE } wanted;
static void level(const lk_ssim_variant *v, const source *a, const source *b, int c, double range, wanted what, lk_pool *pool, double *mean) {
    level_job p = { .planes = c, .k = kernel_of(v->window) };
    int taps = p.k.taps, pad = v->whole_map ? taps / 2 : 0;
    double n = taps * taps;
    p.f = taps == 7 ? (filters){ across7, down7 } : what != WHOLE && !v->whole_map ? (filters){ across11x4, down11x4 } : (filters){ across11, down11 };
    p.t = (terms){ (.01 * range) * (.01 * range), (.03 * range) * (.03 * range), v->sample_covariance ? n / (n - 1) : 1, p.k.scale, v->whole_map, what == SCALE_CONTRAST };
    for (int k = 0; k < c; k++) {
        p.a[k] = a[k];
        p.b[k] = b[k];
        p.a[k].pad = p.b[k].pad = pad;
    }
    p.oh = a->h + 2 * pad - taps + 1;
    p.ow = a->w + 2 * pad - taps + 1;
    p.crop = what == SCALE_CONTRAST && pad && a->w > 2 * pad && a->h > 2 * pad ? pad : 0;
    p.row = lk_xmalloc((size_t)(c * p.oh) * sizeof(double));
    lk_parallel(pool, c * p.oh, 32, level_rows, &p);
    for (int k = 0; k < c; k++) mean[k] = lk_sum(p.row + k * p.oh + p.crop, p.oh - 2 * p.crop) / (double)((p.oh - 2 * p.crop) * (p.ow - 2 * p.crop));
    free(p.row);
}

/* ---- smaller pictures -------------------------------------------------------------------------------------------------------- */
/* Means of f x f blocks of a plane with `top` rows and `left` columns put in front, of zeros or repeating the first; what is left over at
 * the bottom and right is dropped. */
typedef struct { const source *from; double *to; int64_t f, top, left, h, w; bool repeat; } pool_job;
/* Values 0 .. n - 1 of row y of the padded plane. */
static void padded_row(const pool_job *p, int64_t y, int64_t n, double *to) {
    const source *s = p->from;
    int64_t row = y < p->top ? 0 : y - p->top;
    take(s, row, 0, n - p->left, to + p->left);
    for (int64_t i = 0; i < p->left; i++) to[i] = p->repeat ? to[p->left] : 0;
    if (!p->repeat && y < p->top) memset(to, 0, (size_t)n * sizeof *to);
}
/* sum[x] += line[2 x] and then line[2 x + 1]. */
LK_CLONES static void add_pairs(double *sum, const double *line, int64_t n) {
    int64_t x = 0;
    for (; x + 8 <= n; x += 8) {
        lk_vec u = LK_AT(line + 2 * x), v = LK_AT(line + 2 * x + 8);
        LK_AT(sum + x) = LK_AT(sum + x) + __builtin_shufflevector(u, v, 0, 2, 4, 6, 8, 10, 12, 14) + __builtin_shufflevector(u, v, 1, 3, 5, 7, 9, 11, 13, 15);
    }
    for (; x < n; x++) sum[x] = sum[x] + line[2 * x] + line[2 * x + 1];
}
static void pool_rows(void *ctx, int64_t begin, int64_t end, int thread) {
    const pool_job *p = ctx;
    double *line = lk_xmalloc((size_t)(p->w * p->f) * sizeof *line);
    (void)thread;
    for (int64_t y = begin; y < end; y++) {
        double *to = p->to + y * p->w;
        memset(to, 0, (size_t)p->w * sizeof *to);
        for (int64_t u = 0; u < p->f; u++) {
            padded_row(p, y * p->f + u, p->w * p->f, line);
            if (p->f == 2) add_pairs(to, line, p->w);
            else for (int64_t x = 0; x < p->w; x++) for (int64_t v = 0; v < p->f; v++) to[x] += line[x * p->f + v];
        }
        for (int64_t x = 0; x < p->w; x++) to[x] /= (double)(p->f * p->f);
    }
    free(line);
}
static source pooled(const source *from, int64_t f, int top, int left, bool repeat, lk_pool *pool) {
    pool_job p = { from, NULL, f, top, left, (from->h + top) / f, (from->w + left) / f, repeat };
    p.to = lk_xmalloc((size_t)(p.h * p.w) * sizeof(double));
    lk_parallel(pool, p.h, 16, pool_rows, &p);
    return (source){ NULL, p.to, 1, p.h, p.w, 0 };
}
static source halved(odd_sides odd, const source *s, lk_pool *pool) {
    int oh = (int)(s->h & 1), ow = (int)(s->w & 1), both = oh || ow;
    return odd == REPLICATE_BOTH ? pooled(s, 2, both, both, true, pool) : odd == ZERO_TOP_LEFT ? pooled(s, 2, oh, ow, false, pool) : pooled(s, 2, 0, 0, false, pool);
}

/* ---- pictures -------------------------------------------------------------------------------------------------------------- */
typedef struct { source a[LK_SSIM_CHANNELS], b[LK_SSIM_CHANNELS]; int c; } two;
static two channels(const double *a, const double *b, int h, int w, int c) {
    two t = { .c = c };
    for (int k = 0; k < c; k++) {
        t.a[k] = (source){ NULL, a + k, c, h, w, 0 };
        t.b[k] = (source){ NULL, b + k, c, h, w, 0 };
    }
    return t;
}
static void own_free(two *t) { for (int k = 0; k < t->c; k++) { free((double *)t->a[k].real); free((double *)t->b[k].real); } }
/* Channels of both pictures as planes of bytes [c][h][w] each. */
typedef struct { const lk_image *im[2]; uint8_t *to; } split_job;
static void split_rows(void *ctx, int64_t begin, int64_t end, int thread) {
    const split_job *j = ctx;
    int64_t w = j->im[0]->w, h = j->im[0]->h, c = j->im[0]->c;
    (void)thread;
    for (int i = 0; i < 2; i++) for (int64_t k = 0; k < c; k++) {
        const uint8_t *from = j->im[i]->px + k;
        uint8_t *to = j->to + (i * c + k) * h * w;
        if (c == 3) for (int64_t p = begin * w; p < end * w; p++) to[p] = from[3 * p];
        else for (int64_t p = begin * w; p < end * w; p++) to[p] = from[c * p];
    }
}
static two planes(const lk_image *a, const lk_image *b, lk_pool *pool) {
    two t = { .c = a->c };
    int64_t plane = (int64_t)a->h * a->w;
    split_job j = { { a, b }, lk_xmalloc((size_t)(2 * a->c * plane)) };
    lk_parallel(pool, a->h, 16, split_rows, &j);
    for (int k = 0; k < a->c; k++) {
        t.a[k] = (source){ j.to + k * plane, NULL, 1, a->h, a->w, 0 };
        t.b[k] = (source){ j.to + (a->c + k) * plane, NULL, 1, a->h, a->w, 0 };
    }
    return t;
}
static int64_t round_half_even(double x) {
    double f = (double)(int64_t)x, rest = x - f;
    return (int64_t)f + (rest > .5 || (rest == .5 && ((int64_t)f & 1)));
}
static double ssim_of(const lk_ssim_variant *v, two t, double range, lk_pool *pool) {
    int64_t f = v->pool_first ? round_half_even((double)(t.a->h < t.a->w ? t.a->h : t.a->w) / 256.0) : 1;
    double each[LK_SSIM_CHANNELS], total = 0;
    if (f > 1) for (int k = 0; k < t.c; k++) {
        t.a[k] = pooled(t.a + k, f, 0, 0, false, pool);
        t.b[k] = pooled(t.b + k, f, 0, 0, false, pool);
    }
    level(v, t.a, t.b, t.c, range, WHOLE, pool, each);
    if (f > 1) own_free(&t);
    for (int k = 0; k < t.c; k++) total += each[k];
    return total / t.c;
}
static double ms_ssim_of(const lk_ssim_variant *v, two t, double range, lk_pool *pool) {
    static const double weights[LEVELS] = { .0448, .2856, .3001, .2363, .1333 };
    double score[LEVELS][LK_SSIM_CHANNELS], total = 0;
    int c = t.c, rows = v->channels_first ? 1 : c;
    for (int i = 0; i < LEVELS; i++) {
        level(v, t.a, t.b, c, range, i < LEVELS - 1 ? SCALE_CONTRAST : SCALE_WHOLE, pool, score[i]);
        two next = { .c = c };
        for (int k = 0; k < c && i < LEVELS - 1; k++) {
            next.a[k] = halved(v->odd, t.a + k, pool);
            next.b[k] = halved(v->odd, t.b + k, pool);
        }
        if (i) own_free(&t);
        t = next;
        if (!v->channels_first) continue;
        for (int k = 1; k < c; k++) score[i][0] += score[i][k];
        score[i][0] /= c;
    }
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
    return fold(s) == 0 ? LK_OK : lk_error(LK_ENUM, "%s %s: a pixel is NaN or infinite", what, v->name);
}
lk_err lk_ssim(const lk_ssim_variant *v, const double *a, const double *b, int h, int w, int c, double range, lk_pool *pool, double *out) {
    LK_TRY(fits("SSIM", v, h, w, c, range));
    LK_TRY(numbers("SSIM", v, a, b, (int64_t)h * w * c));
    *out = ssim_of(v, channels(a, b, h, w, c), range, pool);
    return LK_OK;
}
lk_err lk_ms_ssim(const lk_ssim_variant *v, const double *a, const double *b, int h, int w, int c, double range, lk_pool *pool, double *out) {
    LK_TRY(fits("MS-SSIM", v, h, w, c, range));
    LK_TRY(numbers("MS-SSIM", v, a, b, (int64_t)h * w * c));
    *out = ms_ssim_of(v, channels(a, b, h, w, c), range, pool);
    return LK_OK;
}
lk_err lk_ssim_images(const lk_ssim_variant *v, bool multi_scale, const lk_image *a, const lk_image *b, lk_pool *pool, double *out) {
    if (a->w != b->w || a->h != b->h || a->c != b->c)
        return lk_error(LK_EINPUT, "SSIM: pictures of %dx%dx%d and %dx%dx%d (width, height, channels); both must be equal",
                        a->w, a->h, a->c, b->w, b->h, b->c);
    LK_TRY(fits(multi_scale ? "MS-SSIM" : "SSIM", v, a->h, a->w, a->c, 255));
    if (!multi_scale && v->window == UNIFORM7 && !v->whole_map && !v->pool_first) {
        *out = lk_ssim_bytes7(a, b, v->sample_covariance ? 49.0 / 48 : 1, pool);
        return LK_OK;
    }
    two t = planes(a, b, pool);
    *out = (multi_scale ? ms_ssim_of : ssim_of)(v, t, 255, pool);
    free((uint8_t *)t.a[0].bytes);
    return LK_OK;
}
