/* LoRA training on one person's references. */
#include "train/personalise.h"
#include "models/lora_file.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct lk_personaliser {
    const lk_zoo *zoo; lk_personalise_opts opts; lk_references refs; uint64_t seed;
    lk_graph *g; lk_exec *x; lk_adapter *adapter; lk_scheduler *scheduler;
    lk_optimiser *optimiser; lk_diffusion_step *diffusion; lk_val ids, outputs[3];           /* loss, gradient norm[, extra loss] */
    double extra;
    int64_t (*tokens)[LK_ZOO_TOKENS];            /* of each caption, and at [n] of the empty one */
};

static lk_val predict(void *ctx, lk_graph *g, int micro, lk_val noisy, lk_val timestep) {
    lk_personaliser *p = ctx;
    (void)micro;
    lk_net text = lk_net_root(g), unet = text;
    text.param_prefix = "clip/";
    unet.adapters = &p->adapter;
    unet.n_adapters = 1;
    lk_val context = lk_detach(g, lk_clip_text(&text, &p->zoo->text, p->ids, LK_NONE).last_hidden_state);
    lk_val out = lk_unet2d(&unet, &p->zoo->unet, noisy, timestep, context, LK_UNET_PLAIN);
    const lk_val *params;                        /* known now that the adapter has met its modules */
    int n = lk_adapter_params(p->adapter, g, &params);
    lk_optimiser_params(p->optimiser, params, n);
    return out;
}
static lk_err build(lk_personaliser *p, lk_lora_config lora) {
    lk_graph *g = p->g = lk_graph_new();
    int64_t b = p->opts.batch;
    p->adapter = lk_adapter_new(lora, "");
    p->ids = lk_input(g, "ids", LK_I64, LK_SHAPE(b, LK_ZOO_TOKENS));
    p->optimiser = lk_optimiser_new(g, NULL, 0, (lk_optimiser_config){.adamw = {.beta1 = 0.9, .beta2 = 0.99, .eps = 1e-8, .weight_decay = p->opts.weight_decay}, .clip = p->opts.clip,
                                                                      .micro_batches = p->opts.extra ? 2 : 1, .sum = true});
    lk_diffusion_config c = {.prediction = LK_PREDICT_V, .latent = LK_SHAPE(b, LK_ZOO_LATENT, LK_ZOO_GRID, LK_ZOO_GRID)};
    p->diffusion = lk_diffusion_step_new(g, c, predict, p, NULL, p->optimiser);
    if (p->opts.extra) {
        p->outputs[2] = lk_label(g, p->opts.extra->build(p->opts.extra->ctx, g, p->adapter, &p->diffusion->micro[0]), "extra loss");
        lk_optimiser_add_loss(p->optimiser, p->outputs[2]);
    }
    lk_optimiser_finish(p->optimiser);
    p->outputs[0] = p->opts.extra ? p->diffusion->micro[0].loss : lk_optimiser_loss(p->optimiser);
    p->outputs[1] = lk_optimiser_grad_norm(p->optimiser);
    return lk_graph_error(g);
}
static lk_err allocate(lk_personaliser *p, lk_pool *pool) {
    static const char *const only_text[] = {"vision_model.", "visual_projection.", "text_projection.", "logit_scale", NULL};
    LK_TRY(lk_exec_new(p->g, p->outputs, p->opts.extra ? 3 : 2, (lk_exec_opts){.pool = pool}, &p->x));
    LK_TRY(lk_weights_bind(p->x, p->zoo->clip_weights, "clip/", only_text));
    LK_TRY(lk_weights_bind(p->x, p->zoo->unet_weights, "", NULL));
    if (p->opts.extra) LK_TRY(p->opts.extra->bind(p->opts.extra->ctx, p->x));
    lk_adapter_set_base(p->adapter, p->zoo->unet_weights);
    return lk_adapter_init(p->adapter, p->x, p->seed);
}
lk_err lk_personaliser_new(const lk_zoo *z, lk_lora_config lora, lk_personalise_opts o, lk_references refs, uint64_t seed, lk_pool *pool, lk_personaliser **out) {
    lk_personaliser *p = lk_xcalloc(1, sizeof *p);
    *p = (lk_personaliser){.zoo = z, .opts = o, .refs = refs, .seed = seed, .tokens = lk_xcalloc((size_t)refs.n + 1, sizeof *p->tokens)};
    lk_err e = LK_OK;
    for (int i = 0; i <= refs.n && !e; i++) e = lk_zoo_encode_text(z, i < refs.n ? refs.captions[i] : "", p->tokens[i]);
    if (!e) e = lk_scheduler_parse("DDIMScheduler", lk_zoo_scheduler, &p->scheduler);
    if (!e) e = build(p, lora);
    if (!e && refs.n) e = allocate(p, pool);
    if (e) { lk_personaliser_free(p); return e; }
    *out = p;
    return LK_OK;
}
void lk_personaliser_free(lk_personaliser *p) {
    if (!p) return;
    lk_exec_free(p->x);
    lk_graph_free(p->g);
    if (p->adapter) lk_adapter_free(p->adapter);
    if (p->scheduler) lk_scheduler_free(p->scheduler);
    free(p->tokens);
    free(p);
}
lk_graph *lk_personaliser_graph(const lk_personaliser *p, const lk_val **outputs) { *outputs = p->outputs; return p->g; }
lk_exec *lk_personaliser_exec(const lk_personaliser *p) { return p->x; }
double lk_personaliser_extra(const lk_personaliser *p) { return p->opts.extra ? p->extra : NAN; }
lk_adapter *lk_personaliser_adapter(const lk_personaliser *p) { return p->adapter; }

static lk_val build_both(void *ctx, lk_graph *g, lk_adapter *a, const lk_micro *d) {
    lk_extra_pair *p = ctx;
    lk_val one = p->part[0]->build(p->part[0]->ctx, g, a, d);
    return lk_add(g, one, p->part[1]->build(p->part[1]->ctx, g, a, d));
}
static lk_err bind_both(void *ctx, lk_exec *x) {
    lk_extra_pair *p = ctx;
    LK_TRY(p->part[0]->bind(p->part[0]->ctx, x));
    return p->part[1]->bind(p->part[1]->ctx, x);
}
static lk_err set_both(void *ctx, lk_exec *x, int64_t step) {
    lk_extra_pair *p = ctx;
    LK_TRY(p->part[0]->set(p->part[0]->ctx, x, step));
    return p->part[1]->set(p->part[1]->ctx, x, step);
}
const lk_extra_loss *lk_extra_both(lk_extra_pair *p, const lk_extra_loss *a, const lk_extra_loss *b) {
    *p = (lk_extra_pair){{a, b}, {build_both, bind_both, set_both, p}};
    return a && b ? &p->loss : a ? a : b;
}
int lk_personalise_pick(uint64_t seed, int64_t step, int i, int n) { return (int)lk_philox_below(lk_stream_key(seed, "personalise.pick"), (uint64_t)step, (uint32_t)i, 0, (uint32_t)n); }

static lk_err set_batch(lk_personaliser *p, int64_t step) {
    int b = p->opts.batch;
    uint64_t drop = lk_stream_key(p->seed, "personalise.caption"), when = lk_stream_key(p->seed, "personalise.timestep");
    float *latents = lk_xmalloc(sizeof(float) * (size_t)b * LK_ZOO_LATENT_SIZE);
    int64_t *ids = lk_xmalloc(sizeof(int64_t) * (size_t)b * LK_ZOO_TOKENS), *samples = lk_xmalloc(sizeof(int64_t) * (size_t)b);
    double *t = lk_xmalloc(sizeof(double) * (size_t)b);
    for (int i = 0; i < b; i++) {
        int r = lk_personalise_pick(p->seed, step, i, p->refs.n);
        bool dropped = lk_philox_uniform(drop, (uint64_t)step, (uint32_t)i, 0) < (float)p->opts.caption_dropout;
        memcpy(latents + (size_t)i * LK_ZOO_LATENT_SIZE, p->refs.latents + (size_t)r * LK_ZOO_LATENT_SIZE, sizeof(float) * LK_ZOO_LATENT_SIZE);
        memcpy(ids + (size_t)i * LK_ZOO_TOKENS, p->tokens[dropped ? p->refs.n : r], sizeof *p->tokens);
        t[i] = lk_draw_timestep(when, step, i, 1000);
        samples[i] = i;
    }
    lk_err e = lk_exec_set(p->x, p->diffusion->micro[0].x0, latents, (int64_t)b * LK_ZOO_LATENT_SIZE);
    if (!e) e = lk_exec_set_i64(p->x, p->ids, ids, (int64_t)b * LK_ZOO_TOKENS);
    if (!e) e = lk_diffusion_set_timesteps(p->diffusion, p->x, 0, p->scheduler, t, NULL);
    if (!e) e = lk_diffusion_set_noise_key(p->diffusion, p->x, 0, (int64_t)p->seed, step, samples);
    free(latents); free(ids); free(samples); free(t);
    return e;
}
lk_err lk_personaliser_step(lk_personaliser *p, int64_t step, double *loss, double *norm) {
    lk_lr schedule = {.name = "cosine", .base = p->opts.lr, .warmup = p->opts.warmup, .total = p->opts.steps};
    double rate;
    float l, n;
    LK_TRY(lk_lr_at(&schedule, step, &rate));
    LK_TRY(set_batch(p, step));
    if (p->opts.extra) LK_TRY(p->opts.extra->set(p->opts.extra->ctx, p->x, step));
    LK_TRY(lk_optimiser_set(p->optimiser, p->x, step, rate));
    LK_TRY(lk_exec_run(p->x));
    LK_TRY(lk_exec_get(p->x, p->outputs[0], &l, 1));
    LK_TRY(lk_exec_get(p->x, p->outputs[1], &n, 1));
    *loss = l; *norm = n;
    float extra = NAN;
    if (p->opts.extra) LK_TRY(lk_exec_get(p->x, p->outputs[2], &extra, 1));
    p->extra = extra;
    if (p->opts.extra && extra != extra) return lk_error(LK_ENUM, "training step %lld: extra loss %g beside diffusion loss %g", (long long)step, (double)extra, *loss);
    return l == l && n == n ? LK_OK : lk_error(LK_ENUM, "training step %lld: loss %g, gradient norm %g", (long long)step, *loss, *norm);
}

/* ---- looking at an adapter -------------------------------------------------------------------------------- */
static lk_err values_of(lk_exec *x, lk_val v, float **out, int64_t *n) {
    *n = lk_numel(lk_shape_of(lk_exec_graph(x), v));
    *out = lk_xmalloc(sizeof(float) * (size_t)*n);
    return lk_exec_get(x, v, *out, *n);
}
/* Of any kind: what merging would change. */
static lk_err merged_norm(const lk_personaliser *p, double *ratio) {
    lk_lora_file *f;
    LK_TRY(lk_lora_file_of(p->adapter, p->x, &f));
    double update = 0, base = 0;
    lk_err e = LK_OK;
    for (int i = 0; i < f->n && !e; i++) {
        float *w = NULL, *merged = NULL;
        int64_t n = 0;
        lk_val weight = lk_find(p->g, lk_fmt(f->arena, "%s.weight", f->part[i].name));
        e = lk_ok(weight) ? values_of(p->x, weight, &w, &n) : lk_error(LK_ESTATE, "%s: no weight of it in the graph", f->part[i].name);
        if (!e) {
            merged = lk_xmalloc(sizeof *merged * (size_t)n);
            memcpy(merged, w, sizeof *merged * (size_t)n);
            e = lk_lora_part_merge(f, &f->part[i], 1, merged);
        }
        for (int64_t k = 0; k < n; k++) { double d = (double)merged[k] - w[k]; update += d * d; base += (double)w[k] * w[k]; }
        free(w); free(merged);
    }
    lk_lora_file_free(f);
    *ratio = __builtin_sqrt(update) / __builtin_sqrt(base);
    return e;
}
lk_err lk_personaliser_update_norm(const lk_personaliser *p, double *ratio) {
    const lk_val *params;
    const lk_lora_config *c = lk_adapter_config(p->adapter);
    if (c->kind != LK_LORA || c->lora_bias) return merged_norm(p, ratio);
    int n = lk_adapter_params(p->adapter, p->g, &params);
    double update = 0, base = 0, scale = c->alpha / c->r;
    for (int i = 0; i + 1 < n && strstr(lk_graph_node(p->g, params[i])->name, ".lora_A"); i += 2) {      /* A [r, in], B [out, r] of one module */
        float *a = NULL, *b = NULL, *w = NULL;
        int64_t na, nb, nw = 0;
        lk_shape sa = lk_shape_of(p->g, params[i]), sb = lk_shape_of(p->g, params[i + 1]);
        const char *name = lk_graph_node(p->g, params[i])->name, *end = strstr(name, ".lora_A");
        lk_val weight = end ? lk_find(p->g, lk_fmt(lk_graph_arena(p->g), "%.*s.weight", (int)(end - name), name)) : LK_NONE;
        lk_err e = lk_ok(weight) ? values_of(p->x, params[i], &a, &na) : lk_error(LK_ESTATE, "%s: no weight of its module in the graph", name);
        if (!e) e = values_of(p->x, params[i + 1], &b, &nb);
        if (!e) e = values_of(p->x, weight, &w, &nw);
        for (int64_t o = 0; !e && o < sb.d[0]; o++)
            for (int64_t k = 0; k < na / sa.d[0]; k++) {
                double sum = 0;
                for (int64_t r = 0; r < sa.d[0]; r++) sum += (double)b[o * sa.d[0] + r] * a[r * (na / sa.d[0]) + k];
                update += scale * sum * scale * sum;
            }
        for (int64_t k = 0; !e && k < nw; k++) base += (double)w[k] * w[k];
        free(a); free(b); free(w);
        LK_TRY(e);
    }
    *ratio = __builtin_sqrt(update) / __builtin_sqrt(base);
    return LK_OK;
}
lk_err lk_adapter_copy(lk_adapter *to, lk_exec *to_exec, const lk_adapter *from, lk_exec *from_exec) {
    const lk_val *src, *dst;
    int n = lk_adapter_params(from, lk_exec_graph(from_exec), &src), m = lk_adapter_params(to, lk_exec_graph(to_exec), &dst);
    if (n != m) return lk_error(LK_ESTATE, "adapters of %d and %d params", n, m);
    for (int i = 0; i < n; i++) {
        float *v = NULL;
        int64_t size;
        lk_err e = values_of(from_exec, src[i], &v, &size);
        if (!e) e = lk_exec_set(to_exec, dst[i], v, size);
        free(v);
        LK_TRY(e);
    }
    return LK_OK;
}
