/* build: the public builders of single operations. Each makes its attribute canonical (defaults filled in, unused
 * fields zero, so that equal nodes compare equal) and emits. What needs the inputs' shapes is checked by the shape rules. */
#include "graph/internal.h"

static lk_attr blank(void) {
    lk_attr a;
    memset(&a, 0, sizeof a);
    return a;
}

static void put_shape(lk_shape *to, lk_shape s) {      /* into a zeroed attribute: only used sizes are copied */
    to->rank = s.rank;
    for (int i = 0; i < s.rank && i < LK_MAX_RANK; i++) to->d[i] = s.d[i];
}

/* ---- elementwise ----------------------------------------------------------------------------------- */
#define UNARY(name)  lk_val lk_##name(lk_graph *g, lk_val x) { return LK_EMIT(g, LK_OP_##name, NULL, x); }
#define BINARY(name) lk_val lk_##name(lk_graph *g, lk_val a, lk_val b) { return LK_EMIT(g, LK_OP_##name, NULL, a, b); }
UNARY(neg) UNARY(abs) UNARY(sign) UNARY(exp) UNARY(log) UNARY(sqrt) UNARY(rsqrt) UNARY(recip) UNARY(sin) UNARY(cos) UNARY(tanh)
UNARY(erf) UNARY(sigmoid) UNARY(silu) UNARY(gelu) UNARY(gelu_tanh) UNARY(quick_gelu) UNARY(detach) UNARY(softmax) UNARY(geglu)
BINARY(add) BINARY(sub) BINARY(mul) BINARY(div) BINARY(min) BINARY(max) BINARY(less) BINARY(pow) BINARY(softmax_dx) BINARY(gather_rows)
lk_val lk_where(lk_graph *g, lk_val c, lk_val a, lk_val b) { return LK_EMIT(g, LK_OP_where, NULL, c, a, b); }

/* ---- movement ---------------------------------------------------------------------------------------- */
lk_val lk_reshape(lk_graph *g, lk_val x, lk_shape s) {
    const lk_node *n = lk_graph_node(g, x);
    if (n && lk_shape_eq(n->shape, s)) return x;
    lk_attr a = blank();
    put_shape(&a.shape, s);
    return LK_EMIT(g, LK_OP_reshape, &a, x);
}

lk_val lk_view(lk_graph *g, lk_val flat, int64_t offset, lk_shape s) {
    lk_attr a = blank();
    a.view.offset = offset;
    put_shape(&a.view.shape, s);
    return LK_EMIT(g, LK_OP_view, &a, flat);
}

lk_val lk_permute(lk_graph *g, lk_val x, const int *perm) {
    int rank = lk_shape_of(g, x).rank;
    lk_attr a = blank();
    bool identity = lk_ok(x);
    for (int i = 0; i < rank; i++) {
        a.perm[i] = perm[i] < 0 ? perm[i] + rank : perm[i];
        identity = identity && a.perm[i] == i;
    }
    return identity ? x : LK_EMIT(g, LK_OP_permute, &a, x);
}

lk_val lk_transpose(lk_graph *g, lk_val x, int i, int j) {
    int rank = lk_shape_of(g, x).rank, perm[LK_MAX_RANK];
    if (lk_ok(x) && (!lk_axis_resolve(rank, &i) || !lk_axis_resolve(rank, &j))) {
        lk_graph_fail(g, LK_ESHAPE, "transpose(%s): axis %d or %d is out of range", lk_val_text(g, g->arena, x), i, j);
        return LK_NONE;
    }
    for (int k = 0; k < rank; k++) perm[k] = k == i ? j : k == j ? i : k;
    return lk_permute(g, x, perm);
}

lk_val lk_slice_nd(lk_graph *g, lk_val x, lk_window w) {
    lk_shape s = lk_shape_of(g, x);
    lk_attr a = blank();
    bool whole = lk_ok(x);
    for (int i = 0; i < s.rank; i++) {
        a.window.lo[i] = w.lo[i];
        a.window.hi[i] = w.hi[i];
        whole = whole && w.lo[i] == 0 && w.hi[i] == s.d[i];
    }
    return whole ? x : LK_EMIT(g, LK_OP_slice, &a, x);
}

lk_val lk_slice(lk_graph *g, lk_val x, int axis, int64_t lo, int64_t hi) {
    lk_shape s = lk_shape_of(g, x);
    if (!lk_ok(x)) return lk_slice_nd(g, x, (lk_window){0});
    if (!lk_axis_resolve(s.rank, &axis)) {
        lk_graph_fail(g, LK_ESHAPE, "slice(%s): axis %d is out of range", lk_val_text(g, g->arena, x), axis);
        return LK_NONE;
    }
    lk_window w = {0};
    for (int i = 0; i < s.rank; i++) w.hi[i] = s.d[i];
    w.lo[axis] = lo;
    w.hi[axis] = hi;
    return lk_slice_nd(g, x, w);
}

lk_val lk_pad(lk_graph *g, lk_val x, lk_window w) {
    lk_shape s = lk_shape_of(g, x);
    lk_attr a = blank();
    bool nothing = lk_ok(x);
    for (int i = 0; i < s.rank; i++) {
        a.window.lo[i] = w.lo[i];
        a.window.hi[i] = w.hi[i];
        nothing = nothing && w.lo[i] == 0 && w.hi[i] == 0;
    }
    return nothing ? x : LK_EMIT(g, LK_OP_pad, &a, x);
}

lk_val lk_concat(lk_graph *g, const lk_val *in, int n, int axis) {
    if (n == 1 && lk_ok(in[0])) return in[0];
    lk_attr a = blank();
    a.axis = axis;
    for (int i = 0; i < n; i++)                     /* trailing LK_NONE would be dropped silently */
        if (!lk_ok(in[i])) return LK_EMIT(g, LK_OP_concat, &a, in[i]);
    const lk_op_row *row = lk_op_at(LK_OP_concat);
    if (n <= row->hi) return lk_emit(g, LK_OP_concat, in, n, &a);
    lk_val part[64];                                /* more inputs than the operation takes: concat of concats */
    int parts = 0;
    for (int i = 0; i < n && parts < 64; i += row->hi) part[parts++] = lk_concat(g, in + i, n - i < row->hi ? n - i : row->hi, axis);
    return lk_concat(g, part, parts, axis);
}

lk_val lk_broadcast(lk_graph *g, lk_val x, lk_shape s) {
    const lk_node *n = lk_graph_node(g, x);
    if (n && lk_shape_eq(n->shape, s)) return x;
    lk_attr a = blank();
    put_shape(&a.shape, s);
    return LK_EMIT(g, LK_OP_broadcast, &a, x);
}

lk_val lk_scatter_add_rows(lk_graph *g, lk_val rows, lk_val ids, int64_t count) {
    lk_attr a = blank();
    a.count = count;
    return LK_EMIT(g, LK_OP_scatter_add_rows, &a, rows, ids);
}

/* ---- reductions ------------------------------------------------------------------------------------------ */
static lk_val reduction(lk_graph *g, lk_op op, lk_val x, lk_axes axes) {
    lk_attr a = blank();
    a.axes.n = axes.n;
    a.axes.keep = axes.keep;
    for (int i = 0; i < axes.n && i < LK_MAX_RANK; i++) a.axes.axis[i] = axes.axis[i];
    return LK_EMIT(g, op, &a, x);
}
lk_val lk_reduce_sum(lk_graph *g, lk_val x, lk_axes axes) { return reduction(g, LK_OP_reduce_sum, x, axes); }
lk_val lk_reduce_max(lk_graph *g, lk_val x, lk_axes axes) { return reduction(g, LK_OP_reduce_max, x, axes); }
lk_val lk_max_mask(lk_graph *g, lk_val x, lk_axes axes) {
    axes.keep = false;
    return reduction(g, LK_OP_max_mask, x, axes);
}

/* ---- contractions ------------------------------------------------------------------------------------------ */
lk_val lk_matmul(lk_graph *g, lk_val x, lk_val y, lk_val bias, lk_mm mm) {
    lk_attr a = blank();
    a.matmul.ta = mm.ta;
    a.matmul.tb = mm.tb;
    return LK_EMIT(g, LK_OP_matmul, &a, x, y, bias);
}
lk_val lk_matmul_add(lk_graph *g, lk_val c, lk_val x, lk_val y, double alpha, lk_mm mm) {
    lk_attr a = blank();
    a.matmul.ta = mm.ta;
    a.matmul.tb = mm.tb;
    a.matmul.alpha = alpha;
    return LK_EMIT(g, LK_OP_matmul_add, &a, c, x, y);
}

static lk_attr conv_attr(lk_conv c, bool sized) {
    lk_attr a = blank();
    for (int i = 0; i < 2; i++) {
        a.conv.stride[i] = c.stride[i] ? c.stride[i] : 1;
        a.conv.dilation[i] = c.dilation[i] ? c.dilation[i] : 1;
        a.conv.size[i] = sized ? c.size[i] : 0;
    }
    memcpy(a.conv.pad, c.pad, sizeof c.pad);
    a.conv.groups = c.groups ? c.groups : 1;
    return a;
}
lk_val lk_conv2d(lk_graph *g, lk_val x, lk_val w, lk_val bias, lk_conv c) {
    lk_attr a = conv_attr(c, false);
    return LK_EMIT(g, LK_OP_conv2d, &a, x, w, bias);
}
lk_val lk_conv2d_dx(lk_graph *g, lk_val dy, lk_val w, lk_conv c) {
    lk_attr a = conv_attr(c, true);
    return LK_EMIT(g, LK_OP_conv2d_dx, &a, dy, w);
}
lk_val lk_conv2d_dw(lk_graph *g, lk_val x, lk_val dy, lk_conv c) {
    lk_attr a = conv_attr(c, true);
    return LK_EMIT(g, LK_OP_conv2d_dw, &a, x, dy);
}

/* ---- pictures ------------------------------------------------------------------------------------------------ */
static lk_attr pool_attr(lk_pool2d p, int h, int w) {
    lk_attr a = blank();
    for (int i = 0; i < 2; i++) {
        a.pool.kernel[i] = p.kernel[i];
        a.pool.stride[i] = p.stride[i] ? p.stride[i] : p.kernel[i];
    }
    memcpy(a.pool.pad, p.pad, sizeof p.pad);
    a.pool.count_pad = p.count_pad;
    a.pool.size[0] = h;
    a.pool.size[1] = w;
    return a;
}
static lk_attr pool_attr_of(lk_graph *g, lk_pool2d p, lk_val x) { return pool_attr(p, (int)lk_dim(g, x, 2), (int)lk_dim(g, x, 3)); }
lk_val lk_max_pool2d(lk_graph *g, lk_val x, lk_pool2d p) {
    lk_attr a = pool_attr(p, 0, 0);
    return LK_EMIT(g, LK_OP_max_pool2d, &a, x);
}
lk_val lk_max_pool2d_dx(lk_graph *g, lk_val x, lk_val dy, lk_pool2d p) {
    lk_attr a = pool_attr_of(g, p, x);
    return LK_EMIT(g, LK_OP_max_pool2d_dx, &a, x, dy);
}
lk_val lk_max_pool2d_at(lk_graph *g, lk_val x, lk_val z, lk_pool2d p) {
    lk_attr a = pool_attr(p, 0, 0);
    return LK_EMIT(g, LK_OP_max_pool2d_at, &a, x, z);
}
lk_val lk_avg_pool2d(lk_graph *g, lk_val x, lk_pool2d p) {
    lk_attr a = pool_attr(p, 0, 0);
    return LK_EMIT(g, LK_OP_avg_pool2d, &a, x);
}
lk_val lk_avg_pool2d_dx(lk_graph *g, lk_val dy, lk_pool2d p) {
    lk_attr a = pool_attr(p, p.size[0], p.size[1]);
    return LK_EMIT(g, LK_OP_avg_pool2d_dx, &a, dy);
}

static lk_val upsample(lk_graph *g, lk_op op, lk_val x, int h, int w) {
    lk_attr a = blank();
    a.size[0] = h;
    a.size[1] = w;
    return LK_EMIT(g, op, &a, x);
}
lk_val lk_upsample_nearest(lk_graph *g, lk_val x, int h, int w) { return upsample(g, LK_OP_upsample_nearest, x, h, w); }
lk_val lk_upsample_nearest_dx(lk_graph *g, lk_val dy, int h, int w) { return upsample(g, LK_OP_upsample_nearest_dx, dy, h, w); }

static lk_val warp(lk_graph *g, lk_op op, lk_val x, lk_val m, lk_warp w) {
    lk_attr a = blank();
    a.warp.size[0] = w.size[0];
    a.warp.size[1] = w.size[1];
    a.warp.clamp = w.clamp;
    return LK_EMIT(g, op, &a, x, m);
}
lk_val lk_affine_warp(lk_graph *g, lk_val x, lk_val m, lk_warp w) { return warp(g, LK_OP_affine_warp, x, m, w); }
lk_val lk_affine_warp_dx(lk_graph *g, lk_val dy, lk_val m, lk_warp w) { return warp(g, LK_OP_affine_warp_dx, dy, m, w); }

/* ---- fused ------------------------------------------------------------------------------------------------------ */
static lk_attr norm_attr(int groups, double eps, bool silu) {
    lk_attr a = blank();
    a.norm.groups = groups;
    a.norm.eps = eps;
    a.norm.silu = silu;
    return a;
}

lk_val lk_layer_norm(lk_graph *g, lk_val x, lk_val gamma, lk_val beta, double eps) {
    lk_attr a = norm_attr(0, eps, false);
    if (lk_ok(gamma) == lk_ok(beta)) return LK_EMIT(g, LK_OP_layer_norm, &a, x, gamma, beta);
    lk_val xhat = LK_EMIT(g, LK_OP_layer_norm, &a, x);
    return lk_ok(gamma) ? lk_mul(g, xhat, gamma) : lk_add(g, xhat, beta);
}

lk_val lk_rms_norm(lk_graph *g, lk_val x, lk_val gamma, double eps) {
    lk_attr a = norm_attr(0, eps, false);
    return LK_EMIT(g, LK_OP_rms_norm, &a, x, gamma);
}

lk_val lk_group_norm(lk_graph *g, lk_val x, lk_val gamma, lk_val beta, lk_norm n) {
    lk_attr a = norm_attr(n.groups, n.eps, n.silu);
    if (lk_ok(gamma) != lk_ok(beta)) {
        lk_graph_fail(g, LK_ESHAPE, "group_norm(%s): gamma and beta are given together or not at all", lk_val_text(g, g->arena, x));
        return LK_NONE;
    }
    return LK_EMIT(g, LK_OP_group_norm, &a, x, gamma, beta);
}

lk_val lk_sdpa(lk_graph *g, lk_val q, lk_val k, lk_val v, lk_val bias, lk_sdpa_attr s) {
    lk_attr a = blank();
    a.sdpa.heads = s.heads;
    a.sdpa.scale = s.scale != 0 || s.heads < 1 ? s.scale : 1 / sqrt((double)lk_dim(g, q, -1) / s.heads);
    a.sdpa.causal = s.causal;
    return LK_EMIT(g, LK_OP_sdpa, &a, q, k, v, bias);
}

lk_val lk_rope(lk_graph *g, lk_val x, lk_val cos, lk_val sin, int heads) {
    lk_attr a = blank();
    a.sdpa.heads = heads;
    return LK_EMIT(g, LK_OP_rope, &a, x, cos, sin);
}

/* ---- services ----------------------------------------------------------------------------------------------------- */
lk_val lk_timestep_embed(lk_graph *g, lk_val t, lk_tembed e) {
    lk_attr a = blank();
    a.tembed.dim = e.dim;
    a.tembed.flip_sin_to_cos = e.flip_sin_to_cos;
    a.tembed.freq_shift = e.freq_shift;
    a.tembed.scale = e.scale != 0 ? e.scale : 1;
    a.tembed.max_period = e.max_period != 0 ? e.max_period : 10000;
    return LK_EMIT(g, LK_OP_timestep_embed, &a, t);
}

lk_val lk_rope_table(lk_graph *g, lk_val ids, lk_rtable r) {
    lk_attr a = blank();
    a.rtable.n = r.n;
    a.rtable.theta = r.theta;
    for (int i = 0; i < r.n && i < 4; i++) a.rtable.dims[i] = r.dims[i];
    return LK_EMIT(g, LK_OP_rope_table, &a, ids);
}

static lk_val noise(lk_graph *g, lk_op op, lk_val seed, lk_val step, lk_val samples, const char *stream, lk_shape s) {
    lk_attr a = blank();
    if (strlen(stream) >= sizeof a.random.stream) {
        lk_graph_fail(g, LK_ESHAPE, "%s: the stream name \"%s\" is longer than %zu bytes", lk_op_name(op), stream, sizeof a.random.stream - 1);
        return LK_NONE;
    }
    strcpy(a.random.stream, stream);
    put_shape(&a.random.shape, s);
    return LK_EMIT(g, op, &a, seed, step, samples);
}
lk_val lk_randn(lk_graph *g, lk_val seed, lk_val step, lk_val samples, const char *stream, lk_shape s) {
    return noise(g, LK_OP_randn, seed, step, samples, stream, s);
}
lk_val lk_randu(lk_graph *g, lk_val seed, lk_val step, lk_val samples, const char *stream, lk_shape s) {
    return noise(g, LK_OP_randu, seed, step, samples, stream, s);
}

void lk_assign(lk_graph *g, lk_val state, lk_val value) { LK_EMIT(g, LK_OP_assign, NULL, state, value); }
void lk_ema(lk_graph *g, lk_val average, lk_val value, lk_val decay) { LK_EMIT(g, LK_OP_ema, NULL, average, value, decay); }
void lk_adamw(lk_graph *g, lk_val p, lk_val m, lk_val v, lk_val grad, lk_val lr, lk_val bc1, lk_val bc2, lk_adamw_attr w) {
    lk_attr a = blank();
    a.adamw = w;                       /* four doubles: no padding */
    LK_EMIT(g, LK_OP_adamw, &a, p, m, v, grad, lr, bc1, bc2);
}
