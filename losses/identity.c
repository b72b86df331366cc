/* Identity losses, composed of elementwise operations and means. */
#include "losses/identity.h"

lk_val lk_identity_loss(lk_graph *g, lk_val embeddings, lk_val reference, lk_val gate) {
    lk_val far = lk_shift(g, lk_neg(g, lk_cosine(g, embeddings, lk_broadcast(g, lk_detach(g, reference), lk_shape_of(g, embeddings)), 1e-8)), 1);
    if (!lk_ok(gate)) return lk_mean_all(g, far);
    return lk_div(g, lk_sum_all(g, lk_mul(g, far, gate)), lk_max(g, lk_sum_all(g, gate), lk_scalar(g, 1)));
}
lk_val lk_total_variation(lk_graph *g, lk_val x) {
    int64_t h = lk_dim(g, x, 2), w = lk_dim(g, x, 3);
    lk_val across = lk_sub(g, lk_slice(g, x, 3, 1, w), lk_slice(g, x, 3, 0, w - 1)), down = lk_sub(g, lk_slice(g, x, 2, 1, h), lk_slice(g, x, 2, 0, h - 1));
    return lk_add(g, lk_mean_all(g, lk_abs(g, across)), lk_mean_all(g, lk_abs(g, down)));
}
lk_val lk_feature_loss(lk_graph *g, lk_val a, lk_val b) {
    return lk_mse(g, lk_normalize(g, a, 1e-8), lk_normalize(g, lk_detach(g, b), 1e-8));
}
