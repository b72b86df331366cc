/* What the convolution kernels share: a node's geometry and the packed weights. */
#ifndef LK_KERNELS_CONV_H
#define LK_KERNELS_CONV_H
#include "backend/cpu/kernels/gemm.h"
#include "backend/cpu/kernels/vec.h"
#include <string.h>

typedef struct {
    int64_t n, groups, cg, og;              /* pictures; channels in and out of one group */
    int64_t h, w, oh, ow;                   /* x and y */
    int64_t kh, kw, sh, sw, dh, dw, top, left;
} lk_conv_geometry;
/* Of a conv2d, conv2d_dx or conv2d_dw node. */
static inline lk_conv_geometry lk_conv_geometry_of(const lk_node *node, const lk_shape *in) {
    const lk_conv *a = &node->attr.conv;
    const lk_shape x = node->op == LK_OP_conv2d_dx ? node->shape : in[0];
    const lk_shape w = node->op == LK_OP_conv2d_dw ? node->shape : in[1];
    const lk_shape y = node->op == LK_OP_conv2d ? node->shape : node->op == LK_OP_conv2d_dx ? in[0] : in[1];
    lk_conv_geometry g = {.n = x.d[0], .h = x.d[2], .w = x.d[3], .oh = y.d[2], .ow = y.d[3], .kh = w.d[2], .kw = w.d[3], .top = a->pad[0], .left = a->pad[1]};
    g.groups = a->groups ? a->groups : 1;
    g.cg = w.d[1]; g.og = w.d[0] / g.groups;
    g.sh = a->stride[0] ? a->stride[0] : 1; g.sw = a->stride[1] ? a->stride[1] : 1;
    g.dh = a->dilation[0] ? a->dilation[0] : 1; g.dw = a->dilation[1] ? a->dilation[1] : 1;
    return g;
}
static inline bool lk_conv_depthwise(const lk_conv_geometry *g) { return g->cg == 1 && g->og == 1; }
static inline bool lk_conv_packs(const lk_conv_geometry *g) { return g->kh * g->kw > 1 && !lk_conv_depthwise(g); }
/* Weights [O, C/g, kh, kw] -> [g, kh, kw, C/g, O/g], one input channel c of groups * cg: `rows` x `columns` at from, ld_from apart, are turned. */
typedef struct { int64_t from, ld_from, rows, columns, to, ld_to; } lk_turn;
static inline lk_turn lk_conv_channel_turn(const lk_conv_geometry *g, int64_t c) {
    const int64_t taps = g->kh * g->kw, per_o = g->cg * taps, group = c / g->cg * g->og * per_o;
    return (lk_turn){group + c % g->cg * taps, per_o, g->og, taps, group + c % g->cg * g->og, g->cg * g->og};
}
/* n pixels of one row seen through one tap: row[x0 + j * step], or +0 outside the width (row NULL: all). Writes whole vectors. */
static inline void lk_copy_tap_row(const float *row, int64_t width, int64_t x0, int64_t step, int64_t n, float *to) {
    if (!row) { for (int64_t j = 0; j < n; j += VW) v_store(to + j, v_zero()); return; }
    if (step > 2) { for (int64_t j = 0; j < n; j++) { int64_t x = x0 + j * step; to[j] = x >= 0 && x < width ? row[x] : 0.0f; } return; }
    for (int64_t j = 0; j < n; j += VW) {
        int64_t x = x0 + j * step, lo = x < 0 ? (-x + step - 1) / step : 0, hi = x < width ? (width - x + step - 1) / step : 0;
        int from = v_clamp(lo), end = v_clamp(lk_k_max(from, lk_k_min(hi, n - j)));
        if (step == 1) v_store(to + j, v_load_mask(row + x, v_mask(from, end)));
        else v_store(to + j, v_even(v_load_mask(row + x, v_mask_even(from, end, 0)), v_load_mask(row + x + VW, v_mask_even(from, end, 1))));
    }
}
/* Rows [y0, y0 + rows) and columns [x0, x0 + step * width) of an h x w plane, +0 outside: element (y, x) lies at
 * ((y - y0) * step + (x - x0) % step) * width + (x - x0) / step. */
typedef struct { int64_t y0, x0, rows, step, width; float *at; } lk_band;

/* Whole vectors run over a row's end into the next row, which is written after, and at last into spare floats. */
enum { LK_SHORT_ROW = 128 };                                 /* rows up to this long keep their masks */
static inline void lk_band_fill(const lk_band *b, const float *plane, int64_t h, int64_t w) {
    float *to = b->at;
    vmask mask[LK_SHORT_ROW / VW]; memset(mask, 0, sizeof mask);
    const bool keep = b->step == 1 && b->width <= LK_SHORT_ROW;
    for (int64_t x = 0; keep && x < b->width; x += VW) {
        const int from = v_clamp(-b->x0 - x), end = v_clamp(w - b->x0 - x);
        mask[x / VW] = v_mask(from, end < from ? from : end);
    }
    for (int64_t y = b->y0; y < b->y0 + b->rows; y++) {
        const float *from = y >= 0 && y < h ? plane + y * w : NULL;
        if (keep && from) {
            for (int64_t x = 0; x < b->width; x += VW) v_store(to + x, v_load_mask(from + b->x0 + x, mask[x / VW]));
            to += b->width;
        } else
            for (int64_t phase = 0; phase < b->step; phase++, to += b->width) lk_copy_tap_row(from, w, b->x0 + phase, b->step, b->width, to);
    }
}
/* depthwise.c: conv2d and conv2d_dx of one channel a group. */
void LK_KNAME(lk_depthwise)(const lk_kernel_call *);
void LK_KNAME(lk_depthwise_dx)(const lk_kernel_call *);
int64_t LK_KNAME(lk_depthwise_floats)(const lk_node *, const lk_shape *in_shape);   /* workspace of a thread */
#define lk_depthwise LK_KNAME(lk_depthwise)
#define lk_depthwise_floats LK_KNAME(lk_depthwise_floats)
#define lk_depthwise_dx LK_KNAME(lk_depthwise_dx)
#endif
