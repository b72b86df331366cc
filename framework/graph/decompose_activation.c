/* decompose_activation: activations and their derivatives from primitives. These lines are the arithmetic of the fused
 * kernels (numerics.md rule 5): every call is one rounding, in the order written. Constants are rounded to binary32. */
#include "graph/internal.h"

lk_val lk_one_minus(lk_graph *g, lk_val x) { return lk_sub(g, lk_scalar(g, 1), x); }

lk_val lk_decompose_rsqrt(lk_graph *g, const lk_node *n) { return lk_recip(g, lk_sqrt(g, n->in[0])); }

lk_val lk_decompose_pow(lk_graph *g, const lk_node *n) { return lk_exp(g, lk_mul(g, n->in[1], lk_log(g, n->in[0]))); }

/* silu(x) = x * s, s = sigmoid(x) */
lk_val lk_decompose_silu(lk_graph *g, const lk_node *n) { return lk_mul(g, n->in[0], lk_sigmoid(g, n->in[0])); }

/* dy * (s * (1 + x * (1 - s))) */
lk_val lk_decompose_silu_dx(lk_graph *g, const lk_node *n) {
    lk_val x = n->in[0], dy = n->in[1], s = lk_sigmoid(g, x);
    lk_val slope = lk_shift(g, lk_mul(g, x, lk_one_minus(g, s)), 1);
    return lk_mul(g, dy, lk_mul(g, s, slope));
}

/* 1 + erf(x / sqrt 2) */
static lk_val one_plus_erf(lk_graph *g, lk_val x) { return lk_shift(g, lk_erf(g, lk_scale(g, x, 0.70710678118654752)), 1); }

/* (0.5 * x) * (1 + erf(x / sqrt 2)) */
lk_val lk_decompose_gelu(lk_graph *g, const lk_node *n) {
    lk_val x = n->in[0];
    return lk_mul(g, lk_scale(g, x, 0.5), one_plus_erf(g, x));
}

/* dy * (0.5 * (1 + erf(x / sqrt 2)) + x * (exp((x*x) * -0.5) * (1 / sqrt(2 pi)))) */
lk_val lk_decompose_gelu_dx(lk_graph *g, const lk_node *n) {
    lk_val x = n->in[0], dy = n->in[1];
    lk_val cdf = lk_scale(g, one_plus_erf(g, x), 0.5);
    lk_val pdf = lk_scale(g, lk_exp(g, lk_scale(g, lk_mul(g, x, x), -0.5)), 0.39894228040143268);
    return lk_mul(g, dy, lk_add(g, cdf, lk_mul(g, x, pdf)));
}

/* t = tanh(0.79788456080286536 * (x + 0.044715 * (x*x*x))) */
static lk_val gelu_tanh_inner(lk_graph *g, lk_val x) {
    lk_val cube = lk_mul(g, lk_mul(g, x, x), x);
    return lk_tanh(g, lk_scale(g, lk_add(g, x, lk_scale(g, cube, 0.044715)), 0.79788456080286536));
}

/* (0.5 * x) * (1 + t) */
lk_val lk_decompose_gelu_tanh(lk_graph *g, const lk_node *n) {
    lk_val x = n->in[0];
    return lk_mul(g, lk_scale(g, x, 0.5), lk_shift(g, gelu_tanh_inner(g, x), 1));
}

/* dy * (0.5 * (1 + t) + ((0.5 * x) * (1 - t*t)) * (0.79788456080286536 * (1 + 0.134145 * (x*x)))) */
lk_val lk_decompose_gelu_tanh_dx(lk_graph *g, const lk_node *n) {
    lk_val x = n->in[0], dy = n->in[1], t = gelu_tanh_inner(g, x);
    lk_val direct = lk_scale(g, lk_shift(g, t, 1), 0.5);
    lk_val outer = lk_mul(g, lk_scale(g, x, 0.5), lk_one_minus(g, lk_mul(g, t, t)));
    lk_val inner = lk_scale(g, lk_shift(g, lk_scale(g, lk_mul(g, x, x), 0.134145), 1), 0.79788456080286536);
    return lk_mul(g, dy, lk_add(g, direct, lk_mul(g, outer, inner)));
}

/* x * sigmoid(1.702 * x) */
lk_val lk_decompose_quick_gelu(lk_graph *g, const lk_node *n) {
    lk_val x = n->in[0];
    return lk_mul(g, x, lk_sigmoid(g, lk_scale(g, x, 1.702)));
}

/* z = 1.702 * x, s = sigmoid(z): dy * (s * (1 + z * (1 - s))) */
lk_val lk_decompose_quick_gelu_dx(lk_graph *g, const lk_node *n) {
    lk_val z = lk_scale(g, n->in[0], 1.702), dy = n->in[1], s = lk_sigmoid(g, z);
    return lk_mul(g, dy, lk_mul(g, s, lk_shift(g, lk_mul(g, z, lk_one_minus(g, s)), 1)));
}

/* [value | gate] -> value * gelu(gate) */
lk_val lk_decompose_geglu(lk_graph *g, const lk_node *n) {
    int64_t d = lk_dim(g, n->in[0], -1) / 2;
    return lk_mul(g, lk_slice(g, n->in[0], -1, 0, d), lk_gelu(g, lk_slice(g, n->in[0], -1, d, 2 * d)));
}

/* [dy * gelu(gate) | gelu_dx(gate, dy * value)] */
lk_val lk_decompose_geglu_dx(lk_graph *g, const lk_node *n) {
    int64_t d = lk_dim(g, n->in[0], -1) / 2;
    lk_val dy = n->in[1], value = lk_slice(g, n->in[0], -1, 0, d), gate = lk_slice(g, n->in[0], -1, d, 2 * d);
    lk_val part[2] = {lk_mul(g, dy, lk_gelu(g, gate)), LK_EMIT(g, LK_OP_gelu_dx, NULL, gate, lk_mul(g, dy, value))};
    return lk_concat(g, part, 2, -1);
}
