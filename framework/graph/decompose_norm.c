/* decompose_norm: softmax and the norms from primitives (numerics.md rules 3 and 4), the definition of the fused
 * kernels' bits. A mean is the sum by rule 3 divided by n; r = 1 / sqrt(var + eps). */
#include "graph/internal.h"

#define LAST_KEPT ((lk_axes){.n = 1, .axis = {-1}, .keep = true})
lk_val lk_row_sum(lk_graph *g, lk_val x) { return lk_reduce_sum(g, x, LAST_KEPT); }
static lk_val row_mean(lk_graph *g, lk_val x) { return lk_mean(g, x, LAST_KEPT); }

/* exp(x - max) / sum. The maximum is detached: y does not depend on it, so its cotangent is zero. */
lk_val lk_decompose_softmax(lk_graph *g, const lk_node *n) {
    lk_val x = n->in[0], m = lk_detach(g, lk_reduce_max(g, x, LAST_KEPT));
    lk_val e = lk_exp(g, lk_sub(g, x, m));
    return lk_div(g, e, lk_row_sum(g, e));
}

/* y * (dy - rowsum(y * dy)) */
lk_val lk_decompose_softmax_dx(lk_graph *g, const lk_node *n) {
    lk_val y = n->in[0], dy = n->in[1];
    return lk_mul(g, y, lk_sub(g, dy, lk_row_sum(g, lk_mul(g, y, dy))));
}

/* ---- over rows of the last axis -------------------------------------------------------------------- */
typedef struct { lk_val xhat, r; } normed;

static lk_val inverse_root(lk_graph *g, lk_val square_mean, double eps) { return lk_recip(g, lk_sqrt(g, lk_shift(g, square_mean, eps))); }

static normed standardise(lk_graph *g, lk_val x, double eps) {      /* x rows minus mean, over deviation */
    lk_val d = lk_sub(g, x, row_mean(g, x));
    lk_val r = inverse_root(g, row_mean(g, lk_mul(g, d, d)), eps);
    return (normed){lk_mul(g, d, r), r};
}

static normed rms(lk_graph *g, lk_val x, double eps) {
    lk_val r = inverse_root(g, row_mean(g, lk_mul(g, x, x)), eps);
    return (normed){lk_mul(g, x, r), r};
}

/* (gr - mean(gr) - xhat * mean(gr * xhat)) * r, left to right; gr = cotangent of xhat */
static lk_val standardise_dx(lk_graph *g, normed s, lk_val gr) {
    lk_val along = lk_mul(g, s.xhat, row_mean(g, lk_mul(g, gr, s.xhat)));
    return lk_mul(g, lk_sub(g, lk_sub(g, gr, row_mean(g, gr)), along), s.r);
}

lk_val lk_decompose_layer_norm(lk_graph *g, const lk_node *n) {
    lk_val xhat = standardise(g, n->in[0], n->attr.norm.eps).xhat;
    return n->n_in == 3 ? lk_add(g, lk_mul(g, xhat, n->in[1]), n->in[2]) : xhat;
}

lk_val lk_decompose_layer_norm_dx(lk_graph *g, const lk_node *n) {
    lk_val gr = n->n_in == 3 ? lk_mul(g, n->in[1], n->in[2]) : n->in[1];
    return standardise_dx(g, standardise(g, n->in[0], n->attr.norm.eps), gr);
}

lk_val lk_decompose_rms_norm(lk_graph *g, const lk_node *n) {
    lk_val xhat = rms(g, n->in[0], n->attr.norm.eps).xhat;
    return n->n_in == 2 ? lk_mul(g, xhat, n->in[1]) : xhat;
}

/* (gr - xhat * mean(gr * xhat)) * r */
lk_val lk_decompose_rms_norm_dx(lk_graph *g, const lk_node *n) {
    lk_val gr = n->n_in == 3 ? lk_mul(g, n->in[1], n->in[2]) : n->in[1];
    normed s = rms(g, n->in[0], n->attr.norm.eps);
    return lk_mul(g, lk_sub(g, gr, lk_mul(g, s.xhat, row_mean(g, lk_mul(g, gr, s.xhat)))), s.r);
}

/* ---- group norm: rows are (channels of a group, positions) ------------------------------------------- */
static lk_val group_rows(lk_graph *g, lk_val x, int groups) { return lk_reshape(g, x, LK_SHAPE(lk_dim(g, x, 0), groups, -1)); }

static lk_val over_channels(lk_graph *g, lk_val per_channel, lk_shape x) {   /* [C] as [C, 1, ...] */
    lk_shape s = {.rank = x.rank - 1};
    for (int i = 0; i < s.rank; i++) s.d[i] = i ? 1 : x.d[1];
    return lk_reshape(g, per_channel, s);
}

static lk_val channel_affine(lk_graph *g, lk_val xhat, lk_val gamma, lk_val beta) {
    lk_shape s = lk_shape_of(g, xhat);
    return lk_add(g, lk_mul(g, xhat, over_channels(g, gamma, s)), over_channels(g, beta, s));
}

lk_val lk_decompose_group_norm(lk_graph *g, const lk_node *n) {
    lk_norm a = n->attr.norm;
    lk_val x = n->in[0];
    lk_val y = lk_reshape(g, standardise(g, group_rows(g, x, a.groups), a.eps).xhat, lk_shape_of(g, x));
    if (n->n_in == 3) y = channel_affine(g, y, n->in[1], n->in[2]);
    return a.silu ? lk_silu(g, y) : y;
}

/* (x, dy, [gamma, beta]); with silu dy first goes through silu_dx at the normed, scaled value */
lk_val lk_decompose_group_norm_dx(lk_graph *g, const lk_node *n) {
    lk_norm a = n->attr.norm;
    lk_val x = n->in[0], gr = n->in[1];
    lk_shape shape = lk_shape_of(g, x);
    normed s = standardise(g, group_rows(g, x, a.groups), a.eps);
    if (a.silu) {
        lk_val y = lk_reshape(g, s.xhat, shape);
        if (n->n_in == 4) y = channel_affine(g, y, n->in[2], n->in[3]);
        gr = LK_EMIT(g, LK_OP_silu_dx, NULL, y, gr);
    }
    if (n->n_in == 4) gr = lk_mul(g, gr, over_channels(g, n->in[2], shape));
    return lk_reshape(g, standardise_dx(g, s, group_rows(g, gr, a.groups)), shape);
}
