/* Distillation losses, composed of elementwise operations and means. */
#include "losses/distillation.h"
#include <math.h>

lk_jump lk_jump_between(lk_predict p, double a, double s, double a2, double s2) {
    switch (p) {
    case LK_PREDICT_EPSILON: return (lk_jump){ a2 / a, s2 - a2 * s / a };
    case LK_PREDICT_V:       return (lk_jump){ a2 * a + s2 * s, s2 * a - a2 * s };
    case LK_PREDICT_X0:      return (lk_jump){ s2 / s, a2 - s2 * a / s };
    default:                 return (lk_jump){ 1, s2 - s };
    }
}
lk_val lk_jump_to(lk_graph *g, lk_val x, lk_val m, lk_val on_x, lk_val on_prediction) {
    return lk_add(g, lk_per_sample(g, x, on_x), lk_per_sample(g, m, on_prediction));
}
lk_val lk_distillation_loss(lk_graph *g, lk_val student, lk_val teacher, lk_val weight) {
    return lk_diffusion_loss(g, student, lk_detach(g, teacher), weight);
}
lk_val lk_trajectory_loss(lk_graph *g, const lk_val *student, const lk_val *teacher, const lk_val *weight, int n) {
    if (n < 1) { lk_graph_fail(g, LK_EINPUT, "trajectory loss: %d points, at least 1", n); return LK_NONE; }
    lk_val sum = LK_NONE;
    for (int i = 0; i < n; i++) {
        lk_val one = lk_distillation_loss(g, student[i], teacher[i], weight ? weight[i] : LK_NONE);
        sum = i ? lk_add(g, sum, one) : one;
    }
    return lk_scale(g, sum, 1.0 / n);
}
lk_boundary lk_consistency_boundary(double timestep, double sigma_data, double scaling) {
    double u = timestep * scaling, s = sigma_data;
    return (lk_boundary){ s * s / (u * u + s * s), u / sqrt(u * u + s * s) };
}
lk_val lk_consistency_output(lk_graph *g, lk_val x, lk_val x0, lk_val skip, lk_val out) {
    return lk_add(g, lk_per_sample(g, x, skip), lk_per_sample(g, x0, out));
}
lk_val lk_pseudo_huber(lk_graph *g, lk_val a, lk_val b, double c) {
    lk_val d = lk_sub(g, a, lk_detach(g, b));
    return lk_mean_all(g, lk_shift(g, lk_sqrt(g, lk_shift(g, lk_square(g, d), c * c)), -c));
}
static lk_val mean_of_sample(lk_graph *g, lk_val x) {
    lk_axes axes = { .n = lk_shape_of(g, x).rank - 1 };
    for (int i = 0; i < axes.n; i++) axes.axis[i] = i + 1;
    return lk_mean(g, x, axes);
}
lk_val lk_distribution_matching(lk_graph *g, lk_val x, lk_val x0_real, lk_val x0_fake) {
    lk_val here = lk_detach(g, x), real = lk_detach(g, x0_real), fake = lk_detach(g, x0_fake);
    lk_val size = lk_max(g, mean_of_sample(g, lk_abs(g, lk_sub(g, here, real))), lk_scalar(g, 1e-6));
    lk_val direction = lk_per_sample(g, lk_sub(g, fake, real), lk_recip(g, size));
    return lk_mean_all(g, lk_mul(g, x, direction));        /* linear in x: the gradient is the direction, and nothing else reaches x */
}
lk_val lk_score_distillation(lk_graph *g, lk_val x, lk_val x0_teacher, lk_val weight) {
    return lk_diffusion_loss(g, x, lk_detach(g, x0_teacher), weight);
}
