/* decompose_attention: scaled dot-product attention and its gradient from primitives (numerics.md rules 2 to 4).
 * Tensors are [B, T, H*D]; inside, heads are split off: [B, H, T, D]. The score row of a query is whole. */
#include "graph/internal.h"

static const int heads_perm[4] = {0, 2, 1, 3};
static const lk_mm plain = {false, false}, times_transposed = {.tb = true}, transposed_times = {.ta = true};

static lk_val split_heads(lk_graph *g, lk_val x, int heads) {
    lk_shape s = lk_shape_of(g, x);
    return lk_permute(g, lk_reshape(g, x, LK_SHAPE(s.d[0], s.d[1], heads, s.d[2] / heads)), heads_perm);
}

static lk_val join_heads(lk_graph *g, lk_val x) {
    lk_shape s = lk_shape_of(g, x);
    return lk_reshape(g, lk_permute(g, x, heads_perm), LK_SHAPE(s.d[0], s.d[2], s.d[1] * s.d[3]));
}

/* [Tq, Tk]: -inf for keys j > i + (Tk - Tq), else 0 */
static lk_val causal_mask(lk_graph *g, int64_t tq, int64_t tk) {
    float *mask = lk_xcalloc((size_t)(tq * tk), sizeof *mask);
    for (int64_t i = 0; i < tq; i++)
        for (int64_t j = i + tk - tq + 1; j < tk; j++)
            if (j >= 0) mask[i * tk + j] = -INFINITY;
    lk_val v = lk_const(g, LK_F32, LK_SHAPE(tq, tk), mask);
    free(mask);
    return v;
}

/* p = softmax((q k^T) * scale + bias + mask) */
static lk_val probabilities(lk_graph *g, lk_val q, lk_val k, lk_val bias, lk_sdpa_attr a) {
    lk_val s = lk_scale(g, lk_matmul(g, q, k, LK_NONE, times_transposed), a.scale);
    if (lk_ok(bias)) s = lk_add(g, s, bias);
    if (a.causal) s = lk_add(g, s, causal_mask(g, lk_dim(g, q, 2), lk_dim(g, k, 2)));
    return lk_softmax(g, s);
}

lk_val lk_decompose_sdpa(lk_graph *g, const lk_node *n) {
    int h = n->attr.sdpa.heads;
    lk_val q = split_heads(g, n->in[0], h), k = split_heads(g, n->in[1], h), v = split_heads(g, n->in[2], h);
    lk_val p = probabilities(g, q, k, n->n_in == 4 ? n->in[3] : LK_NONE, n->attr.sdpa);
    return join_heads(g, lk_matmul(g, p, v, LK_NONE, plain));
}

/* dp = dy v^T, ds = p * (dp - rowsum(p * dp)), dq = (ds k) * scale, dk = (ds^T q) * scale, dv = p^T dy */
lk_val lk_decompose_sdpa_grad(lk_graph *g, const lk_node *n) {
    lk_sdpa_attr a = n->attr.sdpa;
    lk_val q = split_heads(g, n->in[0], a.heads), k = split_heads(g, n->in[1], a.heads), v = split_heads(g, n->in[2], a.heads);
    lk_val dy = split_heads(g, n->in[3], a.heads);
    lk_val p = probabilities(g, q, k, n->n_in == 5 ? n->in[4] : LK_NONE, a);
    lk_val ds = lk_softmax_dx(g, p, lk_matmul(g, dy, v, LK_NONE, times_transposed));
    lk_val part[3] = {
        lk_scale(g, lk_matmul(g, ds, k, LK_NONE, plain), a.scale),
        lk_scale(g, lk_matmul(g, ds, q, LK_NONE, transposed_times), a.scale),
        lk_matmul(g, p, dy, LK_NONE, transposed_times),
    };
    for (int i = 0; i < 3; i++) {
        lk_val joined = join_heads(g, part[i]);
        part[i] = lk_reshape(g, joined, lk_shape_flat(lk_shape_of(g, joined)));
    }
    return lk_concat(g, part, 3, 0);
}
