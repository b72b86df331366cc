/* Pictures [N, C, H, W]: pools, nearest upsampling, affine warp, and their adjoints. */
#include "backend/ref/ref.h"
#include <math.h>
#include <string.h>

static int one_if_zero(int v) { return v ? v : 1; }
static void zero(const lk_kernel_call *c) { memset(c->out, 0, (size_t)lk_numel(c->node->shape) * sizeof(double)); }

/* ---- pools ---------------------------------------------------------------------------------------- */
/* The window of output (oh, ow) within the picture, and the divisor of an average. */
typedef struct { int64_t top, left, bottom, right; double divisor; } window;
static window window_at(const lk_pool2d *a, lk_shape x, int64_t oh, int64_t ow) {
    int64_t top = oh * one_if_zero(a->stride[0]) - a->pad[0], left = ow * one_if_zero(a->stride[1]) - a->pad[1];
    int64_t bottom = top + a->kernel[0], right = left + a->kernel[1];
    window w = {top < 0 ? 0 : top, left < 0 ? 0 : left, bottom > x.d[2] ? x.d[2] : bottom, right > x.d[3] ? x.d[3] : right, 0};
    int64_t inside = w.bottom > w.top && w.right > w.left ? (w.bottom - w.top) * (w.right - w.left) : 0;
    w.divisor = (double)(a->count_pad ? (int64_t)a->kernel[0] * a->kernel[1] : inside);
    return w;
}
/* Element of x that is the first largest of the window of y's element i; -1 if the window lies in the padding. */
static int64_t largest(const lk_kernel_call *c, lk_shape y, int64_t i) {
    const double *x = c->in[0];
    lk_shape s = c->in_shape[0];
    int64_t at[LK_MAX_RANK], best = -1;
    ref_where(y, i, at);
    window w = window_at(&c->node->attr.pool, s, at[2], at[3]);
    for (int64_t h = w.top; h < w.bottom; h++) for (int64_t v = w.left; v < w.right; v++) {
        int64_t j = ref_index(s, (int64_t[]){at[0], at[1], h, v});
        if (best < 0 || x[j] > x[best]) best = j;
    }
    return best;
}
static void max_pool2d(const lk_kernel_call *c) {
    double *out = c->out;
    for (int64_t i = 0, n = lk_numel(c->node->shape); i < n; i++) { int64_t j = largest(c, c->node->shape, i); out[i] = j < 0 ? -INFINITY : ((double *)c->in[0])[j]; }
}
static void max_pool2d_dx(const lk_kernel_call *c) {
    zero(c);
    for (int64_t i = 0, n = lk_numel(c->in_shape[1]); i < n; i++) { int64_t j = largest(c, c->in_shape[1], i); if (j >= 0) ((double *)c->out)[j] += ((double *)c->in[1])[i]; }
}
static void max_pool2d_at(const lk_kernel_call *c) {
    for (int64_t i = 0, n = lk_numel(c->node->shape); i < n; i++) { int64_t j = largest(c, c->node->shape, i); ((double *)c->out)[i] = j < 0 ? 0 : ((double *)c->in[1])[j]; }
}

/* Adds factor / divisor between every element of y and the elements of its window: forward y += x, backward x += y. */
static void average(const lk_kernel_call *c, lk_shape x, lk_shape y, double *px, double *py, bool forward) {
    zero(c);
    for (int64_t i = 0, n = lk_numel(y); i < n; i++) {
        int64_t at[LK_MAX_RANK];
        ref_where(y, i, at);
        window w = window_at(&c->node->attr.pool, x, at[2], at[3]);
        for (int64_t h = w.top; h < w.bottom; h++) for (int64_t v = w.left; v < w.right; v++) {
            int64_t j = ref_index(x, (int64_t[]){at[0], at[1], h, v});
            if (forward) py[i] += px[j] / w.divisor; else px[j] += py[i] / w.divisor;
        }
    }
}
static void avg_pool2d(const lk_kernel_call *c)    { average(c, c->in_shape[0], c->node->shape, c->in[0], c->out, true); }
static void avg_pool2d_dx(const lk_kernel_call *c) { average(c, c->node->shape, c->in_shape[0], c->out, c->in[0], false); }

/* ---- nearest upsampling ------------------------------------------------------------------------------ */
static int64_t nearest(lk_shape small, lk_shape large, int64_t i) {
    int64_t at[LK_MAX_RANK];
    ref_where(large, i, at);
    for (int k = 2; k < 4; k++) at[k] = at[k] * small.d[k] / large.d[k];
    return ref_index(small, at);
}
static void upsample_nearest(const lk_kernel_call *c) {
    for (int64_t i = 0, n = lk_numel(c->node->shape); i < n; i++) ((double *)c->out)[i] = ((double *)c->in[0])[nearest(c->in_shape[0], c->node->shape, i)];
}
static void upsample_nearest_dx(const lk_kernel_call *c) {
    zero(c);
    for (int64_t i = 0, n = lk_numel(c->in_shape[0]); i < n; i++) ((double *)c->out)[nearest(c->node->shape, c->in_shape[0], i)] += ((double *)c->in[0])[i];
}

/* ---- affine warp --------------------------------------------------------------------------------------- */
/* Weight of source pixel p for a sampling position s on one axis of length n: the hat function of width 1,
 * where with `clamp` the position is first brought back into the picture. */
static double hat(double s, int64_t p, int64_t n, bool clamp) {
    if (clamp) s = fmin(fmax(s, 0), (double)(n - 1));
    double w = 1 - fabs(s - (double)p);
    return w > 0 ? w : 0;
}
static void warp(const lk_kernel_call *c, lk_shape x, lk_shape y, double *px, double *py, bool forward) {
    const double *matrix = c->in[1];
    bool clamp = c->node->attr.warp.clamp;
    zero(c);
    for (int64_t i = 0, n = lk_numel(y); i < n; i++) {
        int64_t at[LK_MAX_RANK];
        ref_where(y, i, at);
        const double *m = matrix + at[0] * 6;
        double u = (double)at[3], v = (double)at[2], sx = m[0] * u + m[1] * v + m[2], sy = m[3] * u + m[4] * v + m[5];
        for (int64_t h = 0; h < x.d[2]; h++) for (int64_t w = 0; w < x.d[3]; w++) {
            double row = hat(sy, h, x.d[2], clamp), weight = row > 0 ? row * hat(sx, w, x.d[3], clamp) : 0;
            if (!(weight > 0)) continue;
            int64_t j = ref_index(x, (int64_t[]){at[0], at[1], h, w});
            if (forward) py[i] += weight * px[j]; else px[j] += weight * py[i];
        }
    }
}
static void affine_warp(const lk_kernel_call *c)    { warp(c, c->in_shape[0], c->node->shape, c->in[0], c->out, true); }
static void affine_warp_dx(const lk_kernel_call *c) { warp(c, c->node->shape, c->in_shape[0], c->out, c->in[0], false); }

void ref_picture(lk_kernel *table) {
    table[LK_OP_max_pool2d] = max_pool2d;
    table[LK_OP_max_pool2d_dx] = max_pool2d_dx;
    table[LK_OP_max_pool2d_at] = max_pool2d_at;
    table[LK_OP_avg_pool2d] = avg_pool2d;
    table[LK_OP_avg_pool2d_dx] = avg_pool2d_dx;
    table[LK_OP_upsample_nearest] = upsample_nearest;
    table[LK_OP_upsample_nearest_dx] = upsample_nearest_dx;
    table[LK_OP_affine_warp] = affine_warp;
    table[LK_OP_affine_warp_dx] = affine_warp_dx;
}
