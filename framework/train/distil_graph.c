/* A stage's training step as one graph: the student's prediction, the stage's loss, the critic's or the fake score's own loss, clipping
 * and AdamW for each. Each loss is differentiated with respect to its own params alone. */
#include "train/distil_internal.h"
#include "models/discriminator.h"
#include <stdlib.h>
#include <string.h>

typedef struct { const lk_zoo *zoo; const lk_distil_plan *plan; const lk_distil_stage *stage; bool own; lk_distil_step *s; } builder;

static lk_val per_sample(builder *b, const char *name) { return lk_input(b->s->g, name, LK_F32, LK_SHAPE(b->plan->batch)); }
static lk_val latents(builder *b, const char *name) { return lk_input(b->s->g, name, LK_F32, LK_SHAPE(b->plan->batch, LK_ZOO_LATENT, LK_ZOO_GRID, LK_ZOO_GRID)); }
static lk_val predict(builder *b, lk_adapter **adapter, lk_val x, lk_val t, lk_val context) {
    lk_net net = lk_net_root(b->s->g);
    if (adapter && *adapter) { net.adapters = adapter; net.n_adapters = 1; }
    return lk_unet2d(&net, &b->zoo->unet, x, t, context, LK_UNET_PLAIN);
}
static lk_optimiser *optimiser(builder *b, const char *name) {
    return lk_optimiser_new(b->s->g, NULL, 0, (lk_optimiser_config){.adamw = {0.9, 0.99, 1e-8, 0}, .clip = 1, .name = name});
}
static void train_adapter(builder *b, lk_adapter *adapter, lk_optimiser *o, lk_val loss) {
    const lk_val *params;
    int n = lk_adapter_params(adapter, b->s->g, &params);
    lk_optimiser_params(o, params, n);
    lk_optimiser_add_loss(o, loss);
}
/* All weights under a prefix; "": the UNet's own. In the graph's arena. */
static int weights_under(lk_graph *g, const char *prefix, lk_val **params) {
    int count = lk_graph_count(g), n = 0;
    *params = lk_alloc(lk_graph_arena(g), sizeof **params * (size_t)count);
    for (int i = 0; i < count; i++) {
        const lk_node *node = lk_graph_node(g, (lk_val){i});
        if (node->op == LK_OP_param && node->mem == LK_MEM_WEIGHT && (*prefix ? lk_starts(node->name, prefix) : !strchr(node->name, '/'))) (*params)[n++] = (lk_val){i};
    }
    return n;
}
static void train_weights(builder *b, const char *prefix, lk_optimiser *o, lk_val loss) {
    lk_val *params;
    int n = weights_under(b->s->g, prefix, &params);
    lk_optimiser_params(o, params, n);
    lk_optimiser_add_loss(o, loss);
}
static lk_val landing_loss(builder *b, lk_val landed) {
    b->s->weight = per_sample(b, "weight");
    return lk_distillation_loss(b->s->g, landed, b->s->landing, b->s->weight);
}
static lk_val with_mse(builder *b, lk_val loss, lk_val landed) {
    return b->stage->mse_weight > 0 ? lk_add(b->s->g, loss, lk_scale(b->s->g, landing_loss(b, landed), b->stage->mse_weight)) : loss;
}

/* ---- one function a kind: the student's loss; the critic's goes to *critic ------------------------------------------------ */
static lk_val jumped(builder *b, lk_val m) {
    lk_distil_step *s = b->s;
    s->on_x = per_sample(b, "on_x");
    s->on_m = per_sample(b, "on_m");
    s->landing = latents(b, "landing");
    return lk_jump_to(s->g, s->x_t, m, s->on_x, s->on_m);
}
static lk_val adversarial(builder *b, lk_val m, lk_val *critic) {
    lk_distil_step *s = b->s;
    lk_graph *g = s->g;
    lk_val landed = jumped(b, m), real = lk_detach(g, s->landing), fake = landed;
    s->judge_t = per_sample(b, "judge_t");
    if (b->stage->renoise) {
        s->judge_alpha = per_sample(b, "judge_alpha");
        s->judge_sigma = per_sample(b, "judge_sigma");
        s->judge_noise = latents(b, "judge_noise");
        fake = lk_noised(g, fake, s->judge_noise, s->judge_alpha, s->judge_sigma);
        real = lk_noised(g, real, s->judge_noise, s->judge_alpha, s->judge_sigma);
    }
    lk_net net = lk_net_root(g);
    net.param_prefix = "critic/";
    lk_val from = b->stage->conditional ? s->x_t : LK_NONE, from_t = b->stage->conditional ? s->t : LK_NONE;
    lk_discriminator_out f = lk_discriminator(&net, &b->zoo->unet, fake, s->judge_t, from, from_t, s->context);
    lk_discriminator_out r = lk_discriminator(&net, &b->zoo->unet, real, s->judge_t, from, from_t, s->context);
    *critic = lk_critic_loss(g, LK_NON_SATURATING, r.logits, f.logits);
    if (b->plan->r1 > 0) *critic = lk_add(g, *critic, lk_scale(g, lk_r1_penalty(g, r.logits, r.head_in), b->plan->r1));
    return with_mse(b, lk_generator_loss(g, LK_NON_SATURATING, f.logits), landed);
}
static lk_val consistency(builder *b, lk_val m) {
    lk_distil_step *s = b->s;
    lk_graph *g = s->g;
    s->x0_on_x = per_sample(b, "x0_on_x"); s->x0_on_m = per_sample(b, "x0_on_m"); s->skip = per_sample(b, "skip"); s->out = per_sample(b, "out");
    s->x_near = latents(b, "x_near"); s->t_near = per_sample(b, "t_near");
    s->near_on_x = per_sample(b, "near_on_x"); s->near_on_m = per_sample(b, "near_on_m"); s->near_skip = per_sample(b, "near_skip"); s->near_out = per_sample(b, "near_out");
    lk_val f = lk_consistency_output(g, s->x_t, lk_jump_to(g, s->x_t, m, s->x0_on_x, s->x0_on_m), s->skip, s->out);
    lk_val near = predict(b, &s->student, s->x_near, s->t_near, s->context);
    lk_val target = lk_consistency_output(g, s->x_near, lk_jump_to(g, s->x_near, near, s->near_on_x, s->near_on_m), s->near_skip, s->near_out);
    return lk_pseudo_huber(g, f, target, 0.001);
}
/* Where matching and pixels look at x0: noised again, and the guided base's opinion of it. */
static lk_val judged_by_base(builder *b, lk_val x0, lk_val *noised) {
    lk_distil_step *s = b->s;
    lk_graph *g = s->g;
    s->judge_t = per_sample(b, "judge_t"); s->judge_alpha = per_sample(b, "judge_alpha"); s->judge_sigma = per_sample(b, "judge_sigma");
    s->judge_noise = latents(b, "judge_noise");
    s->empty = lk_input(g, "empty", LK_F32, LK_SHAPE(b->plan->batch, LK_ZOO_TOKENS, b->zoo->text.hidden));
    s->guidance = lk_input(g, "guidance", LK_F32, LK_SCALAR);
    *noised = lk_noised(g, lk_detach(g, x0), s->judge_noise, s->judge_alpha, s->judge_sigma);
    lk_val with = predict(b, NULL, *noised, s->judge_t, s->context), without = predict(b, NULL, *noised, s->judge_t, s->empty);
    return lk_diffusion_x0(g, LK_PREDICT_V, *noised, lk_lerp(g, without, with, s->guidance), s->judge_alpha, s->judge_sigma);
}
static lk_val matching(builder *b, lk_val m, lk_val *fake_loss) {
    lk_distil_step *s = b->s;
    lk_graph *g = s->g;
    lk_val landed = jumped(b, m);
    s->x0_on_x = per_sample(b, "x0_on_x"); s->x0_on_m = per_sample(b, "x0_on_m");
    lk_val x0 = lk_jump_to(g, s->x_t, m, s->x0_on_x, s->x0_on_m), noised, real = judged_by_base(b, x0, &noised);
    lk_val believed = predict(b, &s->fake, noised, s->judge_t, s->context);
    *fake_loss = lk_diffusion_loss(g, believed, lk_diffusion_target(g, LK_PREDICT_V, lk_detach(g, x0), s->judge_noise, s->judge_alpha, s->judge_sigma), LK_NONE);
    return with_mse(b, lk_distribution_matching(g, x0, real, lk_diffusion_x0(g, LK_PREDICT_V, noised, believed, s->judge_alpha, s->judge_sigma)), landed);
}
/* One logit a token of the vision tower: latents decoded, the tower, two layers that are trained. */
static lk_val pixel_logits(builder *b, lk_val x0) {
    lk_graph *g = b->s->g;
    lk_net vae = lk_net_root(g), clip = vae, critic = vae;
    vae.param_prefix = "vae/"; clip.param_prefix = "clip/"; critic.param_prefix = "critic/";
    lk_val tokens = lk_clip_vision(&clip, &b->zoo->vision, lk_vae_decode(&vae, &b->zoo->vae, x0)).last_hidden_state;
    int64_t width = b->zoo->vision.hidden;
    return lk_nn_linear(&critic, "head.2", lk_silu(g, lk_nn_linear(&critic, "head.0", tokens, width, width, true)), width, 1, true);
}
static lk_val pixels(builder *b, lk_val m, lk_val *critic) {
    lk_distil_step *s = b->s;
    lk_graph *g = s->g;
    lk_val noised;
    s->x0_on_x = per_sample(b, "x0_on_x"); s->x0_on_m = per_sample(b, "x0_on_m");
    s->clean = latents(b, "clean");
    lk_val x0 = lk_jump_to(g, s->x_t, m, s->x0_on_x, s->x0_on_m), believed = judged_by_base(b, x0, &noised), fake = pixel_logits(b, x0);
    *critic = lk_critic_loss(g, LK_HINGE, pixel_logits(b, s->clean), fake);
    return lk_add(g, lk_generator_loss(g, LK_HINGE, fake), lk_scale(g, lk_score_distillation(g, x0, believed, s->judge_alpha), b->stage->score_weight));
}
/* What no update writes belongs to the checkpoint too: params that an effect writes with what they hold. The student's own weights in a LoRA
 * stage; the teacher: weights where the student has its own, else an adapter. */
static void keep_teacher(builder *b) {
    lk_distil_step *s = b->s;
    lk_graph *g = s->g;
    lk_arena *a = lk_graph_arena(g);
    const lk_val *params = s->weights;
    s->n_teacher = !b->own ? lk_adapter_params(s->student, g, &params) : b->stage->base_teacher ? 0 : s->n_weights;
    s->teacher = lk_alloc(a, sizeof *s->teacher * (size_t)(s->n_teacher + 1));
    for (int i = 0; i < s->n_teacher; i++) {
        const char *name = lk_graph_node(g, params[i])->name;
        s->teacher[i] = lk_param(g, lk_fmt(a, "teacher/%s", name), lk_shape_of(g, params[i]), b->own ? LK_MEM_WEIGHT : LK_MEM_ADAPTER);
        lk_assign(g, s->teacher[i], s->teacher[i]);
    }
}
lk_err lk_distil_step_build(const lk_zoo *z, const lk_distil_plan *p, int index, lk_distil_step *s) {
    const lk_distil_stage *stage = &p->stage[index];
    memset(s, 0xff, sizeof *s);                                    /* every value LK_NONE */
    s->g = lk_graph_new(); s->x = NULL; s->student = s->fake = NULL; s->critic = NULL; s->teacher = s->weights = NULL; s->n_teacher = s->n_weights = 0;
    builder b = {z, p, stage, lk_distil_own(p, index), s};
    if (!stage->full) s->student = lk_adapter_new(lk_distil_lora(p->rank), "");
    if (stage->kind == LK_DISTIL_MATCHING) s->fake = lk_adapter_new(lk_distil_lora(p->rank), "fake/");
    s->x_t = latents(&b, "x_t");
    s->t = per_sample(&b, "t");
    s->context = lk_input(s->g, "context", LK_F32, LK_SHAPE(p->batch, LK_ZOO_TOKENS, z->text.hidden));
    s->optimiser = optimiser(&b, "");
    lk_val m = predict(&b, &s->student, s->x_t, s->t, s->context), second = LK_NONE, loss;
    switch (stage->kind) {
    case LK_DISTIL_ADVERSARIAL: loss = adversarial(&b, m, &second); break;
    case LK_DISTIL_CONSISTENCY: loss = consistency(&b, m); break;
    case LK_DISTIL_MATCHING:    loss = matching(&b, m, &second); break;
    case LK_DISTIL_PIXELS:      loss = pixels(&b, m, &second); break;
    default:                    loss = landing_loss(&b, jumped(&b, m)); break;
    }
    if (stage->full) train_weights(&b, "", s->optimiser, loss); else train_adapter(&b, s->student, s->optimiser, loss);
    if (lk_ok(second)) {                                           /* both gradients are taken before either update */
        s->critic = optimiser(&b, "critic");
        if (s->fake) train_adapter(&b, s->fake, s->critic, second); else train_weights(&b, "critic/", s->critic, second);
    }
    lk_optimiser_finish(s->optimiser);
    if (s->critic) lk_optimiser_finish(s->critic);
    if (b.own) s->n_weights = weights_under(s->g, "", &s->weights);
    for (int i = 0; i < s->n_weights && !stage->full; i++) lk_assign(s->g, s->weights[i], s->weights[i]);
    keep_teacher(&b);
    s->outputs[0] = lk_optimiser_loss(s->optimiser);
    s->outputs[1] = lk_optimiser_grad_norm(s->optimiser);
    if (s->critic) { s->outputs[2] = lk_optimiser_loss(s->critic); s->outputs[3] = lk_optimiser_grad_norm(s->critic); }
    s->n_outputs = s->critic ? 4 : 2;
    return lk_graph_error(s->g);
}
void lk_distil_step_free(lk_distil_step *s) {
    lk_exec_free(s->x);
    lk_graph_free(s->g);
    lk_adapter_free(s->student);
    lk_adapter_free(s->fake);
    *s = (lk_distil_step){0};
}
