/* shape_rules: what each light operation wants of its inputs and what it makes: elementwise, movement, reductions,
 * services, effects. The heavy ones (contractions, pictures, fused) are in shape_rules_heavy.c. A rule that refuses
 * says why through lk_node_fail, which adds the operation and every input's name and shape. */
#include "graph/internal.h"
#include "graph/shape_rules.h"

bool lk_want_f32(lk_graph *g, const lk_node *n) {
    for (int i = 0; i < n->n_in; i++)
        if (lk_graph_node(g, n->in[i])->dtype != LK_F32) return lk_node_fail(g, n, "input %d is I64, this operation takes F32", i);
    return true;
}

bool lk_want_rank(lk_graph *g, const lk_node *n, int i, int lo, int hi) {
    int rank = lk_in_shape(g, n, i).rank;
    if (rank >= lo && rank <= hi) return true;
    return lo == hi ? lk_node_fail(g, n, "input %d has %d axes, %d expected", i, rank, lo)
                    : lk_node_fail(g, n, "input %d has %d axes, %d to %d expected", i, rank, lo, hi);
}

bool lk_want_shape(lk_graph *g, const lk_node *n, int i, lk_shape want) {
    return lk_shape_eq(lk_in_shape(g, n, i), want)
        || lk_node_fail(g, n, "input %d is %s, %s expected", i, lk_shape_text(g->arena, lk_in_shape(g, n, i)), lk_shape_text(g->arena, want));
}

static bool leaf_rule(lk_graph *g, lk_node *n) { return lk_node_fail(g, n, "a leaf is not made by lk_emit"); }

/* ---- elementwise ----------------------------------------------------------------------------------- */
static bool elementwise(lk_graph *g, lk_node *n) {
    if (!lk_want_f32(g, n)) return false;
    n->shape = lk_in_shape(g, n, 0);
    for (int i = 1; i < n->n_in; i++)
        if (!lk_shapes_broadcast(n->shape, lk_in_shape(g, n, i), &n->shape))
            return lk_node_fail(g, n, "the shapes do not broadcast: sizes from the last axis on must be equal or 1");
    return true;
}

/* ---- movement ---------------------------------------------------------------------------------------- */
static bool take_dtype(lk_graph *g, lk_node *n) {
    n->dtype = lk_graph_node(g, n->in[0])->dtype;
    return true;
}

static bool reshape(lk_graph *g, lk_node *n) {
    lk_shape from = lk_in_shape(g, n, 0), *to = &n->attr.shape;
    int64_t known = 1;
    int open = -1;
    for (int i = 0; i < to->rank && i < LK_MAX_RANK; i++) {
        if (to->d[i] == -1 && open < 0) open = i;
        else if (to->d[i] < 1 || __builtin_mul_overflow(known, to->d[i], &known))
            return lk_node_fail(g, n, "to %s: sizes are at least 1, and one may be -1", lk_shape_text(g->arena, *to));
    }
    if (to->rank > LK_MAX_RANK) return lk_node_fail(g, n, "%d axes asked for, at most %d", to->rank, LK_MAX_RANK);
    if (open >= 0 && lk_numel(from) % known == 0) to->d[open] = lk_numel(from) / known;
    if (!lk_shape_valid(*to) || lk_numel(*to) != lk_numel(from))
        return lk_node_fail(g, n, "%lld elements do not make %s", (long long)lk_numel(from), lk_shape_text(g->arena, *to));
    n->shape = *to;
    return take_dtype(g, n);
}

static bool same_as_input(lk_graph *g, lk_node *n) {
    n->shape = lk_in_shape(g, n, 0);
    return take_dtype(g, n);
}

static bool view(lk_graph *g, lk_node *n) {
    int64_t have = lk_numel(lk_in_shape(g, n, 0)), at = n->attr.view.offset;
    lk_shape s = n->attr.view.shape;
    if (!lk_shape_valid(s) || at < 0 || at > have || lk_numel(s) > have - at)
        return lk_node_fail(g, n, "a view of %s at element %lld goes past the end", lk_shape_text(g->arena, s), (long long)at);
    n->shape = s;
    return take_dtype(g, n);
}

static bool permute(lk_graph *g, lk_node *n) {
    lk_shape s = lk_in_shape(g, n, 0);
    unsigned seen = 0;
    n->shape.rank = s.rank;
    for (int i = 0; i < s.rank; i++) {
        int p = n->attr.perm[i];
        if (p < 0 || p >= s.rank || seen >> p & 1) return lk_node_fail(g, n, "the permutation names axis %d twice or out of range", p);
        seen |= 1u << p;
        n->shape.d[i] = s.d[p];
    }
    return lk_want_f32(g, n);
}

static bool slice(lk_graph *g, lk_node *n) {
    lk_shape s = lk_in_shape(g, n, 0);
    const lk_window *w = &n->attr.window;
    n->shape.rank = s.rank;
    for (int i = 0; i < s.rank; i++) {
        if (w->lo[i] < 0 || w->hi[i] > s.d[i] || w->lo[i] >= w->hi[i])
            return lk_node_fail(g, n, "[%lld, %lld) of axis %d is empty or past its size", (long long)w->lo[i], (long long)w->hi[i], i);
        n->shape.d[i] = w->hi[i] - w->lo[i];
    }
    return lk_want_f32(g, n);
}

static bool pad(lk_graph *g, lk_node *n) {
    n->shape = lk_in_shape(g, n, 0);
    const lk_window *w = &n->attr.window;
    for (int i = 0; i < n->shape.rank; i++) {
        if (w->lo[i] < 0 || w->hi[i] < 0) return lk_node_fail(g, n, "negative padding at axis %d", i);
        if (__builtin_add_overflow(n->shape.d[i], w->lo[i], &n->shape.d[i]) || __builtin_add_overflow(n->shape.d[i], w->hi[i], &n->shape.d[i]))
            return lk_node_fail(g, n, "the padding of axis %d overflows", i);
    }
    return lk_want_f32(g, n);
}

static bool concat(lk_graph *g, lk_node *n) {
    n->shape = lk_in_shape(g, n, 0);
    if (!lk_axis_resolve(n->shape.rank, &n->attr.axis)) return lk_node_fail(g, n, "axis %d is out of range", n->attr.axis);
    int axis = n->attr.axis;
    for (int i = 1; i < n->n_in; i++) {
        lk_shape s = lk_in_shape(g, n, i), want = n->shape;
        if (s.rank == want.rank) want.d[axis] = s.d[axis];
        if (!lk_shape_eq(s, want)) return lk_node_fail(g, n, "input %d differs from the first in more than axis %d", i, axis);
        n->shape.d[axis] += s.d[axis];
    }
    return lk_want_f32(g, n);
}

static bool broadcast(lk_graph *g, lk_node *n) {
    if (!lk_shape_valid(n->attr.shape) || !lk_shape_reaches(lk_in_shape(g, n, 0), n->attr.shape))
        return lk_node_fail(g, n, "does not broadcast to %s", lk_shape_text(g->arena, n->attr.shape));
    n->shape = n->attr.shape;
    return lk_want_f32(g, n);
}

static bool ids_wanted(lk_graph *g, const lk_node *n) {
    if (lk_graph_node(g, n->in[0])->dtype != LK_F32) return lk_node_fail(g, n, "input 0 is I64, F32 expected");
    return lk_graph_node(g, n->in[1])->dtype == LK_I64 || lk_node_fail(g, n, "the row numbers (input 1) are F32, I64 expected");
}

static bool gather_rows(lk_graph *g, lk_node *n) {
    if (!ids_wanted(g, n) || !lk_want_rank(g, n, 0, 2, 2) || !lk_want_rank(g, n, 1, 0, LK_MAX_RANK - 1)) return false;
    n->shape = lk_in_shape(g, n, 1);
    n->shape.d[n->shape.rank++] = lk_in_shape(g, n, 0).d[1];
    return true;
}

static bool scatter_add_rows(lk_graph *g, lk_node *n) {
    if (!ids_wanted(g, n) || !lk_want_rank(g, n, 0, 1, LK_MAX_RANK)) return false;
    lk_shape rows = lk_in_shape(g, n, 0), ids = rows;
    ids.rank--;
    if (!lk_want_shape(g, n, 1, ids)) return false;
    n->shape = LK_SHAPE(n->attr.count, rows.d[rows.rank - 1]);
    return true;
}

/* ---- reductions -------------------------------------------------------------------------------------- */
static bool reduce(lk_graph *g, lk_node *n) {
    lk_shape s = lk_in_shape(g, n, 0);
    if (!lk_axes_resolve(s.rank, &n->attr.axes)) return lk_node_fail(g, n, "the axes to reduce are none, repeated or out of range");
    n->shape = n->op == LK_OP_max_mask ? s : lk_shape_reduced(s, n->attr.axes, n->attr.axes.keep);
    return lk_want_f32(g, n);
}

/* ---- services ------------------------------------------------------------------------------------------ */
static bool timestep_embed(lk_graph *g, lk_node *n) {
    if (!lk_want_f32(g, n) || !lk_want_rank(g, n, 0, 1, 1)) return false;
    if (n->attr.tembed.dim < 2) return lk_node_fail(g, n, "dim is %d, at least 2 expected", n->attr.tembed.dim);
    n->shape = LK_SHAPE(lk_in_shape(g, n, 0).d[0], n->attr.tembed.dim);
    return true;
}

static bool rope_table(lk_graph *g, lk_node *n) {
    const lk_rtable *r = &n->attr.rtable;
    if (!lk_want_f32(g, n) || !lk_want_rank(g, n, 0, 2, 2)) return false;
    lk_shape ids = lk_in_shape(g, n, 0);
    if (r->n < 1 || r->n > 4 || ids.d[1] != r->n) return lk_node_fail(g, n, "ids are [tokens, %d], one column an axis (1 to 4)", r->n);
    int64_t sum = 0;
    for (int i = 0; i < r->n; i++) {
        if (r->dims[i] < 2 || r->dims[i] % 2) return lk_node_fail(g, n, "axis %d has dimension %d, an even number expected", i, r->dims[i]);
        sum += r->dims[i];
    }
    n->shape = LK_SHAPE(2, ids.d[0], sum / 2);
    return true;
}

static bool noise(lk_graph *g, lk_node *n) {
    for (int i = 0; i < 3; i++)
        if (lk_graph_node(g, n->in[i])->dtype != LK_I64) return lk_node_fail(g, n, "input %d is F32; seed, step and sample ids are I64", i);
    if (!lk_want_shape(g, n, 0, LK_SCALAR) || !lk_want_shape(g, n, 1, LK_SCALAR) || !lk_want_rank(g, n, 2, 1, 1)) return false;
    lk_shape s = n->attr.random.shape;
    if (!lk_shape_valid(s) || s.rank < 1 || s.d[0] != lk_in_shape(g, n, 2).d[0])
        return lk_node_fail(g, n, "the shape %s must begin with the number of sample ids", lk_shape_text(g->arena, s));
    n->shape = s;
    return true;
}

/* ---- effects ------------------------------------------------------------------------------------------- */
static bool effect(lk_graph *g, lk_node *n) {
    if (!lk_want_f32(g, n)) return false;
    int states = n->op == LK_OP_adamw ? 3 : 1;
    int scalars = n->op == LK_OP_adamw ? 3 : n->op == LK_OP_ema ? 1 : 0;
    n->shape = lk_in_shape(g, n, 0);
    for (int i = 0; i < n->n_in; i++) {
        const lk_node *in = lk_graph_node(g, n->in[i]);
        if (i < states && in->op != LK_OP_param) return lk_node_fail(g, n, "input %d is written, so it must be a param", i);
        if (!lk_want_shape(g, n, i, i < n->n_in - scalars ? n->shape : LK_SCALAR)) return false;
    }
    n->mem = lk_graph_node(g, n->in[0])->mem;
    return true;
}

static const lk_shape_rule rules[LK_OP_COUNT] = {
    [LK_OP_input] = leaf_rule, [LK_OP_param] = leaf_rule, [LK_OP_constant] = leaf_rule,
    [LK_OP_reshape] = reshape, [LK_OP_detach] = same_as_input, [LK_OP_view] = view, [LK_OP_permute] = permute, [LK_OP_slice] = slice,
    [LK_OP_pad] = pad, [LK_OP_concat] = concat, [LK_OP_broadcast] = broadcast, [LK_OP_gather_rows] = gather_rows,
    [LK_OP_scatter_add_rows] = scatter_add_rows,
    [LK_OP_reduce_sum] = reduce, [LK_OP_reduce_max] = reduce, [LK_OP_max_mask] = reduce,
    [LK_OP_matmul] = lk_rule_matmul, [LK_OP_matmul_add] = lk_rule_matmul_add, [LK_OP_conv2d] = lk_rule_conv2d, [LK_OP_conv2d_dx] = lk_rule_conv2d_dx, [LK_OP_conv2d_dw] = lk_rule_conv2d_dw,
    [LK_OP_max_pool2d] = lk_rule_pool, [LK_OP_avg_pool2d] = lk_rule_pool, [LK_OP_max_pool2d_dx] = lk_rule_max_pool2d_dx,
    [LK_OP_max_pool2d_at] = lk_rule_max_pool2d_at, [LK_OP_avg_pool2d_dx] = lk_rule_avg_pool2d_dx,
    [LK_OP_upsample_nearest] = lk_rule_resized, [LK_OP_upsample_nearest_dx] = lk_rule_resized,
    [LK_OP_affine_warp] = lk_rule_warp, [LK_OP_affine_warp_dx] = lk_rule_warp,
    [LK_OP_softmax] = lk_rule_rows, [LK_OP_softmax_dx] = lk_rule_rows_dx,
    [LK_OP_layer_norm] = lk_rule_norm, [LK_OP_layer_norm_dx] = lk_rule_norm_dx, [LK_OP_rms_norm] = lk_rule_norm, [LK_OP_rms_norm_dx] = lk_rule_norm_dx,
    [LK_OP_group_norm] = lk_rule_group_norm, [LK_OP_group_norm_dx] = lk_rule_group_norm,
    [LK_OP_sdpa] = lk_rule_sdpa, [LK_OP_sdpa_grad] = lk_rule_sdpa, [LK_OP_rope] = lk_rule_rope,
    [LK_OP_geglu] = lk_rule_geglu, [LK_OP_geglu_dx] = lk_rule_geglu,
    [LK_OP_timestep_embed] = timestep_embed, [LK_OP_rope_table] = rope_table, [LK_OP_randn] = noise, [LK_OP_randu] = noise,
    [LK_OP_assign] = effect, [LK_OP_ema] = effect, [LK_OP_adamw] = effect,
};
lk_shape_rule lk_shape_rule_of(lk_op op) { return lk_op_traits(op) & T_EW ? elementwise : rules[op]; }
