/* Pools, nearest upsampling and the affine warp with their adjoints (docs/numerics.md rules 3, 6 and 11). One thread an
 * output; an adjoint's thread owns a pixel of the picture (the warp's: a row) and adds what reaches it in increasing
 * index of the source, so that there is no atomic addition. */
#ifndef LK_CUDA_BODY_PICTURE_H
#define LK_CUDA_BODY_PICTURE_H
#include "backend/cuda/phase.h"

/* h, w: the picture; oh, ow: the pooled one. */
typedef struct { float *out; const float *x, *dy; int64_t planes, h, w, oh, ow, kernel[2], stride[2], pad[2], padded[2]; int count_pad; } lk_pool_args;
typedef struct { int64_t lo, hi; } lk_span;
/* Taps of pooled position o that lie in the picture. */
LK_BODY lk_span lk_pool_taps(const lk_pool_args *p, int axis, int64_t o) {
    int64_t first = o * p->stride[axis] - p->pad[axis];
    lk_span s; s.lo = lk_greater(first, 0); s.hi = lk_lesser(first + p->kernel[axis], axis ? p->w : p->h);
    return s;
}
/* Pooled positions whose window holds position i of the picture. */
LK_BODY lk_span lk_pool_windows(const lk_pool_args *p, int axis, int64_t i) {
    int64_t at = i + p->pad[axis], past = at - p->kernel[axis] + 1;
    lk_span s; s.lo = past > 0 ? (past + p->stride[axis] - 1) / p->stride[axis] : 0; s.hi = lk_lesser(at / p->stride[axis] + 1, axis ? p->ow : p->oh);
    return s;
}
/* Where in the plane the first maximum of window (o, q) stands, -1 where it is padding only. */
LK_BODY int64_t lk_pool_best(const lk_pool_args *p, const float *x, int64_t o, int64_t q) {
    lk_span r = lk_pool_taps(p, 0, o), c = lk_pool_taps(p, 1, q);
    if (r.lo >= r.hi || c.lo >= c.hi) return -1;
    int64_t best = r.lo * p->w + c.lo;
    for (int64_t i = r.lo; i < r.hi; i++) for (int64_t j = c.lo; j < c.hi; j++) if (x[i * p->w + j] > x[best]) best = i * p->w + j;
    return best;
}
LK_BODY float lk_pool_divisor(const lk_pool_args *p, int64_t o, int64_t q) {
    lk_span r = lk_pool_taps(p, 0, o), c = lk_pool_taps(p, 1, q);
    int64_t top = o * p->stride[0], left = q * p->stride[1];
    int64_t height = p->count_pad ? lk_lesser(top + p->kernel[0], p->padded[0]) - top : lk_greater(0, r.hi - r.lo);
    return (float)(height * (p->count_pad ? lk_lesser(left + p->kernel[1], p->padded[1]) - left : lk_greater(0, c.hi - c.lo)));
}
LK_BODY void lk_body_max_pool(lk_block *b, const lk_pool_args *p) {         /* dy given: its value where x's maximum stands */
    LK_BEGIN(b, t)
        LK_EVERY(b, t, i, p->planes * p->oh * p->ow) {
            int64_t plane = i / (p->oh * p->ow) * p->h * p->w, at = lk_pool_best(p, p->x + plane, i / p->ow % p->oh, i % p->ow);
            p->out[i] = p->dy ? at < 0 ? 0.0f : p->dy[plane + at] : at < 0 ? -lk_inff() : p->x[plane + at];
        }
    LK_END
}
LK_BODY void lk_body_max_pool_dx(lk_block *b, const lk_pool_args *p) {
    LK_BEGIN(b, t)
        LK_EVERY(b, t, i, p->planes * p->h * p->w) {
            int64_t k = i / (p->h * p->w), at = i % (p->h * p->w);
            lk_span r = lk_pool_windows(p, 0, at / p->w), c = lk_pool_windows(p, 1, at % p->w);
            float sum = 0.0f;
            for (int64_t o = r.lo; o < r.hi; o++) for (int64_t q = c.lo; q < c.hi; q++)
                if (lk_pool_best(p, p->x + k * p->h * p->w, o, q) == at) sum += p->dy[(k * p->oh + o) * p->ow + q];
            p->out[i] = sum;
        }
    LK_END
}
LK_BODY void lk_body_avg_pool(lk_block *b, const lk_pool_args *p) {
    LK_BEGIN(b, t)
        LK_EVERY(b, t, i, p->planes * p->oh * p->ow) {
            int64_t k = i / (p->oh * p->ow), o = i / p->ow % p->oh, q = i % p->ow;
            lk_span r = lk_pool_taps(p, 0, o), c = lk_pool_taps(p, 1, q);
            float sum = 0.0f;
            for (int64_t y = r.lo; y < r.hi; y++) for (int64_t x = c.lo; x < c.hi; x++) sum += p->x[(k * p->h + y) * p->w + x];
            p->out[i] = sum / lk_pool_divisor(p, o, q);
        }
    LK_END
}
LK_BODY void lk_body_avg_pool_dx(lk_block *b, const lk_pool_args *p) {
    LK_BEGIN(b, t)
        LK_EVERY(b, t, i, p->planes * p->h * p->w) {
            int64_t k = i / (p->h * p->w), at = i % (p->h * p->w);
            lk_span r = lk_pool_windows(p, 0, at / p->w), c = lk_pool_windows(p, 1, at % p->w);
            float sum = 0.0f;
            for (int64_t o = r.lo; o < r.hi; o++) for (int64_t q = c.lo; q < c.hi; q++) sum += p->dy[(k * p->oh + o) * p->ow + q] / lk_pool_divisor(p, o, q);
            p->out[i] = sum;
        }
    LK_END
}

/* ---- nearest upsampling: source index floor(o * in / out); h, w the small picture ------------------------------------- */
typedef struct { float *out; const float *in; int64_t planes, h, w, oh, ow; } lk_nearest_args;
LK_BODY void lk_body_upsample(lk_block *b, const lk_nearest_args *a) {
    LK_BEGIN(b, t)
        LK_EVERY(b, t, i, a->planes * a->oh * a->ow)
            a->out[i] = a->in[(i / (a->oh * a->ow) * a->h + i / a->ow % a->oh * a->h / a->oh) * a->w + i % a->ow * a->w / a->ow];
    LK_END
}
LK_BODY void lk_body_upsample_dx(lk_block *b, const lk_nearest_args *a) {
    LK_BEGIN(b, t)
        LK_EVERY(b, t, i, a->planes * a->h * a->w) {
            int64_t k = i / (a->h * a->w), r = i / a->w % a->h, c = i % a->w;
            float sum = 0.0f;
            for (int64_t y = (r * a->oh + a->h - 1) / a->h; y < ((r + 1) * a->oh + a->h - 1) / a->h; y++)
                for (int64_t x = (c * a->ow + a->w - 1) / a->w; x < ((c + 1) * a->ow + a->w - 1) / a->w; x++) sum += a->in[(k * a->oh + y) * a->ow + x];
            a->out[i] = sum;
        }
    LK_END
}

/* ---- affine warp: h, w the source picture, channels of a sample --------------------------------------------------------- */
typedef struct { float *out; const float *in, *m; int64_t planes, channels, h, w, oh, ow; int clamp; } lk_warp_args;
typedef struct { int32_t row[4], col[4]; float weight[4]; } lk_warp_taps;          /* taps 00, 01, 10, 11; -1: outside */
LK_BODY int32_t lk_warp_inside(float f, float last, int clamp) {
    float held = f > last ? last : f > 0 ? f : 0.0f;
    return clamp || held == f ? (int32_t)held : -1;
}
LK_BODY lk_warp_taps lk_warp_at(const lk_warp_args *a, const float *m, int64_t y, int64_t x) {
    float fx = (float)x, fy = (float)y, right = (float)(a->w - 1), bottom = (float)(a->h - 1);
    float sx = (m[0] * fx + m[1] * fy) + m[2], sy = (m[3] * fx + m[4] * fy) + m[5];
    float x0 = lk_floorf(sx), y0 = lk_floorf(sy), wx = sx - x0, wy = sy - y0, vx = 1.0f - wx, vy = 1.0f - wy;
    lk_warp_taps s;
    s.col[0] = s.col[2] = lk_warp_inside(x0, right, a->clamp); s.col[1] = s.col[3] = lk_warp_inside(x0 + 1.0f, right, a->clamp);
    s.row[0] = s.row[1] = lk_warp_inside(y0, bottom, a->clamp); s.row[2] = s.row[3] = lk_warp_inside(y0 + 1.0f, bottom, a->clamp);
    s.weight[0] = vx * vy; s.weight[1] = wx * vy; s.weight[2] = vx * wy; s.weight[3] = wx * wy;
    return s;
}
LK_BODY void lk_body_warp(lk_block *b, const lk_warp_args *a) {
    LK_BEGIN(b, t)
        LK_EVERY(b, t, i, a->planes * a->oh * a->ow) {
            int64_t k = i / (a->oh * a->ow);
            lk_warp_taps s = lk_warp_at(a, a->m + k / a->channels * 6, i / a->ow % a->oh, i % a->ow);
            float v[4];
            for (int q = 0; q < 4; q++) v[q] = s.row[q] < 0 || s.col[q] < 0 ? 0.0f : a->in[(k * a->h + s.row[q]) * a->w + s.col[q]];
            a->out[i] = ((v[0] * s.weight[0] + v[1] * s.weight[1]) + v[2] * s.weight[2]) + v[3] * s.weight[3];
        }
    LK_END
}
LK_BODY void lk_body_warp_dx(lk_block *b, const lk_warp_args *a) {                    /* one thread a row of dx */
    LK_BEGIN(b, t)
        LK_EVERY(b, t, i, a->planes * a->h) {
            int64_t k = i / a->h; float *dx = a->out + i * a->w;
            for (int64_t x = 0; x < a->w; x++) dx[x] = 0.0f;
            for (int64_t y = 0; y < a->oh; y++) for (int64_t x = 0; x < a->ow; x++) {
                lk_warp_taps s = lk_warp_at(a, a->m + k / a->channels * 6, y, x);
                float dy = a->in[(k * a->oh + y) * a->ow + x];
                for (int q = 0; q < 4; q++) if (s.row[q] == i % a->h && s.col[q] >= 0) dx[s.col[q]] += dy * s.weight[q];
            }
        }
    LK_END
}
#endif
