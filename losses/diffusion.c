/* The diffusion loss, composed from elementwise operations: nothing here has a kernel of its own. */
#include "losses/diffusion.h"
#include <string.h>

lk_err lk_predict_parse(const char *name, lk_predict *out) {
    static const struct { const char *name; lk_predict value; } names[] = {
        { "epsilon", LK_PREDICT_EPSILON }, { "v_prediction", LK_PREDICT_V }, { "sample", LK_PREDICT_X0 },
        { "flow_prediction", LK_PREDICT_FLOW }, { "flow", LK_PREDICT_FLOW } };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp(name, names[i].name)) { *out = names[i].value; return LK_OK; }
    return lk_error(LK_EINPUT, "unknown prediction type \"%s\": epsilon, v_prediction, sample or flow_prediction", name);
}
lk_val lk_per_sample(lk_graph *g, lk_val x, lk_val s) {
    lk_shape shape = { .rank = lk_shape_of(g, x).rank };
    if (shape.rank > 0) shape.d[0] = lk_dim(g, x, 0);
    for (int i = 1; i < shape.rank; i++) shape.d[i] = 1;
    return lk_mul(g, x, lk_reshape(g, s, shape));
}
lk_val lk_noised(lk_graph *g, lk_val x0, lk_val noise, lk_val alpha, lk_val sigma) {
    return lk_add(g, lk_per_sample(g, x0, alpha), lk_per_sample(g, noise, sigma));
}
lk_val lk_noise_offset(lk_graph *g, lk_val noise, lk_val draw, double strength) {
    return lk_add(g, noise, lk_scale(g, draw, strength));
}
lk_val lk_diffusion_target(lk_graph *g, lk_predict p, lk_val x0, lk_val noise, lk_val alpha, lk_val sigma) {
    switch (p) {
    case LK_PREDICT_EPSILON: return noise;
    case LK_PREDICT_V:       return lk_sub(g, lk_per_sample(g, noise, alpha), lk_per_sample(g, x0, sigma));
    case LK_PREDICT_X0:      return x0;
    default:                 return lk_sub(g, noise, x0);
    }
}
lk_val lk_diffusion_x0(lk_graph *g, lk_predict p, lk_val x_t, lk_val prediction, lk_val alpha, lk_val sigma) {
    switch (p) {
    case LK_PREDICT_EPSILON: return lk_per_sample(g, lk_sub(g, x_t, lk_per_sample(g, prediction, sigma)), lk_recip(g, alpha));
    case LK_PREDICT_V:       return lk_sub(g, lk_per_sample(g, x_t, alpha), lk_per_sample(g, prediction, sigma));
    case LK_PREDICT_X0:      return prediction;
    default:                 return lk_sub(g, x_t, lk_per_sample(g, prediction, sigma));
    }
}
static lk_axes within_sample(lk_graph *g, lk_val x) {
    lk_axes axes = { .n = lk_shape_of(g, x).rank - 1 };
    for (int i = 0; i < axes.n; i++) axes.axis[i] = i + 1;
    return axes;
}
static lk_val weighed(lk_graph *g, lk_val per_sample, lk_val weight) { return lk_mean_all(g, lk_ok(weight) ? lk_mul(g, per_sample, weight) : per_sample); }
lk_val lk_diffusion_loss(lk_graph *g, lk_val prediction, lk_val target, lk_val weight) {
    if (!lk_ok(weight)) return lk_mse(g, prediction, target);
    return weighed(g, lk_mean(g, lk_square(g, lk_sub(g, prediction, target)), within_sample(g, prediction)), weight);
}
lk_val lk_diffusion_huber(lk_graph *g, lk_val prediction, lk_val target, double c, lk_val weight) {
    if (!(c > 0)) { lk_graph_fail(g, LK_EINPUT, "pseudo-Huber c = %g: it must be above 0", c); return LK_NONE; }
    lk_val d = lk_sub(g, prediction, target);
    return weighed(g, lk_mean(g, lk_shift(g, lk_sqrt(g, lk_shift(g, lk_square(g, d), c * c)), -c), within_sample(g, prediction)), weight);
}
lk_val lk_diffusion_masked(lk_graph *g, lk_val prediction, lk_val target, lk_val mask, lk_val weight) {
    lk_val m = lk_broadcast(g, mask, lk_shape_of(g, prediction)), d = lk_sub(g, prediction, target);
    lk_axes axes = within_sample(g, prediction);
    return weighed(g, lk_div(g, lk_reduce_sum(g, lk_mul(g, m, lk_square(g, d)), axes), lk_reduce_sum(g, m, axes)), weight);
}
