/* Guided sampling over a planned UNet graph; the scheduler's arithmetic runs on the host in binary32. */
#include "models/sampler.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct lk_sampler {
    const lk_zoo *zoo; lk_pool *pool; int batch, height, width;
    int64_t size;                                                                  /* values of one latent */
    bool guided;                                                                   /* else the conditional half alone goes through the UNet */
    lk_graph *g; lk_exec *x; lk_val sample, timestep, context, guidance, out;      /* [B,...] latents; [B]; [2B,T,D]; []; [B,...] */
    lk_graph *text; lk_exec *text_x; lk_val ids, hidden;                           /* one caption at a time */
};

static lk_err build_text(lk_sampler *s) {
    static const char *const only_text[] = {"vision_model.", "visual_projection.", "text_projection.", "logit_scale", NULL};
    s->text = lk_graph_new();
    lk_net net = lk_net_root(s->text);
    s->ids = lk_input(s->text, "ids", LK_I64, LK_SHAPE(1, LK_ZOO_TOKENS));
    s->hidden = lk_clip_text(&net, &s->zoo->text, s->ids, LK_NONE).last_hidden_state;
    LK_TRY(lk_graph_error(s->text));
    LK_TRY(lk_exec_new(s->text, &s->hidden, 1, (lk_exec_opts){.pool = s->pool}, &s->text_x));
    return lk_weights_bind(s->text_x, s->zoo->clip_weights, "", only_text);
}
/* Zeros for the unconditional rows, then the person's. */
static lk_err set_person(const lk_sampler *s, lk_val person, const float *embedding) {
    int64_t dim = lk_zoo_id_adapter.embedding;
    float *rows = lk_xcalloc((size_t)(2 * s->batch * dim), sizeof *rows);
    for (int b = s->batch; b < 2 * s->batch; b++) memcpy(rows + b * dim, embedding, sizeof *rows * (size_t)dim);
    lk_err e = lk_exec_set(s->x, person, rows, 2 * s->batch * dim);
    free(rows);
    return e;
}
static lk_err build_unet(lk_sampler *s, lk_adapter *const *adapters, int n, const float *embedding) {
    lk_graph *g = s->g = lk_graph_new();
    lk_net net = lk_net_root(g);
    net.adapters = adapters;
    net.n_adapters = n;
    int64_t b = s->batch, w = s->zoo->text.hidden, rows = s->guided ? 2 * b : b;
    s->sample = lk_input(g, "sample", LK_F32, LK_SHAPE(b, LK_ZOO_LATENT, s->height, s->width));
    s->timestep = lk_input(g, "timestep", LK_F32, LK_SHAPE(b));
    s->context = lk_input(g, "context", LK_F32, LK_SHAPE(rows, LK_ZOO_TOKENS, w));
    lk_id_adapter id;
    lk_val person = embedding ? lk_input(g, "person", LK_F32, LK_SHAPE(rows, lk_zoo_id_adapter.embedding)) : LK_NONE;
    if (embedding) { lk_id_adapter_join(&id, lk_zoo_id_adapter, g, person); net.guest = &id.guest; }
    if (s->guided) {
        s->guidance = lk_input(g, "guidance", LK_F32, LK_SCALAR);
        lk_val m = lk_unet2d(&net, &s->zoo->unet, s->sample, s->timestep, s->context, LK_UNET_PLAIN);
        lk_val without = lk_slice(g, m, 0, 0, b), with = lk_slice(g, m, 0, b, 2 * b);
        s->out = lk_lerp(g, without, with, s->guidance);
    } else s->out = lk_unet2d(&net, &s->zoo->unet, s->sample, s->timestep, s->context, LK_UNET_PLAIN);
    LK_TRY(lk_graph_error(g));
    LK_TRY(lk_exec_new(g, &s->out, 1, (lk_exec_opts){.pool = s->pool}, &s->x));
    LK_TRY(lk_weights_bind(s->x, s->zoo->unet_weights, "", NULL));
    return embedding ? set_person(s, person, embedding) : LK_OK;
}
static lk_err sampler_new(const lk_zoo *z, bool guided, lk_adapter *const *adapters, int n, const float *person, int batch, int height, int width, lk_pool *pool, lk_sampler **out) {
    if (height < 4 || width < 4 || height % 4 || width % 4) return lk_error(LK_EINPUT, "latents of %d x %d: both must be multiples of 4", height, width);
    lk_sampler *s = lk_xcalloc(1, sizeof *s);
    *s = (lk_sampler){.zoo = z, .pool = pool, .batch = batch, .guided = guided, .height = height, .width = width, .size = (int64_t)LK_ZOO_LATENT * height * width};
    lk_err e = build_text(s);
    if (!e) e = build_unet(s, adapters, n, person);
    if (e) { lk_sampler_free(s); return e; }
    *out = s;
    return LK_OK;
}
lk_err lk_sampler_new_sized(const lk_zoo *z, bool guided, lk_adapter *const *adapters, int n, int batch, int height, int width, lk_pool *pool, lk_sampler **out) {
    return sampler_new(z, guided, adapters, n, NULL, batch, height, width, pool, out);
}
lk_err lk_sampler_new_id(const lk_zoo *z, const float *person, int batch, int height, int width, lk_pool *pool, lk_sampler **out) {
    return sampler_new(z, true, NULL, 0, person, batch, height, width, pool, out);
}
lk_err lk_sampler_new(const lk_zoo *z, lk_adapter *adapter, int batch, lk_pool *pool, lk_sampler **out) {
    return lk_sampler_new_sized(z, true, &adapter, adapter ? 1 : 0, batch, LK_ZOO_GRID, LK_ZOO_GRID, pool, out);
}
lk_err lk_sampler_new_plain(const lk_zoo *z, lk_adapter *const *adapters, int n, int batch, lk_pool *pool, lk_sampler **out) {
    return lk_sampler_new_sized(z, false, adapters, n, batch, LK_ZOO_GRID, LK_ZOO_GRID, pool, out);
}
void lk_sampler_free(lk_sampler *s) {
    if (!s) return;
    lk_exec_free(s->x);
    lk_graph_free(s->g);
    lk_exec_free(s->text_x);
    lk_graph_free(s->text);
    free(s);
}
lk_exec *lk_sampler_exec(const lk_sampler *s) { return s->x; }
lk_err lk_sampler_take_unet(lk_sampler *s, lk_exec *from) {
    for (int i = 0; i < lk_graph_count(s->g); i++) {
        const lk_node *node = lk_graph_node(s->g, (lk_val){i});
        if (node->op != LK_OP_param || node->mem != LK_MEM_WEIGHT || strchr(node->name, '/')) continue;
        lk_val source = lk_find(lk_exec_graph(from), node->name);
        if (!lk_ok(source)) return lk_error(LK_EINPUT, "sampler: the UNet to take has no %s", node->name);
        LK_TRY(lk_exec_share(s->x, (lk_val){i}, from, source));
    }
    return LK_OK;
}

static lk_err encode(lk_sampler *s, const char *text, float *context) {
    int64_t ids[LK_ZOO_TOKENS];
    LK_TRY(lk_zoo_encode_text(s->zoo, text, ids));
    LK_TRY(lk_exec_set_i64(s->text_x, s->ids, ids, LK_ZOO_TOKENS));
    LK_TRY(lk_exec_run(s->text_x));
    return lk_exec_get(s->text_x, s->hidden, context, LK_ZOO_TOKENS * s->zoo->text.hidden);
}
static lk_err model_output(lk_sampler *s, double t, const float *x, float *out) {
    float times[512];
    for (int i = 0; i < s->batch; i++) times[i] = (float)t;
    LK_TRY(lk_exec_set(s->x, s->timestep, times, s->batch));
    LK_TRY(lk_exec_set(s->x, s->sample, x, s->batch * s->size));
    LK_TRY(lk_exec_run(s->x));
    return lk_exec_get(s->x, s->out, out, s->batch * s->size);
}
static void draw(const lk_sampler *s, uint64_t seed, const char *stream, uint64_t step, uint32_t sample, float *out) {
    uint64_t key = lk_stream_key(seed, stream);
    for (int64_t k = 0; k < s->size; k++) out[k] = lk_philox_normal(key, step, sample, (uint64_t)k);
}
typedef struct { lk_scheduler *scheduler; lk_sampling how; int begin; uint64_t seed; } chain;
/* One batch in place: x enters noised to the timestep of step `begin`. */
static lk_err run_chain(lk_sampler *s, const chain *c, uint32_t first, float *x) {
    int64_t size = s->batch * s->size;
    const double *t = lk_scheduler_timesteps(c->scheduler);
    float *m = lk_xmalloc(sizeof(float) * (size_t)size), *noise = lk_xmalloc(sizeof(float) * (size_t)size), *scaled = lk_xmalloc(sizeof(float) * (size_t)size);
    lk_err e = LK_OK;
    for (int i = c->begin; i < c->how.steps && !e; i++) {
        bool noisy = lk_scheduler_needs_noise(c->scheduler, i, c->how.eta);
        for (int b = 0; b < s->batch && noisy; b++) draw(s, c->seed, "sample.step", (uint64_t)i, first + (uint32_t)b, noise + b * s->size);
        lk_scheduler_scale_model_input(c->scheduler, i, x, size, scaled);
        e = model_output(s, t[i], scaled, m);
        if (!e) e = lk_scheduler_step(c->scheduler, i, m, x, size, noisy ? noise : NULL, c->how.eta, x, NULL);
    }
    free(m); free(noise); free(scaled);
    return e;
}
/* The zoo's schedule as another class reads it: the keys that all share. */
static lk_err scheduler_of(const char *cls, const char *prediction, lk_scheduler **out) {
    static const char *const shared[] = {"num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "prediction_type", "timestep_spacing", NULL};
    bool ddim = !cls || !strcmp(cls, "DDIMScheduler");
    json_t *all, *some = json_object();
    lk_err e = lk_json_parse(lk_zoo_scheduler, strlen(lk_zoo_scheduler), "lk_zoo_scheduler", &all);
    if (e) { json_decref(some); return e; }
    if (ddim) json_object_update(some, all);
    for (int i = 0; shared[i] && !ddim; i++) json_object_set(some, shared[i], json_object_get(all, shared[i]));
    if (prediction) json_object_set_new(some, "prediction_type", json_string(prediction));
    e = lk_scheduler_new(ddim ? "DDIMScheduler" : cls, some, out);
    json_decref(all);
    json_decref(some);
    return e;
}
lk_err lk_sample_from(lk_sampler *s, const char *const *prompts, int n, uint64_t seed, uint32_t first, lk_sampling how, double strength, const float *start, float *latents) {
    chain c = {.how = how, .seed = seed};
    if (how.steps < 1) return lk_error(LK_EINPUT, "%d sampling steps: expected at least 1", how.steps);
    if (!s->guided && how.guidance != 1) return lk_error(LK_EINPUT, "guidance %g on a sampler without the unconditional half: expected 1", how.guidance);
    LK_TRY(scheduler_of(how.scheduler, how.prediction, &c.scheduler));
    int64_t w = (int64_t)LK_ZOO_TOKENS * s->zoo->text.hidden;
    float *context = lk_xcalloc((size_t)(2 * s->batch * w), sizeof(float)), *x = lk_xcalloc((size_t)(s->batch * s->size), sizeof(float));
    lk_err e = lk_scheduler_set_timesteps(c.scheduler, how.steps, (lk_timestep_opts){0});
    if (!e && s->guided) e = lk_exec_set_scalar(s->x, s->guidance, how.guidance);
    if (start) c.begin = how.steps - (int)(strength * how.steps + 0.5);
    double alpha = 0, sigma = e ? 1 : lk_scheduler_init_noise_sigma(c.scheduler);
    if (!e && start && c.begin < how.steps) e = lk_scheduler_marginal(c.scheduler, lk_scheduler_timesteps(c.scheduler)[c.begin], &alpha, &sigma);
    int64_t rows = s->guided ? 2 * s->batch : s->batch;
    for (int b = 0; b < s->batch && !e && s->guided; b++) e = encode(s, "", context + b * w);
    for (int at = 0; at < n && !e; at += s->batch) {
        int k = n - at < s->batch ? n - at : s->batch;
        for (int b = 0; b < s->batch && !e; b++) {
            float *xb = x + b * s->size;
            e = encode(s, prompts[at + (b < k ? b : 0)], context + (rows - s->batch + b) * w);
            draw(s, seed, "sample.noise", 0, first + (uint32_t)(at + b), xb);
            for (int64_t j = 0; j < s->size && !start && sigma != 1; j++) xb[j] *= (float)sigma;
            for (int64_t j = 0; j < s->size && start && b < k; j++)
                xb[j] = (float)alpha * start[(at + b) * s->size + j] + (float)sigma * xb[j];
        }
        if (!e) e = lk_exec_set(s->x, s->context, context, rows * w);
        if (!e) e = run_chain(s, &c, first + (uint32_t)at, x);
        if (!e) memcpy(latents + at * s->size, x, sizeof(float) * (size_t)(k * s->size));
    }
    free(context); free(x);
    lk_scheduler_free(c.scheduler);
    return e;
}
lk_err lk_sample(lk_sampler *s, const char *const *prompts, int n, uint64_t seed, uint32_t first, lk_sampling how, float *latents) {
    return lk_sample_from(s, prompts, n, seed, first, how, 1, NULL, latents);
}
