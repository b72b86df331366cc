/* vjp_contract: contractions and pictures. The three convolutions are each other's adjoints, and so are the pools, the
 * upsampling and the warp with their _dx: differentiating again stays within the set. */
#include "graph/internal.h"

#define RULE(name) void lk_vjp_##name(lk_graph *g, const lk_node *n, lk_val y, lk_val dy, const bool *need, lk_val *dx)

/* ---- matmul: Y = A B with A = a or a^T, B = b or b^T ------------------------------------------------- */
static lk_val rows_of(lk_graph *g, lk_val x) { return lk_reshape(g, x, LK_SHAPE(-1, lk_dim(g, x, -1))); }

static lk_val product(lk_graph *g, lk_val a, bool ta, lk_val b, bool tb) { return lk_matmul(g, a, b, LK_NONE, (lk_mm){ta, tb}); }

/* Cotangents of a and b, inputs `first` and the next; dy that of the product. */
static void product_rule(lk_graph *g, const lk_node *n, int first, lk_val dy, const bool *need, lk_val *dx) {
    lk_val a = n->in[first], b = n->in[first + 1];
    bool ta = n->attr.matmul.ta, tb = n->attr.matmul.tb;
    if (need[first]) {                       /* dA = dY B^T, transposed back for a^T */
        lk_val da = ta ? product(g, b, tb, dy, true) : product(g, dy, false, b, !tb);
        dx[first] = lk_sum_to(g, da, lk_shape_of(g, a));
    }
    if (need[first + 1]) {                   /* dB = A^T dY; a 2-D b meets all rows of a in one sum */
        lk_val rows = a, cot = dy;
        if (!ta && lk_shape_of(g, b).rank == 2) rows = rows_of(g, a), cot = rows_of(g, dy);
        lk_val db = tb ? product(g, cot, true, rows, ta) : product(g, rows, !ta, cot, false);
        dx[first + 1] = lk_sum_to(g, db, lk_shape_of(g, b));
    }
}

RULE(matmul) {
    (void)y;
    product_rule(g, n, 0, dy, need, dx);
    if (n->n_in == 3 && need[2]) dx[2] = lk_sum_to(g, dy, lk_shape_of(g, n->in[2]));
}

RULE(matmul_add) {
    (void)y;
    if (need[0]) dx[0] = dy;
    if (need[1] || need[2]) product_rule(g, n, 1, lk_scale(g, dy, n->attr.matmul.alpha), need, dx);
}

/* ---- the convolution triple ---------------------------------------------------------------------------- */
static lk_conv sized(lk_graph *g, lk_conv c, lk_val like) {
    c.size[0] = (int)lk_dim(g, like, 2);
    c.size[1] = (int)lk_dim(g, like, 3);
    return c;
}

RULE(conv2d) {
    (void)y;
    lk_val x = n->in[0], w = n->in[1];
    lk_conv c = n->attr.conv;
    if (need[0]) dx[0] = lk_conv2d_dx(g, dy, w, sized(g, c, x));
    if (need[1]) dx[1] = lk_conv2d_dw(g, x, dy, sized(g, c, w));
    if (n->n_in == 3 && need[2]) dx[2] = lk_reduce_sum(g, dy, (lk_axes){.n = 3, .axis = {0, 2, 3}});
}

RULE(conv2d_dx) {                            /* (dy, w): bilinear; cot has the shape of x */
    (void)y;
    lk_val w = n->in[1], cot = dy;
    lk_conv c = n->attr.conv;
    if (need[0]) dx[0] = lk_conv2d(g, cot, w, LK_NONE, c);
    if (need[1]) dx[1] = lk_conv2d_dw(g, cot, n->in[0], sized(g, c, w));
}

RULE(conv2d_dw) {                            /* (x, dy): bilinear; cot has the shape of w */
    (void)y;
    lk_val x = n->in[0], cot = dy;
    lk_conv c = n->attr.conv;
    if (need[0]) dx[0] = lk_conv2d_dx(g, n->in[1], cot, sized(g, c, x));
    if (need[1]) dx[1] = lk_conv2d(g, x, cot, LK_NONE, c);
}

/* ---- pictures -------------------------------------------------------------------------------------------- */
RULE(max_pool2d)    { (void)y, (void)need; dx[0] = lk_max_pool2d_dx(g, n->in[0], dy, n->attr.pool); }
/* Where the maximum lies does not depend smoothly on x: only the second input has a cotangent. */
RULE(max_pool2d_dx) { (void)y; if (need[1]) dx[1] = lk_max_pool2d_at(g, n->in[0], dy, n->attr.pool); }
RULE(max_pool2d_at) { (void)y; if (need[1]) dx[1] = lk_max_pool2d_dx(g, n->in[0], dy, n->attr.pool); }

RULE(avg_pool2d) {
    (void)y, (void)need;
    lk_pool2d p = n->attr.pool;
    p.size[0] = (int)lk_dim(g, n->in[0], 2);
    p.size[1] = (int)lk_dim(g, n->in[0], 3);
    dx[0] = lk_avg_pool2d_dx(g, dy, p);
}
RULE(avg_pool2d_dx) { (void)y, (void)need; dx[0] = lk_avg_pool2d(g, dy, n->attr.pool); }

RULE(upsample_nearest)    { (void)y, (void)need; dx[0] = lk_upsample_nearest_dx(g, dy, (int)lk_dim(g, n->in[0], 2), (int)lk_dim(g, n->in[0], 3)); }
RULE(upsample_nearest_dx) { (void)y, (void)need; dx[0] = lk_upsample_nearest(g, dy, (int)lk_dim(g, n->in[0], 2), (int)lk_dim(g, n->in[0], 3)); }

static void warp_rule(lk_graph *g, const lk_node *n, lk_val dy, const bool *need, lk_val *dx, bool forward) {
    if (need[1]) {
        lk_node_fail(g, n, "the matrix (input 1) is not differentiated; put lk_detach before it");
        return;
    }
    lk_warp w = {.size = {(int)lk_dim(g, n->in[0], 2), (int)lk_dim(g, n->in[0], 3)}, .clamp = n->attr.warp.clamp};
    dx[0] = (forward ? lk_affine_warp_dx : lk_affine_warp)(g, dy, n->in[1], w);
}
RULE(affine_warp)    { (void)y; warp_rule(g, n, dy, need, dx, true); }
RULE(affine_warp_dx) { (void)y; warp_rule(g, n, dy, need, dx, false); }
