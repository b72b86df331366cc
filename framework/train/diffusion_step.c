/* The diffusion training step: noise, noised latent, prediction, weighted loss, for each micro-batch in turn. What
 * depends on a sample's timestep (alpha, sigma, min-SNR weight) is computed by the host in binary64 and given as [B]
 * inputs, so one graph serves every schedule. */
#include "train/train.h"
#include "base/exact_math.h"
#include <stdlib.h>

static lk_val leaf(lk_graph *g, const char *name, int micro, lk_dtype dtype, lk_shape shape) {
    return lk_input(g, lk_fmt(lk_graph_arena(g), "%s.%d", name, micro), dtype, shape);
}
static void make_noise(lk_graph *g, const lk_diffusion_config *c, int i, lk_micro *m) {
    lk_shape offset = { 4, { c->latent.d[0], c->latent.d[1], 1, 1 } };
    if (c->noise_offset > 0 && c->latent.rank != 4) lk_graph_fail(g, LK_EINPUT, "noise_offset needs a [B, C, H, W] latent, not rank %d", c->latent.rank);
    if (c->noise_given) {
        m->noise = leaf(g, "noise", i, LK_F32, c->latent);
        if (c->noise_offset > 0) m->offset_draw = leaf(g, "offset_draw", i, LK_F32, offset);
        return;
    }
    m->seed = leaf(g, "noise_seed", i, LK_I64, LK_SCALAR);
    m->step = leaf(g, "noise_step", i, LK_I64, LK_SCALAR);
    m->samples = leaf(g, "noise_samples", i, LK_I64, LK_SHAPE(c->latent.d[0]));
    m->noise = lk_randn(g, m->seed, m->step, m->samples, "noise", c->latent);
    if (c->noise_offset > 0) m->offset_draw = lk_randn(g, m->seed, m->step, m->samples, "noise_offset", offset);
}
static lk_micro build_micro(lk_graph *g, const lk_diffusion_config *c, int i, lk_predict_fn predict, void *ctx, lk_val x0) {
    lk_shape batch = LK_SHAPE(c->latent.d[0]);
    lk_micro m = { .x0 = x0, .weight = LK_NONE, .noise = LK_NONE, .offset_draw = LK_NONE, .seed = LK_NONE, .step = LK_NONE, .samples = LK_NONE };
    if (!lk_ok(x0)) m.x0 = leaf(g, "x0", i, LK_F32, c->latent);
    m.timestep = leaf(g, "timestep", i, LK_F32, batch);
    m.alpha = leaf(g, "alpha", i, LK_F32, batch);
    m.sigma = leaf(g, "sigma", i, LK_F32, batch);
    if (c->snr_gamma > 0) m.weight = leaf(g, "snr_weight", i, LK_F32, batch);
    make_noise(g, c, i, &m);
    lk_val noise = lk_ok(m.offset_draw) ? lk_noise_offset(g, m.noise, m.offset_draw, c->noise_offset) : m.noise;
    m.noisy = lk_noised(g, m.x0, noise, m.alpha, m.sigma);
    m.target = lk_diffusion_target(g, c->prediction, m.x0, noise, m.alpha, m.sigma);
    m.predicted = predict(ctx, g, i, m.noisy, m.timestep);
    m.loss = lk_label(g, lk_diffusion_loss(g, m.predicted, m.target, m.weight), "diffusion loss");
    return m;
}
lk_diffusion_step *lk_diffusion_step_new(lk_graph *g, lk_diffusion_config c, lk_predict_fn predict, void *ctx, const lk_val *x0, lk_optimiser *o) {
    lk_arena *a = lk_graph_arena(g);
    lk_diffusion_step *s = lk_alloc(a, sizeof *s);
    s->config = c;
    s->n = c.micro_batches > 1 ? c.micro_batches : 1;
    s->micro = lk_alloc(a, (size_t)s->n * sizeof(lk_micro));
    for (int i = 0; i < s->n; i++) {
        s->micro[i] = build_micro(g, &c, i, predict, ctx, x0 ? x0[i] : LK_NONE);
        lk_optimiser_add_loss(o, s->micro[i].loss);
    }
    return s;
}

/* ---- host side ---------------------------------------------------------------------------------------------------- */
lk_err lk_diffusion_set_timesteps(const lk_diffusion_step *s, lk_exec *x, int i, const lk_scheduler *sched, const double *t, const double *model_t) {
    const lk_micro *m = &s->micro[i];
    int64_t B = s->config.latent.d[0];
    double *v = lk_xcalloc((size_t)B * 3, sizeof *v), *alpha = v, *sigma = v + B, *weight = v + 2 * B;
    lk_err e = LK_OK;
    for (int64_t k = 0; k < B && !e; k++) {
        e = lk_scheduler_marginal(sched, t[k], &alpha[k], &sigma[k]);
        if (!e && lk_ok(m->weight)) e = lk_scheduler_min_snr_weight(sched, (int)t[k], s->config.snr_gamma, &weight[k]);
    }
    if (!e) e = lk_exec_set_f64(x, m->timestep, model_t ? model_t : t, B);
    if (!e) e = lk_exec_set_f64(x, m->alpha, alpha, B);
    if (!e) e = lk_exec_set_f64(x, m->sigma, sigma, B);
    if (!e && lk_ok(m->weight)) e = lk_exec_set_f64(x, m->weight, weight, B);
    free(v);
    return e;
}
lk_err lk_diffusion_set_sigmas(const lk_diffusion_step *s, lk_exec *x, int i, const double *sigma, double scale) {
    const lk_micro *m = &s->micro[i];
    int64_t B = s->config.latent.d[0];
    if (lk_ok(m->weight)) return lk_error(LK_EINPUT, "min-SNR weights are defined for diffusion, not for flow matching");
    double *v = lk_xcalloc((size_t)B * 2, sizeof *v);
    for (int64_t k = 0; k < B; k++) { v[k] = 1 - sigma[k]; v[B + k] = sigma[k] * scale; }
    lk_err e = lk_exec_set_f64(x, m->alpha, v, B);
    if (!e) e = lk_exec_set_f64(x, m->sigma, sigma, B);
    if (!e) e = lk_exec_set_f64(x, m->timestep, v + B, B);
    free(v);
    return e;
}
lk_err lk_diffusion_set_noise_key(const lk_diffusion_step *s, lk_exec *x, int i, int64_t seed, int64_t step, const int64_t *samples) {
    const lk_micro *m = &s->micro[i];
    if (!lk_ok(m->seed)) return lk_error(LK_ESTATE, "this diffusion step takes its noise as an input (noise_given)");
    LK_TRY(lk_exec_set_i64(x, m->seed, &seed, 1));
    LK_TRY(lk_exec_set_i64(x, m->step, &step, 1));
    return lk_exec_set_i64(x, m->samples, samples, s->config.latent.d[0]);
}
int lk_draw_timestep(uint64_t key, int64_t step, int64_t sample, int T) {
    return (int)lk_philox_below(key, (uint64_t)step, (uint32_t)sample, 0, (uint32_t)T);
}
double lk_draw_logit_normal(uint64_t key, int64_t step, int64_t sample, double mean, double std, double shift) {
    double z = lk_philox_normal(key, (uint64_t)step, (uint32_t)sample, 0), s = 1 / (1 + lk_exp_d(-(mean + std * z)));
    return shift * s / (1 + (shift - 1) * s);
}
