/* Pools, nearest upsampling and the affine warp, each with its adjoint (docs/numerics.md rules 3, 6 and 11).
 *
 * Planes [H, W] are independent; threads share planes (the warp forward: rows), so every sum stays in one
 * thread. Pool windows: taps row-major; a tap in the padding is no candidate of a maximum and adds nothing
 * to an average. Adjoints start at +0 and walk the outputs in increasing index. */
#include "backend/cpu/kernels/kernels.h"
#include <string.h>

/* ---- pools ------------------------------------------------------------------------------------------ */
typedef struct {
    const float *x, *dy;             /* dy: cotangent, or the values max_pool2d_at picks from */
    float *out;
    int64_t h, w, oh, ow;            /* big plane and pooled plane */
    int kernel[2], stride[2], pad[2];
    int64_t padded[2];               /* h, w with padding */
    bool count_pad;
} pool;

/* The taps of pooled position o along one axis that lie in the picture: [lo, hi). */
typedef struct { int64_t lo, hi; } span;
typedef struct { span r, c; } window;
static inline span taps(int64_t o, int stride, int pad, int kernel, int64_t size) {
    int64_t first = o * stride - pad;
    return (span){lk_k_max(first, 0), lk_k_min(first + kernel, size)};
}
/* Index of the first maximum of a window, -1 if the whole window is padding. */
static inline int64_t window_max(const pool *p, const float *x, window v) {
    if (v.r.lo >= v.r.hi || v.c.lo >= v.c.hi) return -1;
    int64_t best = v.r.lo * p->w + v.c.lo;
    for (int64_t i = v.r.lo; i < v.r.hi; i++)
        for (int64_t j = v.c.lo; j < v.c.hi; j++) if (x[i * p->w + j] > x[best]) best = i * p->w + j;
    return best;
}
static inline float divisor(const pool *p, int64_t o, int64_t q, window v) {
    if (!p->count_pad) return (float)(lk_k_max(0, v.r.hi - v.r.lo) * lk_k_max(0, v.c.hi - v.c.lo));
    return (float)((lk_k_min(o * p->stride[0] + p->kernel[0], p->padded[0]) - o * p->stride[0])
                 * (lk_k_min(q * p->stride[1] + p->kernel[1], p->padded[1]) - q * p->stride[1]));
}
static inline window window_of(const pool *p, int64_t o, int64_t q) {
    return (window){taps(o, p->stride[0], p->pad[0], p->kernel[0], p->h), taps(q, p->stride[1], p->pad[1], p->kernel[1], p->w)};
}
#define EACH_WINDOW(p) for (int64_t o = 0; o < (p)->oh; o++) for (int64_t q = 0; q < (p)->ow; q++)

static void max_pool_planes(void *ctx, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const pool *p = ctx;
    for (int64_t k = begin; k < end; k++) {
        const float *x = p->x + k * p->h * p->w;
        float *y = p->out + k * p->oh * p->ow;
        EACH_WINDOW(p) { int64_t at = window_max(p, x, window_of(p, o, q)); *y++ = at < 0 ? -__builtin_inff() : x[at]; }
    }
}
static void max_pool_at_planes(void *ctx, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const pool *p = ctx;
    for (int64_t k = begin; k < end; k++) {
        const float *x = p->x + k * p->h * p->w, *z = p->dy + k * p->h * p->w;
        float *y = p->out + k * p->oh * p->ow;
        EACH_WINDOW(p) { int64_t at = window_max(p, x, window_of(p, o, q)); *y++ = at < 0 ? 0.0f : z[at]; }
    }
}
static void max_pool_dx_planes(void *ctx, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const pool *p = ctx;
    for (int64_t k = begin; k < end; k++) {
        const float *x = p->x + k * p->h * p->w, *dy = p->dy + k * p->oh * p->ow;
        float *dx = p->out + k * p->h * p->w;
        memset(dx, 0, (size_t)(p->h * p->w) * sizeof *dx);
        EACH_WINDOW(p) { int64_t at = window_max(p, x, window_of(p, o, q)); if (at >= 0) dx[at] += *dy; dy++; }
    }
}
static void avg_pool_planes(void *ctx, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const pool *p = ctx;
    for (int64_t k = begin; k < end; k++) {
        const float *x = p->x + k * p->h * p->w;
        float *y = p->out + k * p->oh * p->ow;
        EACH_WINDOW(p) {
            window v = window_of(p, o, q);
            float sum = 0;
            for (int64_t i = v.r.lo; i < v.r.hi; i++) for (int64_t j = v.c.lo; j < v.c.hi; j++) sum += x[i * p->w + j];
            *y++ = sum / divisor(p, o, q, v);
        }
    }
}
static void avg_pool_dx_planes(void *ctx, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const pool *p = ctx;
    for (int64_t k = begin; k < end; k++) {
        const float *dy = p->dy + k * p->oh * p->ow;
        float *dx = p->out + k * p->h * p->w;
        memset(dx, 0, (size_t)(p->h * p->w) * sizeof *dx);
        EACH_WINDOW(p) {
            window v = window_of(p, o, q);
            float share = *dy++ / divisor(p, o, q, v);
            for (int64_t i = v.r.lo; i < v.r.hi; i++) for (int64_t j = v.c.lo; j < v.c.hi; j++) dx[i * p->w + j] += share;
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
typedef struct { int64_t at[4]; float weight[4]; } tap4;   /* at < 0: outside */

/* Index of position f (an integer in binary32, perhaps far away or NaN) along an axis, -1 outside. */
static inline int64_t inside(float f, int64_t size, bool clamp) {
    float last = (float)(size - 1);
    if (f >= 0 && f <= last) return (int64_t)f;
    return !clamp ? -1 : f > last ? size - 1 : 0;
}
static inline tap4 taps_of(const warp *s, const float *m, int64_t x, int64_t y) {
    float fx = (float)x, fy = (float)y;
    float sx = (m[0] * fx + m[1] * fy) + m[2], sy = (m[3] * fx + m[4] * fy) + m[5];
    float x0 = __builtin_floorf(sx), y0 = __builtin_floorf(sy), wx = sx - x0, wy = sy - y0, vx = 1.0f - wx, vy = 1.0f - wy;
    int64_t c0 = inside(x0, s->w, s->clamp), c1 = inside(x0 + 1.0f, s->w, s->clamp), r0 = inside(y0, s->h, s->clamp), r1 = inside(y0 + 1.0f, s->h, s->clamp);
    return (tap4){{r0 < 0 || c0 < 0 ? -1 : r0 * s->w + c0, r0 < 0 || c1 < 0 ? -1 : r0 * s->w + c1,
                   r1 < 0 || c0 < 0 ? -1 : r1 * s->w + c0, r1 < 0 || c1 < 0 ? -1 : r1 * s->w + c1}, {vx * vy, wx * vy, vx * wy, wx * wy}};
}
static inline float tap_value(const float *plane, int64_t at) { return at < 0 ? 0.0f : plane[at]; }
static void warp_rows(void *ctx, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const warp *s = ctx;
    for (int64_t row = begin; row < end; row++) {
        int64_t n = row / s->oh, y = row % s->oh;
        for (int64_t x = 0; x < s->ow; x++) {
            tap4 t = taps_of(s, s->m + n * 6, x, y);
            const float *plane = s->in + n * s->c * s->h * s->w;
            float *out = s->out + (n * s->c * s->oh + y) * s->ow + x;
            for (int64_t c = 0; c < s->c; c++, plane += s->h * s->w, out += s->oh * s->ow) {
                float v00 = tap_value(plane, t.at[0]), v01 = tap_value(plane, t.at[1]), v10 = tap_value(plane, t.at[2]), v11 = tap_value(plane, t.at[3]);
                *out = ((v00 * t.weight[0] + v01 * t.weight[1]) + v10 * t.weight[2]) + v11 * t.weight[3];
            }
        }
    }
}
static void warp_dx_planes(void *ctx, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const warp *s = ctx;
    for (int64_t k = begin; k < end; k++) {
        const float *dy = s->in + k * s->oh * s->ow, *m = s->m + k / s->c * 6;
        float *dx = s->out + k * s->h * s->w;
        memset(dx, 0, (size_t)(s->h * s->w) * sizeof *dx);
        for (int64_t y = 0; y < s->oh; y++) for (int64_t x = 0; x < s->ow; x++, dy++) {
            tap4 t = taps_of(s, m, x, y);
            for (int i = 0; i < 4; i++) if (t.at[i] >= 0) dx[t.at[i]] += *dy * t.weight[i];
        }
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
