/* Alignment losses. */
#include "losses/alignment.h"

static lk_val gathered(lk_graph *g, lk_cross_attention a) { return lk_sdpa(g, a.k, a.q, a.q, LK_NONE, (lk_sdpa_attr){ .heads = a.heads }); }
lk_val lk_alignment_semantic(lk_graph *g, lk_cross_attention with, lk_cross_attention without) {
    return lk_mse(g, gathered(g, with), lk_detach(g, gathered(g, without)));
}
lk_val lk_alignment_layout(lk_graph *g, lk_cross_attention with, lk_cross_attention without) { return lk_mse(g, with.q, lk_detach(g, without.q)); }
lk_val lk_alignment_loss(lk_graph *g, const lk_cross_attention *with, const lk_cross_attention *without, int n, double semantic, double layout) {
    lk_val sum = LK_NONE;
    if (n < 1) { lk_graph_fail(g, LK_EINPUT, "alignment: no cross-attention layer was seen"); return LK_NONE; }
    for (int i = 0; i < n; i++) {
        lk_val one = lk_add(g, lk_scale(g, lk_alignment_semantic(g, with[i], without[i]), semantic / n), lk_scale(g, lk_alignment_layout(g, with[i], without[i]), layout / n));
        sum = i ? lk_add(g, sum, one) : one;
    }
    return sum;
}
