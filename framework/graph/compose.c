/* compose: builders made of other builders. No operation of their own, so no kernel, no gradient rule: what stands here
 * in one line is also its arithmetic, each call one rounding. */
#include "graph/internal.h"

static const lk_axes last = {.n = 1, .axis = {-1}}, last_kept = {.n = 1, .axis = {-1}, .keep = true};

/* ---- elementwise ----------------------------------------------------------------------------------- */
lk_val lk_scale(lk_graph *g, lk_val x, double s) { return s == 1 ? x : lk_mul(g, x, lk_scalar(g, s)); }
lk_val lk_shift(lk_graph *g, lk_val x, double s) { return lk_add(g, x, lk_scalar(g, s)); }
lk_val lk_square(lk_graph *g, lk_val x) { return lk_mul(g, x, x); }
lk_val lk_relu(lk_graph *g, lk_val x) { return lk_max(g, lk_scalar(g, 0), x); }
lk_val lk_lerp(lk_graph *g, lk_val a, lk_val b, lk_val t) { return lk_add(g, a, lk_mul(g, t, lk_sub(g, b, a))); }

static lk_val positive_or(lk_graph *g, lk_val x, lk_val otherwise) { return lk_where(g, lk_less(g, lk_scalar(g, 0), x), x, otherwise); }
lk_val lk_leaky_relu(lk_graph *g, lk_val x, double slope) { return positive_or(g, x, lk_scale(g, x, slope)); }

static lk_val channel_values(lk_graph *g, lk_val v, int rank) {       /* [C] as [C, 1, ...] against [N, C, ...] */
    lk_shape s = {.rank = rank - 1};
    for (int i = 0; i < s.rank; i++) s.d[i] = i ? 1 : lk_dim(g, v, 0);
    return lk_reshape(g, v, s);
}

lk_val lk_prelu(lk_graph *g, lk_val x, lk_val alpha) {
    int rank = lk_shape_of(g, x).rank;
    if (lk_ok(x) && lk_ok(alpha) && (rank < 2 || !lk_shape_eq(lk_shape_of(g, alpha), LK_SHAPE(lk_dim(g, x, 1))))) {
        lk_graph_fail(g, LK_ESHAPE, "prelu(%s, %s): alpha is one number a channel (axis 1 of x)", lk_val_text(g, g->arena, x), lk_val_text(g, g->arena, alpha));
        return LK_NONE;
    }
    return positive_or(g, x, lk_mul(g, rank < 2 ? alpha : channel_values(g, alpha, rank), x));
}

/* ---- reductions and losses --------------------------------------------------------------------------- */
lk_val lk_keep_axes(lk_graph *g, lk_val reduced, lk_shape of, lk_axes axes) {
    return lk_reshape(g, reduced, lk_shape_reduced(of, axes, true));
}

lk_val lk_sum_to(lk_graph *g, lk_val x, lk_shape to) {
    lk_shape from = lk_shape_of(g, x);
    if (!lk_ok(x) || lk_shape_eq(from, to)) return x;
    if (!lk_shape_valid(to) || !lk_shape_reaches(to, from)) {
        lk_graph_fail(g, LK_ESHAPE, "sum_to(%s): %s does not broadcast to it", lk_val_text(g, g->arena, x), lk_shape_text(g->arena, to));
        return LK_NONE;
    }
    lk_axes axes = {0};
    for (int i = 0; i < from.rank; i++) {
        int j = i - (from.rank - to.rank);
        if (from.d[i] != (j < 0 ? 1 : to.d[j])) axes.axis[axes.n++] = i;
    }
    return lk_reshape(g, axes.n ? lk_reduce_sum(g, x, axes) : x, to);
}

static lk_axes every_axis(lk_shape s) {
    lk_axes a = {.n = s.rank};
    for (int i = 0; i < s.rank; i++) a.axis[i] = i;
    return a;
}

lk_val lk_sum_all(lk_graph *g, lk_val x) {
    lk_shape s = lk_shape_of(g, x);
    return s.rank && lk_ok(x) ? lk_reduce_sum(g, x, every_axis(s)) : x;
}

lk_val lk_mean(lk_graph *g, lk_val x, lk_axes axes) {
    lk_val sum = lk_reduce_sum(g, x, axes);
    if (!lk_ok(sum)) return LK_NONE;
    return lk_div(g, sum, lk_scalar(g, (double)(lk_numel(lk_shape_of(g, x)) / lk_numel(lk_shape_of(g, sum)))));
}

lk_val lk_mean_all(lk_graph *g, lk_val x) {
    lk_shape s = lk_shape_of(g, x);
    return s.rank && lk_ok(x) ? lk_mean(g, x, every_axis(s)) : x;
}

lk_val lk_mse(lk_graph *g, lk_val a, lk_val b) { return lk_mean_all(g, lk_square(g, lk_sub(g, a, b))); }

/* 0.5 d^2 where |d| < delta, else delta (|d| - 0.5 delta) */
lk_val lk_huber(lk_graph *g, lk_val a, lk_val b, double delta) {
    lk_val d = lk_sub(g, a, b), size = lk_abs(g, d);
    lk_val near = lk_mul(g, lk_scale(g, d, 0.5), d);
    lk_val far = lk_scale(g, lk_shift(g, size, -0.5 * delta), delta);
    return lk_mean_all(g, lk_where(g, lk_less(g, size, lk_scalar(g, delta)), near, far));
}

/* The floor is put under the squares, so that a zero vector has a finite gradient. */
lk_val lk_cosine(lk_graph *g, lk_val a, lk_val b, double eps) {
    lk_val squares = lk_mul(g, lk_reduce_sum(g, lk_square(g, a), last), lk_reduce_sum(g, lk_square(g, b), last));
    lk_val norms = lk_sqrt(g, lk_max(g, squares, lk_scalar(g, eps * eps)));
    return lk_div(g, lk_reduce_sum(g, lk_mul(g, a, b), last), norms);
}

lk_val lk_normalize(lk_graph *g, lk_val x, double eps) {
    lk_val square = lk_reduce_sum(g, lk_square(g, x), last_kept);
    return lk_div(g, x, lk_sqrt(g, lk_max(g, square, lk_scalar(g, eps * eps))));
}

lk_val lk_log_softmax(lk_graph *g, lk_val x) {
    lk_val d = lk_sub(g, x, lk_detach(g, lk_reduce_max(g, x, last_kept)));
    return lk_sub(g, d, lk_log(g, lk_row_sum(g, lk_exp(g, d))));
}

lk_val lk_cross_entropy(lk_graph *g, lk_val logits, lk_val onehot) {
    if (lk_ok(logits) && lk_ok(onehot) && (lk_shape_of(g, logits).rank != 2 || !lk_shape_eq(lk_shape_of(g, logits), lk_shape_of(g, onehot)))) {
        lk_graph_fail(g, LK_ESHAPE, "cross_entropy(%s, %s): both are [B, V]", lk_val_text(g, g->arena, logits), lk_val_text(g, g->arena, onehot));
        return LK_NONE;
    }
    lk_val likelihood = lk_reduce_sum(g, lk_mul(g, onehot, lk_log_softmax(g, logits)), last);
    return lk_neg(g, lk_mean_all(g, likelihood));
}

lk_val lk_global_norm(lk_graph *g, const lk_val *v, int n) {
    lk_val sum = LK_NONE;
    for (int i = 0; i < n; i++) {
        lk_val square = lk_sum_all(g, lk_square(g, v[i]));
        sum = i ? lk_add(g, sum, square) : square;
    }
    return n > 0 ? lk_sqrt(g, sum) : lk_scalar(g, 0);
}

/* ---- layers -------------------------------------------------------------------------------------------- */
lk_val lk_linear(lk_graph *g, lk_val x, lk_val w, lk_val bias) { return lk_matmul(g, x, w, bias, (lk_mm){.tb = true}); }

lk_val lk_swiglu(lk_graph *g, lk_val x) {
    int64_t d = lk_dim(g, x, -1);
    if (d % 2) return lk_graph_fail(g, LK_ESHAPE, "swiglu(%s): the last axis has odd size", lk_val_text(g, g->arena, x)), LK_NONE;
    return lk_mul(g, lk_silu(g, lk_slice(g, x, -1, 0, d / 2)), lk_slice(g, x, -1, d / 2, d));
}

lk_val lk_modulate(lk_graph *g, lk_val x, lk_val shift, lk_val scale) {
    lk_shape row = LK_SHAPE(lk_dim(g, x, 0), 1, lk_dim(g, x, -1));
    return lk_add(g, lk_mul(g, x, lk_shift(g, lk_reshape(g, scale, row), 1)), lk_reshape(g, shift, row));
}

/* ---- conv3d: conv2d over the frames a depth tap meets ------------------------------------------------------ */
/* x [N,C,D,H,W] -> [N*OD, C, H, W]: the frames kd, kd + stride, ...; D is padded so that OD * stride frames follow kd. */
static lk_val frames_at(lk_graph *g, lk_val padded, int64_t kd, int64_t od, int stride) {
    lk_shape s = lk_shape_of(g, padded);
    lk_val run = lk_slice(g, padded, 2, kd, kd + od * stride);
    if (stride > 1) {
        run = lk_slice(g, lk_reshape(g, run, LK_SHAPE(s.d[0], s.d[1], od, stride, s.d[3] * s.d[4])), 3, 0, 1);
        run = lk_reshape(g, run, LK_SHAPE(s.d[0], s.d[1], od, s.d[3], s.d[4]));
    }
    run = lk_permute(g, run, (int[]){0, 2, 1, 3, 4});
    return lk_reshape(g, run, LK_SHAPE(s.d[0] * od, s.d[1], s.d[3], s.d[4]));
}

static lk_val depth_tap(lk_graph *g, lk_val w, int64_t kd) {         /* [O,C,kh,kw] */
    lk_shape s = lk_shape_of(g, w);
    return lk_reshape(g, lk_slice(g, w, 2, kd, kd + 1), LK_SHAPE(s.d[0], s.d[1], s.d[3], s.d[4]));
}

lk_val lk_conv3d(lk_graph *g, lk_val x, lk_val w, lk_val bias, const int stride[3], const int pad[3]) {
    lk_shape xs = lk_shape_of(g, x), ws = lk_shape_of(g, w);
    if (!lk_ok(x) || !lk_ok(w)) return LK_NONE;
    int64_t room = xs.rank == 5 && ws.rank == 5 ? xs.d[2] + 2 * pad[0] - ws.d[2] : -1;
    if (room < 0 || xs.d[1] != ws.d[1] || stride[0] < 1 || pad[0] < 0) {
        lk_graph_fail(g, LK_ESHAPE, "conv3d(%s, %s): x is [N,C,D,H,W], w [O,C,kd,kh,kw] no deeper than the padded x", lk_val_text(g, g->arena, x),
                      lk_val_text(g, g->arena, w));
        return LK_NONE;
    }
    int64_t kd = ws.d[2], od = room / stride[0] + 1, needed = (kd - 1) + od * stride[0], have = xs.d[2] + 2 * pad[0];
    lk_window depth = {.lo = {[2] = pad[0]}, .hi = {[2] = pad[0] + (needed > have ? needed - have : 0)}};
    lk_val padded = lk_pad(g, x, depth), y = LK_NONE;
    lk_conv plane = {.stride = {stride[1], stride[2]}, .pad = {pad[1], pad[2], pad[1], pad[2]}};
    if (ws.d[3] == 1 && ws.d[4] == 1 && kd > 1 && kd <= 64) {        /* the taps are channels of one product: k over (kd, c) */
        lk_val taps[64];
        for (int64_t i = 0; i < kd; i++) taps[i] = frames_at(g, padded, i, od, stride[0]);
        lk_val flat = lk_reshape(g, lk_permute(g, w, (int[]){0, 2, 1, 3, 4}), LK_SHAPE(ws.d[0], kd * ws.d[1], 1, 1));
        y = lk_conv2d(g, lk_concat(g, taps, (int)kd, 1), flat, LK_NONE, plane);
    } else {
        for (int64_t i = 0; i < kd; i++) {
            lk_val part = lk_conv2d(g, frames_at(g, padded, i, od, stride[0]), depth_tap(g, w, i), LK_NONE, plane);
            y = i ? lk_add(g, y, part) : part;
        }
    }
    if (lk_ok(bias)) y = lk_add(g, y, lk_reshape(g, bias, LK_SHAPE(ws.d[0], 1, 1)));
    lk_shape ys = lk_shape_of(g, y);
    y = lk_reshape(g, y, LK_SHAPE(xs.d[0], od, ws.d[0], ys.d[2], ys.d[3]));
    return lk_permute(g, y, (int[]){0, 2, 1, 3, 4});
}
