/* Pools, nearest upsampling and the affine warp, each with its adjoint (docs/numerics.md rules 3, 6 and 11).
 *
 * Planes [H, W] are independent; threads share planes (the warp forward: rows), so every sum stays in one
 * thread. Pool windows: taps row-major; a tap in the padding is no candidate of a maximum and adds nothing
 * to an average. Adjoints start at +0 and walk the outputs in increasing index. */
#include "backend/cpu/kernels/kernels.h"
#include <string.h>

/* ---- pools: TILE neighbouring outputs of a row together, tap by tap, so that loops run along the row while
 * every output still sees its taps in row-major order. --------------------------------------------------- */
enum { TILE = 128 };
typedef struct {
    const float *x, *dy;             /* dy: cotangent, or the values max_pool2d_at picks from */
    float *out;
    int64_t h, w, oh, ow;            /* big plane and pooled plane */
    int kernel[2], stride[2], pad[2];
    int64_t padded[2];               /* h, w with padding */
    bool count_pad;
} pool;
typedef struct { int64_t lo, hi; } span;

/* The taps of pooled position o along an axis that lie in the picture: [lo, hi) in picture coordinates. */
static inline span taps(int64_t o, int stride, int pad, int kernel, int64_t size) {
    int64_t first = o * stride - pad;
    return (span){lk_k_max(first, 0), lk_k_min(first + kernel, size)};
}
/* The outputs of [first, first + n) whose column tap b lies in the picture, counted from first. */
static inline span hits(const pool *p, int64_t first, int64_t n, int b) {
    int64_t s = p->stride[1], shift = p->pad[1] - b;            /* picture column of output q is q * s - shift */
    int64_t lo = shift > 0 ? (shift + s - 1) / s : 0, hi = p->w + shift > 0 ? (p->w - 1 + shift) / s + 1 : 0;
    return (span){lk_k_min(lk_k_max(lo - first, 0), n), lk_k_min(lk_k_max(hi - first, 0), n)};
}
#define EACH_TILE(p, o, first, n) \
    for (int64_t o = 0; o < (p)->oh; o++) \
        for (int64_t first = 0, n; first < (p)->ow && (n = lk_k_min(TILE, (p)->ow - first), true); first += TILE)

/* First maxima of a tile and where in the plane they stand: -inf and -1 where a window is padding only. */
static void tile_max(const pool *p, const float *x, int64_t o, int64_t first, int64_t n, float *restrict best, int32_t *restrict at) {
    span r = taps(o, p->stride[0], p->pad[0], p->kernel[0], p->h);
    for (int64_t q = 0; q < n; q++) {
        span c = taps(first + q, p->stride[1], p->pad[1], p->kernel[1], p->w);
        bool any = r.lo < r.hi && c.lo < c.hi;
        at[q] = any ? (int32_t)(r.lo * p->w + c.lo) : -1;
        best[q] = any ? x[at[q]] : -__builtin_inff();
    }
    for (int64_t i = r.lo; i < r.hi; i++) for (int b = 0; b < p->kernel[1]; b++) {
        span h = hits(p, first, n, b);
        int64_t s = p->stride[1];
        int32_t base = (int32_t)(i * p->w + first * s - p->pad[1] + b);
        for (int64_t q = h.lo; q < h.hi; q++) {
            float v = x[base + q * s];
            at[q] = v > best[q] ? base + (int32_t)(q * s) : at[q];
            best[q] = v > best[q] ? v : best[q];
        }
    }
}
static void tile_divisors(const pool *p, int64_t o, int64_t first, int64_t n, float *d) {
    span r = taps(o, p->stride[0], p->pad[0], p->kernel[0], p->h);
    int64_t top = o * p->stride[0], height = p->count_pad ? lk_k_min(top + p->kernel[0], p->padded[0]) - top : lk_k_max(0, r.hi - r.lo);
    for (int64_t q = 0; q < n; q++) {
        span c = taps(first + q, p->stride[1], p->pad[1], p->kernel[1], p->w);
        int64_t left = (first + q) * p->stride[1];
        d[q] = (float)(height * (p->count_pad ? lk_k_min(left + p->kernel[1], p->padded[1]) - left : lk_k_max(0, c.hi - c.lo)));
    }
}
static void max_pool_planes(void *ctx, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const pool *p = ctx;
    int32_t at[TILE];
    for (int64_t k = begin; k < end; k++)
        EACH_TILE(p, o, first, n) tile_max(p, p->x + k * p->h * p->w, o, first, n, p->out + (k * p->oh + o) * p->ow + first, at);
}
static void max_pool_at_planes(void *ctx, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const pool *p = ctx;
    float best[TILE]; int32_t at[TILE];
    for (int64_t k = begin; k < end; k++) {
        const float *x = p->x + k * p->h * p->w, *z = p->dy + k * p->h * p->w;
        EACH_TILE(p, o, first, n) {
            float *y = p->out + (k * p->oh + o) * p->ow + first;
            tile_max(p, x, o, first, n, best, at);
            for (int64_t q = 0; q < n; q++) y[q] = at[q] < 0 ? 0.0f : z[at[q]];
        }
    }
}
static void max_pool_dx_planes(void *ctx, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const pool *p = ctx;
    float best[TILE]; int32_t at[TILE];
    for (int64_t k = begin; k < end; k++) {
        const float *x = p->x + k * p->h * p->w;
        float *dx = p->out + k * p->h * p->w;
        memset(dx, 0, (size_t)(p->h * p->w) * sizeof *dx);
        EACH_TILE(p, o, first, n) {
            const float *dy = p->dy + (k * p->oh + o) * p->ow + first;
            tile_max(p, x, o, first, n, best, at);
            for (int64_t q = 0; q < n; q++) if (at[q] >= 0) dx[at[q]] += dy[q];
        }
    }
}
static void avg_pool_planes(void *ctx, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const pool *p = ctx;
    float divisor[TILE], sum[TILE];
    int64_t s = p->stride[1];
    for (int64_t k = begin; k < end; k++) EACH_TILE(p, o, first, n) {
        span r = taps(o, p->stride[0], p->pad[0], p->kernel[0], p->h);
        memset(sum, 0, sizeof sum);
        for (int64_t i = r.lo; i < r.hi; i++) for (int b = 0; b < p->kernel[1]; b++) {
            int64_t base = (k * p->h + i) * p->w + first * s - p->pad[1] + b;
            span h = hits(p, first, n, b);
            if (s == 1) for (int64_t q = h.lo; q < h.hi; q++) sum[q] += p->x[base + q];
            else for (int64_t q = h.lo; q < h.hi; q++) sum[q] += p->x[base + q * s];
        }
        tile_divisors(p, o, first, n, divisor);
        for (int64_t q = 0; q < n; q++) p->out[(k * p->oh + o) * p->ow + first + q] = sum[q] / divisor[q];
    }
}
/* For one row of the picture, taps from the last column to the first reach a pixel in increasing output. */
static void avg_pool_dx_planes(void *ctx, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const pool *p = ctx;
    float divisor[TILE], share[TILE];
    int64_t s = p->stride[1];
    memset(p->out + begin * p->h * p->w, 0, (size_t)((end - begin) * p->h * p->w) * sizeof *p->out);
    for (int64_t k = begin; k < end; k++) EACH_TILE(p, o, first, n) {
        span r = taps(o, p->stride[0], p->pad[0], p->kernel[0], p->h);
        tile_divisors(p, o, first, n, divisor);
        for (int64_t q = 0; q < n; q++) share[q] = p->dy[(k * p->oh + o) * p->ow + first + q] / divisor[q];
        for (int64_t i = r.lo; i < r.hi; i++) for (int b = p->kernel[1] - 1; b >= 0; b--) {
            int64_t base = (k * p->h + i) * p->w + first * s - p->pad[1] + b;
            float *restrict out = p->out;
            span h = hits(p, first, n, b);
            if (s == 1) for (int64_t q = h.lo; q < h.hi; q++) out[base + q] += share[q];
            else for (int64_t q = h.lo; q < h.hi; q++) out[base + q * s] += share[q];
        }
    }
}
/* big: the shape before pooling, small: the shape after it. */
static void run_pool(const lk_kernel_call *c, lk_shape big, lk_shape small, const float *x, const float *dy, lk_pool_fn fn) {
    const lk_pool2d *a = &c->node->attr.pool;
    pool p = {.x = x, .dy = dy, .out = c->out, .h = big.d[big.rank - 2], .w = big.d[big.rank - 1], .oh = small.d[small.rank - 2], .ow = small.d[small.rank - 1],
              .count_pad = a->count_pad};
    for (int i = 0; i < 2; i++) {
        p.kernel[i] = a->kernel[i]; p.stride[i] = a->stride[i] ? a->stride[i] : 1; p.pad[i] = a->pad[i];
        p.padded[i] = (i ? p.w : p.h) + a->pad[i] + a->pad[i + 2];
    }
    lk_parallel(c->pool, lk_k_span(big, 0, big.rank - 2), lk_k_max(1, LK_GRAIN / 4 / lk_k_max(1, p.h * p.w)), fn, &p);
}
static void k_max_pool2d(const lk_kernel_call *c)    { run_pool(c, c->in_shape[0], c->node->shape, c->in[0], NULL, max_pool_planes); }
static void k_max_pool2d_dx(const lk_kernel_call *c) { run_pool(c, c->in_shape[0], c->in_shape[1], c->in[0], c->in[1], max_pool_dx_planes); }
static void k_max_pool2d_at(const lk_kernel_call *c) { run_pool(c, c->in_shape[0], c->node->shape, c->in[0], c->in[1], max_pool_at_planes); }
static void k_avg_pool2d(const lk_kernel_call *c)    { run_pool(c, c->in_shape[0], c->node->shape, c->in[0], NULL, avg_pool_planes); }
static void k_avg_pool2d_dx(const lk_kernel_call *c) { run_pool(c, c->node->shape, c->in_shape[0], NULL, c->in[0], avg_pool_dx_planes); }

/* ---- nearest upsampling: source index floor(o * in / out) --------------------------------------------- */
typedef struct { const float *in; float *out; int64_t h, w, oh, ow; } nearest;   /* h, w: the small picture */
/* floor(o * in / out) for o = 0, 1, ... without a division each. */
typedef struct { int64_t at, rest, step, part, out; } stepper;
static inline stepper stepper_of(int64_t in, int64_t out) { return (stepper){0, 0, in / out, in % out, out}; }
static inline void step(stepper *s) { s->at += s->step; s->rest += s->part; if (s->rest >= s->out) { s->rest -= s->out; s->at++; } }

static void upsample_planes(void *ctx, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const nearest *u = ctx;
    for (int64_t k = begin; k < end; k++) {
        const float *x = u->in + k * u->h * u->w;
        float *y = u->out + k * u->oh * u->ow;
        stepper r = stepper_of(u->h, u->oh);
        for (int64_t i = 0, last = -1; i < u->oh; i++, step(&r), y += u->ow) {
            const float *row = x + r.at * u->w;
            if (r.at == last) memcpy(y, y - u->ow, (size_t)u->ow * sizeof *y);
            else if (u->ow == 2 * u->w) for (int64_t j = 0; j < u->w; j++) y[2 * j] = y[2 * j + 1] = row[j];
            else {
                stepper c = stepper_of(u->w, u->ow);
                for (int64_t j = 0; j < u->ow; j++, step(&c)) y[j] = row[c.at];
            }
            last = r.at;
        }
    }
}
static void upsample_dx_planes(void *ctx, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const nearest *u = ctx;
    for (int64_t k = begin; k < end; k++) {
        const float *dy = u->in + k * u->oh * u->ow;
        float *dx = u->out + k * u->h * u->w;
        memset(dx, 0, (size_t)(u->h * u->w) * sizeof *dx);
        stepper r = stepper_of(u->h, u->oh);
        for (int64_t i = 0; i < u->oh; i++, step(&r), dy += u->ow) {
            float *restrict row = dx + r.at * u->w;
            if (u->ow == 2 * u->w) for (int64_t j = 0; j < u->w; j++) row[j] = (row[j] + dy[2 * j]) + dy[2 * j + 1];
            else {
                stepper c = stepper_of(u->w, u->ow);
                for (int64_t j = 0; j < u->ow; j++, step(&c)) row[c.at] += dy[j];
            }
        }
    }
}
static void run_nearest(const lk_kernel_call *c, lk_shape small, lk_shape big, lk_pool_fn fn) {
    nearest u = {c->in[0], c->out, small.d[small.rank - 2], small.d[small.rank - 1], big.d[big.rank - 2], big.d[big.rank - 1]};
    lk_parallel(c->pool, lk_k_span(big, 0, big.rank - 2), lk_k_max(1, LK_GRAIN / lk_k_max(1, u.oh * u.ow)), fn, &u);
}
static void k_upsample_nearest(const lk_kernel_call *c)    { run_nearest(c, c->in_shape[0], c->node->shape, upsample_planes); }
static void k_upsample_nearest_dx(const lk_kernel_call *c) { run_nearest(c, c->node->shape, c->in_shape[0], upsample_dx_planes); }

/* ---- affine warp (rule 11) -------------------------------------------------------------------------------
 * Destination pixel (x, y) of sample n reads the source position
 *     sx = (m00 * x + m01 * y) + m02,   sy = (m10 * x + m11 * y) + m12        (each operation rounded)
 *     x0 = floor(sx), wx = sx - x0, y0 = floor(sy), wy = sy - y0
 * with taps 00 = (y0, x0), 01 = (y0, x0 + 1), 10 = (y0 + 1, x0), 11 = (y0 + 1, x0 + 1) and weights
 *     w00 = (1 - wx) * (1 - wy), w01 = wx * (1 - wy), w10 = (1 - wx) * wy, w11 = wx * wy;
 * value = ((v00 * w00 + v01 * w01) + v10 * w10) + v11 * w11. A tap outside is the nearest edge pixel (clamp)
 * or v = +0. The adjoint adds dy * w to each tap inside (clamped where clamp). */
typedef struct { const float *in, *m; float *out; int64_t n, c, h, w, oh, ow; bool clamp; } warp;   /* h, w: source picture */
typedef struct { int32_t at[4][TILE]; float weight[4][TILE]; } tap_tile;   /* of up to TILE pixels of a row; at < 0: outside */

/* Index of position f (an integer in binary32, perhaps far away or NaN) along an axis, -1 outside. */
static inline int32_t inside(float f, float last, bool clamp) {
    float held = f > last ? last : f > 0 ? f : 0.0f;
    return clamp || held == f ? (int32_t)held : -1;
}
static inline int32_t place(int32_t row, int32_t col, int32_t w) { return (row | col) < 0 ? -1 : row * w + col; }
static void taps_of(const warp *s, const float *m, int64_t first, int64_t y, int64_t n, tap_tile *restrict t) {
    float m0 = m[0], m1 = m[1], m2 = m[2], m3 = m[3], m4 = m[4], m5 = m[5], fy = (float)y, right = (float)(s->w - 1), bottom = (float)(s->h - 1);
    int32_t w = (int32_t)s->w, from = (int32_t)first;
    bool clamp = s->clamp;
    for (int32_t i = 0; i < (int32_t)n; i++) {
        float fx = (float)(from + i), sx = (m0 * fx + m1 * fy) + m2, sy = (m3 * fx + m4 * fy) + m5;
        float x0 = __builtin_floorf(sx), y0 = __builtin_floorf(sy), wx = sx - x0, wy = sy - y0, vx = 1.0f - wx, vy = 1.0f - wy;
        int32_t c0 = inside(x0, right, clamp), c1 = inside(x0 + 1.0f, right, clamp), r0 = inside(y0, bottom, clamp), r1 = inside(y0 + 1.0f, bottom, clamp);
        t->at[0][i] = place(r0, c0, w); t->at[1][i] = place(r0, c1, w); t->at[2][i] = place(r1, c0, w); t->at[3][i] = place(r1, c1, w);
        t->weight[0][i] = vx * vy; t->weight[1][i] = wx * vy; t->weight[2][i] = vx * wy; t->weight[3][i] = wx * wy;
    }
}
static inline float tap_value(const float *plane, int32_t at) { return at < 0 ? 0.0f : plane[at]; }
static void warp_rows(void *ctx, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const warp *s = ctx;
    tap_tile t;
    for (int64_t row = begin; row < end; row++) for (int64_t first = 0; first < s->ow; first += TILE) {
        int64_t n = row / s->oh, y = row % s->oh, width = lk_k_min(TILE, s->ow - first);
        taps_of(s, s->m + n * 6, first, y, width, &t);
        for (int64_t c = n * s->c; c < (n + 1) * s->c; c++) {
            const float *plane = s->in + c * s->h * s->w;
            float *restrict out = s->out + (c * s->oh + y) * s->ow + first;
            for (int64_t i = 0; i < width; i++) {
                float v00 = tap_value(plane, t.at[0][i]), v01 = tap_value(plane, t.at[1][i]), v10 = tap_value(plane, t.at[2][i]), v11 = tap_value(plane, t.at[3][i]);
                out[i] = ((v00 * t.weight[0][i] + v01 * t.weight[1][i]) + v10 * t.weight[2][i]) + v11 * t.weight[3][i];
            }
        }
    }
}
static void warp_dx_planes(void *ctx, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const warp *s = ctx;
    tap_tile t;
    memset(s->out + begin * s->h * s->w, 0, (size_t)((end - begin) * s->h * s->w) * sizeof *s->out);
    for (int64_t k = begin; k < end; k++) for (int64_t y = 0; y < s->oh; y++) for (int64_t first = 0; first < s->ow; first += TILE) {
        int64_t width = lk_k_min(TILE, s->ow - first);
        const float *dy = s->in + (k * s->oh + y) * s->ow + first;
        float *dx = s->out + k * s->h * s->w;
        taps_of(s, s->m + k / s->c * 6, first, y, width, &t);
        for (int64_t i = 0; i < width; i++) for (int tap = 0; tap < 4; tap++) if (t.at[tap][i] >= 0) dx[t.at[tap][i]] += dy[i] * t.weight[tap][i];
    }
}
static warp warp_of(const lk_kernel_call *c, lk_shape source, lk_shape dest) {
    return (warp){c->in[0], c->in[1], c->out, source.d[0], source.d[1], source.d[2], source.d[3], dest.d[2], dest.d[3], c->node->attr.warp.clamp};
}
static void k_affine_warp(const lk_kernel_call *c) {
    warp s = warp_of(c, c->in_shape[0], c->node->shape);
    lk_parallel(c->pool, s.n * s.oh, lk_k_max(1, LK_GRAIN / 4 / lk_k_max(1, s.c * s.ow)), warp_rows, &s);
}
static void k_affine_warp_dx(const lk_kernel_call *c) {
    warp s = warp_of(c, c->node->shape, c->in_shape[0]);
    lk_parallel(c->pool, s.n * s.c, lk_k_max(1, LK_GRAIN / 8 / lk_k_max(1, s.oh * s.ow)), warp_dx_planes, &s);
}

void LK_KNAME(lk_kernels_picture)(lk_kernel *table);
void LK_KNAME(lk_kernels_picture)(lk_kernel *table) {
    table[LK_OP_max_pool2d] = k_max_pool2d;
    table[LK_OP_max_pool2d_dx] = k_max_pool2d_dx;
    table[LK_OP_max_pool2d_at] = k_max_pool2d_at;
    table[LK_OP_avg_pool2d] = k_avg_pool2d;
    table[LK_OP_avg_pool2d_dx] = k_avg_pool2d_dx;
    table[LK_OP_upsample_nearest] = k_upsample_nearest;
    table[LK_OP_upsample_nearest_dx] = k_upsample_nearest_dx;
    table[LK_OP_affine_warp] = k_affine_warp;
    table[LK_OP_affine_warp_dx] = k_affine_warp_dx;
}
