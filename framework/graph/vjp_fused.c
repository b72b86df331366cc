/* vjp_fused: softmax, norms, attention. The cotangent of the main input is one fused _dx operation; those of gamma and
 * beta are composed, since they are sums over everything else. */
#include "graph/internal.h"

#define RULE(name) void lk_vjp_##name(lk_graph *g, const lk_node *n, lk_val y, lk_val dy, const bool *need, lk_val *dx)
static bool needs(const lk_node *n, const bool *need, int i) { return i < n->n_in && need[i]; }

RULE(softmax) { (void)n, (void)need; dx[0] = lk_softmax_dx(g, y, dy); }

/* ---- norms ------------------------------------------------------------------------------------------- */
RULE(layer_norm) {
    (void)y;
    lk_val x = n->in[0], gamma = n->n_in == 3 ? n->in[1] : LK_NONE;
    if (need[0]) dx[0] = LK_EMIT(g, LK_OP_layer_norm_dx, &n->attr, x, dy, gamma);
    if (needs(n, need, 1)) dx[1] = lk_sum_to(g, lk_mul(g, dy, LK_EMIT(g, LK_OP_layer_norm, &n->attr, x)), lk_shape_of(g, n->in[1]));
    if (needs(n, need, 2)) dx[2] = lk_sum_to(g, dy, lk_shape_of(g, n->in[2]));
}

RULE(rms_norm) {
    (void)y;
    lk_val x = n->in[0], gamma = n->n_in == 2 ? n->in[1] : LK_NONE;
    if (need[0]) dx[0] = LK_EMIT(g, LK_OP_rms_norm_dx, &n->attr, x, dy, gamma);
    if (needs(n, need, 1)) dx[1] = lk_sum_to(g, lk_mul(g, dy, LK_EMIT(g, LK_OP_rms_norm, &n->attr, x)), lk_shape_of(g, n->in[1]));
}

static lk_val sum_per_channel(lk_graph *g, lk_val v) {
    lk_axes axes = {.n = 1, .axis = {0}};
    for (int i = 2; i < lk_shape_of(g, v).rank; i++) axes.axis[axes.n++] = i;
    return lk_reduce_sum(g, v, axes);
}

RULE(group_norm) {
    (void)y;
    lk_val x = n->in[0], gamma = n->n_in == 3 ? n->in[1] : LK_NONE, beta = n->n_in == 3 ? n->in[2] : LK_NONE;
    if (need[0]) dx[0] = LK_EMIT(g, LK_OP_group_norm_dx, &n->attr, x, dy, gamma, beta);
    if (!needs(n, need, 1) && !needs(n, need, 2)) return;
    lk_norm a = n->attr.norm;
    a.silu = false;
    if (n->attr.norm.silu) dy = LK_EMIT(g, LK_OP_silu_dx, NULL, lk_group_norm(g, x, gamma, beta, a), dy);
    if (need[1]) dx[1] = sum_per_channel(g, lk_mul(g, dy, lk_group_norm(g, x, LK_NONE, LK_NONE, a)));
    if (need[2]) dx[2] = sum_per_channel(g, dy);
}

/* ---- attention ------------------------------------------------------------------------------------------ */
RULE(sdpa) {
    (void)y;
    if (needs(n, need, 3)) {                 /* a bias that learns is rare: the whole way through primitives */
        lk_vjp_through(g, n, dy, need, dx);
        return;
    }
    lk_val bias = n->n_in == 4 ? n->in[3] : LK_NONE;
    lk_val flat = LK_EMIT(g, LK_OP_sdpa_grad, &n->attr, n->in[0], n->in[1], n->in[2], dy, bias);
    int64_t at = 0;
    for (int i = 0; i < 3; i++) {
        lk_shape s = lk_shape_of(g, n->in[i]);
        if (need[i]) dx[i] = lk_view(g, flat, at, s);
        at += lk_numel(s);
    }
}

RULE(rope) {                                 /* a rotation: back by the opposite angle */
    (void)y;
    if (need[1] || need[2]) lk_node_fail(g, n, "cos and sin are not differentiated; put lk_detach before them");
    else dx[0] = lk_rope(g, dy, n->in[1], lk_neg(g, n->in[2]), n->attr.sdpa.heads);
}

RULE(geglu) { (void)y, (void)need; dx[0] = LK_EMIT(g, LK_OP_geglu_dx, NULL, n->in[0], dy); }
