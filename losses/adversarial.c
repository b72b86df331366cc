/* Adversarial losses on logits. */
#include "losses/adversarial.h"
#include <string.h>

lk_err lk_adversarial_parse(const char *name, lk_adversarial *out) {
    if (!strcmp(name, "non_saturating")) { *out = LK_NON_SATURATING; return LK_OK; }
    if (!strcmp(name, "hinge")) { *out = LK_HINGE; return LK_OK; }
    return lk_error(LK_EINPUT, "unknown adversarial loss \"%s\": non_saturating or hinge", name);
}
lk_val lk_softplus(lk_graph *g, lk_val x) {
    return lk_add(g, lk_relu(g, x), lk_log(g, lk_shift(g, lk_exp(g, lk_neg(g, lk_abs(g, x))), 1)));
}
lk_val lk_generator_loss(lk_graph *g, lk_adversarial kind, lk_val fake) {
    return kind == LK_HINGE ? lk_neg(g, lk_mean_all(g, fake)) : lk_mean_all(g, lk_softplus(g, lk_neg(g, fake)));
}
lk_val lk_critic_loss(lk_graph *g, lk_adversarial kind, lk_val real, lk_val fake) {
    if (kind == LK_HINGE) return lk_add(g, lk_mean_all(g, lk_relu(g, lk_shift(g, lk_neg(g, real), 1))), lk_mean_all(g, lk_relu(g, lk_shift(g, fake, 1))));
    return lk_add(g, lk_mean_all(g, lk_softplus(g, lk_neg(g, real))), lk_mean_all(g, lk_softplus(g, fake)));
}
lk_val lk_r1_penalty(lk_graph *g, lk_val logits, lk_val input) {
    lk_val slope;
    lk_vjp(g, lk_sum_all(g, logits), LK_NONE, &input, 1, &slope);
    if (lk_ok(logits) && lk_ok(input) && !lk_ok(slope)) lk_graph_fail(g, LK_EINPUT, "R1 penalty: the logits do not depend on the input given");
    int64_t batch = lk_dim(g, input, 0);
    return lk_scale(g, lk_sum_all(g, lk_square(g, slope)), 0.5 / (double)(batch ? batch : 1));
}
