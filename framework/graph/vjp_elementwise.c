/* vjp_elementwise: cotangents of elementwise operations. An input that was broadcast gets its cotangent summed to its own
 * shape; the rule of a unary operation is one expression in x, y and dy. */
#include "graph/internal.h"

#define RULE(name) void lk_vjp_##name(lk_graph *g, const lk_node *n, lk_val y, lk_val dy, const bool *need, lk_val *dx)
#define UNARY(name, expression) \
    RULE(name) { lk_val x = n->in[0]; (void)x, (void)y, (void)need; dx[0] = (expression); }

static lk_val fused_dx(lk_graph *g, lk_op op, lk_val x, lk_val dy) { return LK_EMIT(g, op, NULL, x, dy); }
static lk_val to_input(lk_graph *g, const lk_node *n, int i, lk_val c) { return lk_sum_to(g, c, lk_shape_of(g, n->in[i])); }

UNARY(neg,   lk_neg(g, dy))
UNARY(abs,   lk_mul(g, dy, lk_sign(g, x)))
UNARY(exp,   lk_mul(g, dy, y))
UNARY(log,   lk_div(g, dy, x))
UNARY(sqrt,  lk_div(g, lk_scale(g, dy, 0.5), y))
UNARY(rsqrt, lk_mul(g, lk_scale(g, dy, -0.5), lk_mul(g, lk_mul(g, y, y), y)))
UNARY(recip, lk_neg(g, lk_mul(g, dy, lk_mul(g, y, y))))
UNARY(sin,   lk_mul(g, dy, lk_cos(g, x)))
UNARY(cos,   lk_neg(g, lk_mul(g, dy, lk_sin(g, x))))
UNARY(tanh,  lk_mul(g, dy, lk_one_minus(g, lk_mul(g, y, y))))
UNARY(erf,   lk_mul(g, dy, lk_scale(g, lk_exp(g, lk_neg(g, lk_mul(g, x, x))), 1.1283791670955126)))   /* 2 / sqrt(pi) exp(-x^2) */
UNARY(sigmoid, lk_mul(g, dy, lk_mul(g, y, lk_one_minus(g, y))))
UNARY(silu,       fused_dx(g, LK_OP_silu_dx, x, dy))
UNARY(gelu,       fused_dx(g, LK_OP_gelu_dx, x, dy))
UNARY(gelu_tanh,  fused_dx(g, LK_OP_gelu_tanh_dx, x, dy))
UNARY(quick_gelu, fused_dx(g, LK_OP_quick_gelu_dx, x, dy))

RULE(add) {
    (void)y;
    for (int i = 0; i < 2; i++)
        if (need[i]) dx[i] = to_input(g, n, i, dy);
}

RULE(sub) {
    (void)y;
    if (need[0]) dx[0] = to_input(g, n, 0, dy);
    if (need[1]) dx[1] = lk_neg(g, to_input(g, n, 1, dy));
}

RULE(mul) {
    (void)y;
    for (int i = 0; i < 2; i++)
        if (need[i]) dx[i] = to_input(g, n, i, lk_mul(g, dy, n->in[1 - i]));
}

RULE(div) {                                  /* y = a / b: da = dy / b, db = -(dy y) / b */
    if (need[0]) dx[0] = to_input(g, n, 0, lk_div(g, dy, n->in[1]));
    if (need[1]) dx[1] = lk_neg(g, to_input(g, n, 1, lk_div(g, lk_mul(g, dy, y), n->in[1])));
}

/* The second input is taken where `second` is 1, the first elsewhere, ties included. */
static void chosen(lk_graph *g, const lk_node *n, lk_val second, lk_val dy, const bool *need, lk_val *dx) {
    lk_val zero = lk_scalar(g, 0);
    if (need[0]) dx[0] = to_input(g, n, 0, lk_where(g, second, zero, dy));
    if (need[1]) dx[1] = to_input(g, n, 1, lk_where(g, second, dy, zero));
}
RULE(min) { (void)y; chosen(g, n, lk_less(g, n->in[1], n->in[0]), dy, need, dx); }
RULE(max) { (void)y; chosen(g, n, lk_less(g, n->in[0], n->in[1]), dy, need, dx); }

RULE(pow) {                                  /* y = a^b: da = dy (b (y / a)), db = dy (y log a) */
    lk_val a = n->in[0], b = n->in[1];
    if (need[0]) dx[0] = to_input(g, n, 0, lk_mul(g, dy, lk_mul(g, b, lk_div(g, y, a))));
    if (need[1]) dx[1] = to_input(g, n, 1, lk_mul(g, dy, lk_mul(g, y, lk_log(g, a))));
}

RULE(where) {                                /* the condition has no gradient */
    (void)y;
    lk_val zero = lk_scalar(g, 0);
    if (need[1]) dx[1] = to_input(g, n, 1, lk_where(g, n->in[0], dy, zero));
    if (need[2]) dx[2] = to_input(g, n, 2, lk_where(g, n->in[0], zero, dy));
}
