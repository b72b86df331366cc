/* The optimiser as nodes: gradients of each micro-batch are summed in order, clipped by one norm over all params,
 * and handed to AdamW effects (docs/numerics.md rule 10). Gradients are asked for per micro-batch right after its
 * forward pass, so its activations can be freed before the next begins. */
#include "train/train.h"
#include <string.h>

struct lk_optimiser {
    lk_graph *g; lk_optimiser_config config;
    int n; lk_val *param, *grad;        /* grad: sum so far; LK_NONE before the first loss, and where no loss reaches the param */
    int losses; lk_val loss;            /* sum so far, then the mean */
    lk_val lr, bc1, bc2, norm;
};

lk_optimiser *lk_optimiser_new(lk_graph *g, const lk_val *params, int n, lk_optimiser_config c) {
    lk_arena *a = lk_graph_arena(g);
    lk_optimiser *o = lk_alloc(a, sizeof *o);
    if (c.adamw.beta1 == 0 && c.adamw.beta2 == 0) { c.adamw.beta1 = .9; c.adamw.beta2 = .999; }
    if (c.adamw.eps == 0) c.adamw.eps = 1e-8;
    if (c.micro_batches < 1) c.micro_batches = 1;
    if (!c.name) c.name = "";
    *o = (lk_optimiser){ .g = g, .config = c, .loss = LK_NONE, .norm = LK_NONE };
    if (n) lk_optimiser_params(o, params, n);
    o->lr = lk_input(g, lk_fmt(a, "%slr", c.name), LK_F32, LK_SCALAR);
    o->bc1 = lk_input(g, lk_fmt(a, "%sbc1", c.name), LK_F32, LK_SCALAR);
    o->bc2 = lk_input(g, lk_fmt(a, "%sbc2", c.name), LK_F32, LK_SCALAR);
    return o;
}
void lk_optimiser_params(lk_optimiser *o, const lk_val *params, int n) {
    lk_arena *a = lk_graph_arena(o->g);
    if (o->losses) { lk_graph_fail(o->g, LK_ESTATE, "optimiser: params must be given before the first loss"); return; }
    o->n = n;
    o->param = lk_alloc(a, (size_t)n * sizeof(lk_val));
    o->grad = lk_alloc(a, (size_t)n * sizeof(lk_val));
    for (int i = 0; i < n; i++) { o->param[i] = params[i]; o->grad[i] = LK_NONE; }
}
void lk_optimiser_add_loss(lk_optimiser *o, lk_val loss) {
    lk_graph *g = o->g;
    if (o->n == 0) { lk_graph_fail(g, LK_EINPUT, "an optimiser needs params to train: none was given (does any target name match a module?)"); return; }
    if (o->losses++ >= o->config.micro_batches)
        lk_graph_fail(g, LK_ESTATE, "optimiser: loss %d of %d micro-batches", o->losses, o->config.micro_batches);
    lk_val *grad = lk_alloc(lk_graph_arena(g), (size_t)o->n * sizeof(lk_val));
    lk_val share = o->config.micro_batches == 1 || o->config.sum ? loss : lk_scale(g, loss, 1. / o->config.micro_batches);
    lk_vjp(g, share, LK_NONE, o->param, o->n, grad);
    for (int i = 0; i < o->n; i++)
        o->grad[i] = !lk_ok(grad[i]) ? o->grad[i] : lk_ok(o->grad[i]) ? lk_add(g, o->grad[i], grad[i]) : grad[i];
    o->loss = lk_ok(o->loss) ? lk_add(g, o->loss, share) : share;
}
static lk_val clip_coefficient(lk_optimiser *o) {
    lk_graph *g = o->g;
    return lk_min(g, lk_scalar(g, 1), lk_div(g, lk_scalar(g, o->config.clip), lk_shift(g, o->norm, 1e-6)));
}
void lk_optimiser_finish(lk_optimiser *o) {
    lk_graph *g = o->g;
    if (o->n == 0) return;                                          /* told by the first loss */
    lk_arena *a = lk_graph_arena(g);
    lk_val *reached = lk_alloc(a, (size_t)o->n * sizeof(lk_val));
    int n = 0;
    if (o->losses != o->config.micro_batches) lk_graph_fail(g, LK_ESTATE, "optimiser: %d losses for %d micro-batches", o->losses, o->config.micro_batches);
    for (int i = 0; i < o->n; i++) if (lk_ok(o->grad[i])) reached[n++] = o->grad[i];
    if (n == 0) { lk_graph_fail(g, LK_EINPUT, "optimiser: the loss depends on none of the %d params", o->n); return; }
    o->norm = lk_label(g, lk_global_norm(g, reached, n), "gradient norm");
    lk_val coefficient = o->config.clip > 0 ? clip_coefficient(o) : LK_NONE;
    for (int i = 0; i < o->n; i++) {
        if (!lk_ok(o->grad[i])) continue;
        const lk_node *p = lk_graph_node(g, o->param[i]);
        if (!p) continue;
        const char *name = p->name; lk_shape shape = p->shape;
        lk_val m = lk_param(g, lk_fmt(a, "%s.adamw_m", name), shape, LK_MEM_OPTIMISER);
        lk_val v = lk_param(g, lk_fmt(a, "%s.adamw_v", name), shape, LK_MEM_OPTIMISER);
        lk_val grad = lk_ok(coefficient) ? lk_mul(g, o->grad[i], coefficient) : o->grad[i];
        lk_adamw(g, o->param[i], m, v, grad, o->lr, o->bc1, o->bc2, o->config.adamw);
    }
}
lk_val lk_optimiser_grad_norm(const lk_optimiser *o) { return o->norm; }
lk_val lk_optimiser_loss(const lk_optimiser *o) { return o->loss; }
lk_val lk_optimiser_grad(const lk_optimiser *o, int i) { return o->grad[i]; }

static double whole_power(double x, int64_t n) {
    double r = 1;
    for (; n; n >>= 1, x *= x) if (n & 1) r *= x;
    return r;
}
lk_err lk_optimiser_set(const lk_optimiser *o, lk_exec *x, int64_t step, double lr) {
    LK_TRY(lk_exec_set_scalar(x, o->lr, lr));
    LK_TRY(lk_exec_set_scalar(x, o->bc1, 1 - whole_power(o->config.adamw.beta1, step + 1)));
    return lk_exec_set_scalar(x, o->bc2, 1 - whole_power(o->config.adamw.beta2, step + 1));
}
