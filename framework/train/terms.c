/* The table of terms, their graph, their weights and inputs. */
#include "train/terms.h"
#include "losses/identity.h"
#include "metrics/lpips.h"
#include "models/face.h"
#include "models/face_set.h"
#include "models/sampler.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct lk_terms {
    const lk_zoo *zoo; lk_terms_opts opts; uint64_t seed; int batch, n_refs;
    lk_clip_vision_config clip_config; lk_st *clip_weights, *vgg_weights, *heads;       /* the user's; open while bound */
    float *masks, *prior_latents, *prior_context;                                      /* [refs][256]; [prior][latent]; [1][T][D] */
    lk_scheduler *scheduler;
    lk_val mask, prior_x0, prior_noise, prior_t, prior_alpha, prior_sigma, prior_text;
    lk_extra_loss loss;
};
/* What a term is given while it is built: x the guess, y the photo, both [B, 3, 64, 64] in 0..255; gate [B]. */
typedef struct { lk_terms *t; lk_graph *g; lk_adapter *adapter; const lk_micro *d; lk_val x, y, gate; } scene;

static lk_val gated_mean(const scene *s, lk_val each /* [B] */) {
    return lk_div(s->g, lk_sum_all(s->g, lk_mul(s->g, each, s->gate)), lk_max(s->g, lk_sum_all(s->g, s->gate), lk_scalar(s->g, 1)));
}
static lk_val far(const scene *s, lk_val a, lk_val b) { return lk_shift(s->g, lk_neg(s->g, lk_cosine(s->g, a, lk_detach(s->g, b), 1e-8)), 1); }
static lk_val in_unit(lk_graph *g, lk_val frames) { return lk_shift(g, lk_scale(g, frames, 1 / 127.5), -1); }
static lk_net net_of(const scene *s, const char *prefix) {
    lk_net net = lk_net_root(s->g);
    net.param_prefix = prefix;
    return net;
}

/* ---- the terms -------------------------------------------------------------------------------------------------------- */
static lk_val perceptual(const scene *s) {
    lk_net net = net_of(s, "id/");
    return gated_mean(s, far(s, lk_face_embed_frames(&net, LK_MOBILEFACENET, s->x), lk_face_embed_frames(&net, LK_MOBILEFACENET, s->y)));
}
static lk_val deep(const scene *s, bool plain) {
    lk_net net = net_of(s, "vgg/");
    return gated_mean(s, lk_lpips(&net, (lk_lpips_variant){LK_VGG16, LK_UNIT_LPIPS, plain}, in_unit(s->g, s->x), lk_detach(s->g, in_unit(s->g, s->y)), NULL));
}
static lk_val vgg(const scene *s) { return deep(s, true); }
static lk_val lpips(const scene *s) { return deep(s, false); }
/* Bilinear to the tower's size, CLIP's own statistics. */
static lk_val clip_embeds(const scene *s, lk_val frames) {
    static const float mean[3] = {0.48145466f, 0.4578275f, 0.40821073f}, std[3] = {0.26862954f, 0.26130258f, 0.27577711f};
    lk_graph *g = s->g;
    lk_net net = net_of(s, "clip_image/");
    int size = (int)s->t->clip_config.image;
    float scale = (float)LK_FRAME / (float)size, m[6] = {scale, 0, 0.5f * scale - 0.5f, 0, scale, 0.5f * scale - 0.5f};
    lk_val all = lk_broadcast(g, lk_const(g, LK_F32, LK_SHAPE(1, 2, 3), m), LK_SHAPE(lk_dim(g, frames, 0), 2, 3));
    lk_val x = lk_affine_warp(g, lk_scale(g, frames, 1.0 / 255), all, (lk_warp){.size = {size, size}, .clamp = true});
    x = lk_div(g, lk_sub(g, x, lk_const(g, LK_F32, LK_SHAPE(1, 3, 1, 1), mean)), lk_const(g, LK_F32, LK_SHAPE(1, 3, 1, 1), std));
    return lk_clip_vision(&net, &s->t->clip_config, x).embeds;
}
static lk_val clip_image(const scene *s) { return gated_mean(s, far(s, clip_embeds(s, s->x), clip_embeds(s, s->y))); }
static lk_val prior(const scene *s) {
    lk_terms *t = s->t;
    lk_graph *g = s->g;
    lk_net net = lk_net_root(g);
    lk_shape latent = LK_SHAPE(t->batch, LK_ZOO_LATENT, LK_ZOO_GRID, LK_ZOO_GRID);
    net.adapters = &s->adapter;
    net.n_adapters = 1;
    t->prior_x0 = lk_input(g, "prior.x0", LK_F32, latent);
    t->prior_noise = lk_input(g, "prior.noise", LK_F32, latent);
    t->prior_t = lk_input(g, "prior.t", LK_F32, LK_SHAPE(t->batch));
    t->prior_alpha = lk_input(g, "prior.alpha", LK_F32, LK_SHAPE(t->batch));
    t->prior_sigma = lk_input(g, "prior.sigma", LK_F32, LK_SHAPE(t->batch));
    t->prior_text = lk_input(g, "prior.context", LK_F32, LK_SHAPE(t->batch, LK_ZOO_TOKENS, t->zoo->text.hidden));
    lk_val noisy = lk_noised(g, t->prior_x0, t->prior_noise, t->prior_alpha, t->prior_sigma);
    lk_val target = lk_diffusion_target(g, LK_PREDICT_V, t->prior_x0, t->prior_noise, t->prior_alpha, t->prior_sigma);
    return lk_diffusion_loss(g, lk_unet2d(&net, &t->zoo->unet, noisy, t->prior_t, t->prior_text, LK_UNET_PLAIN), target, LK_NONE);
}
static lk_val masked(const scene *s) {
    s->t->mask = lk_input(s->g, "terms.mask", LK_F32, LK_SHAPE(s->t->batch, 1, LK_ZOO_GRID, LK_ZOO_GRID));
    return lk_diffusion_masked(s->g, s->d->predicted, s->d->target, s->t->mask, LK_NONE);
}
static lk_val variation(const scene *s) { return lk_total_variation(s->g, lk_scale(s->g, s->x, 1.0 / 255)); }

static const struct { const char *word; lk_val (*build)(const scene *); bool picture; } rows[LK_TERMS] = {
    [LK_TERM_PERCEPTUAL] = {"perc", perceptual, true}, [LK_TERM_VGG] = {"vgg", vgg, true}, [LK_TERM_LPIPS] = {"lpips", lpips, true}, [LK_TERM_CLIP] = {"clip", clip_image, true},
    [LK_TERM_PRIOR] = {"prior", prior, false}, [LK_TERM_MASKED] = {"mask", masked, false}, [LK_TERM_VARIATION] = {"tv", variation, true}};
const char *lk_term_word(lk_term t) { return rows[t].word; }

/* ---- what goes together ------------------------------------------------------------------------------------------------- */
static bool given(const char *path) { return path && *path; }
lk_err lk_terms_check(const lk_terms_opts *o) {
    for (int i = 0; i < LK_TERMS; i++) if (!(o->weight[i] >= 0)) return lk_error(LK_EINPUT, "term %s: weight %g; 0 or above", rows[i].word, o->weight[i]);
    bool vgg = o->weight[LK_TERM_VGG] > 0 || o->weight[LK_TERM_LPIPS] > 0, clip = o->weight[LK_TERM_CLIP] > 0;
    if (vgg && (!given(o->vgg) || access(o->vgg, R_OK)))
        return lk_error(LK_EINPUT, "the terms vgg and lpips need VGG16's weights, vgg=FILE (safetensors, torchvision's names); %s%s", given(o->vgg) ? o->vgg : "none was given", given(o->vgg) ? " is not there" : "");
    if (clip && (!given(o->clip) || access(o->clip, R_OK)))
        return lk_error(LK_EINPUT, "the term clip needs a CLIP, clip=DIRECTORY (config.json, model.safetensors), since the zoo's own judges; %s%s", given(o->clip) ? o->clip : "none was given", given(o->clip) ? " is not there" : "");
    if (o->weight[LK_TERM_PRIOR] > 0 && (o->prior < 1 || !o->prior_prompt)) return lk_error(LK_EINPUT, "the term prior needs at least one picture of the class and its prompt");
    return LK_OK;
}

/* ---- the graph -------------------------------------------------------------------------------------------------------------- */
static lk_val decoded(const scene *s, lk_val latents) {
    lk_net net = net_of(s, "vae/");
    return lk_scale(s->g, lk_shift(s->g, lk_vae_decode(&net, &s->t->zoo->vae, latents), 1), 127.5);
}
static bool looks(const lk_terms *t) {
    for (int i = 0; i < LK_TERMS; i++) if (rows[i].picture && t->opts.weight[i] > 0) return true;
    return false;
}
static lk_val build(void *ctx, lk_graph *g, lk_adapter *adapter, const lk_micro *d) {
    lk_terms *t = ctx;
    scene s = {t, g, adapter, d, LK_NONE, LK_NONE, LK_NONE};
    if (looks(t)) {
        s.x = decoded(&s, lk_diffusion_x0(g, LK_PREDICT_V, d->noisy, d->predicted, d->alpha, d->sigma));
        s.y = lk_detach(g, decoded(&s, d->x0));
        s.gate = t->opts.gate > 0 ? lk_less(g, d->timestep, lk_scalar(g, t->opts.gate)) : lk_ones(g, LK_SHAPE(t->batch));
    }
    lk_val sum = LK_NONE;
    for (int i = 0; i < LK_TERMS; i++) {
        if (t->opts.weight[i] <= 0) continue;
        lk_val one = lk_scale(g, rows[i].build(&s), t->opts.weight[i]);
        sum = lk_ok(sum) ? lk_add(g, sum, one) : one;
    }
    return sum;
}

/* ---- weights and inputs ------------------------------------------------------------------------------------------------------ */
static lk_err bind_user(lk_terms *t, lk_exec *x) {
    static const char *const no_classifier[] = {"classifier.", NULL}, *const no_text[] = {"text_model.", "text_projection.", "logit_scale", "position_ids", NULL};
    bool lpips = t->opts.weight[LK_TERM_LPIPS] > 0;
    if (lpips || t->opts.weight[LK_TERM_VGG] > 0) {
        if (!t->vgg_weights) LK_TRY(lk_st_open(t->opts.vgg, &t->vgg_weights));
        LK_TRY(lk_weights_bind(x, t->vgg_weights, "vgg/", no_classifier));
    }
    if (lpips) {
        if (!t->heads) LK_TRY(lk_st_open(lk_lpips_heads(LK_VGG16), &t->heads));
        LK_TRY(lk_weights_bind(x, t->heads, "lin/", NULL));
    }
    return t->opts.weight[LK_TERM_CLIP] > 0 ? lk_weights_bind(x, t->clip_weights, "clip_image/", no_text) : LK_OK;
}
static lk_err bind(void *ctx, lk_exec *x) {
    lk_terms *t = ctx;
    if (looks(t)) LK_TRY(lk_weights_bind(x, t->zoo->vae_weights, "vae/", lk_vae_without_encoder));
    if (t->opts.weight[LK_TERM_PERCEPTUAL] > 0) {
        lk_st *st;
        LK_TRY(lk_st_open("models/faces/mobilefacenet.safetensors", &st));
        lk_err e = lk_face_weights(x, st, "id/");
        lk_st_close(st);
        if (e) return e;
    }
    return bind_user(t, x);
}
static lk_err set_mask(const lk_terms *t, lk_exec *x, int64_t step) {
    enum { CELLS = LK_ZOO_GRID * LK_ZOO_GRID };
    float *mask = lk_xmalloc(sizeof *mask * (size_t)t->batch * CELLS);
    for (int i = 0; i < t->batch; i++) memcpy(mask + i * CELLS, t->masks + lk_personalise_pick(t->seed, step, i, t->n_refs) * CELLS, sizeof *mask * CELLS);
    lk_err e = lk_exec_set(x, t->mask, mask, (int64_t)t->batch * CELLS);
    free(mask);
    return e;
}
static lk_err set_prior(const lk_terms *t, lk_exec *x, int64_t step) {
    int n = t->batch;
    int64_t width = LK_ZOO_TOKENS * t->zoo->text.hidden;
    float *x0 = lk_xmalloc(sizeof *x0 * (size_t)n * LK_ZOO_LATENT_SIZE), *noise = lk_xmalloc(sizeof *noise * (size_t)n * LK_ZOO_LATENT_SIZE), *text = lk_xmalloc(sizeof *text * (size_t)(n * width));
    double *at = lk_xmalloc(sizeof *at * 3 * (size_t)n), *alpha = at + n, *sigma = at + 2 * n;
    uint64_t pick = lk_stream_key(t->seed, "prior.pick"), when = lk_stream_key(t->seed, "prior.timestep"), noises = lk_stream_key(t->seed, "prior.noise");
    lk_err e = LK_OK;
    for (int i = 0; i < n && !e; i++) {
        int k = (int)lk_philox_below(pick, (uint64_t)step, (uint32_t)i, 0, (uint32_t)t->opts.prior);
        memcpy(x0 + i * LK_ZOO_LATENT_SIZE, t->prior_latents + k * LK_ZOO_LATENT_SIZE, sizeof *x0 * LK_ZOO_LATENT_SIZE);
        memcpy(text + i * width, t->prior_context, sizeof *text * (size_t)width);
        for (int64_t j = 0; j < LK_ZOO_LATENT_SIZE; j++) noise[i * LK_ZOO_LATENT_SIZE + j] = lk_philox_normal(noises, (uint64_t)step, (uint32_t)i, (uint64_t)j);
        at[i] = lk_draw_timestep(when, step, i, 1000);
        e = lk_scheduler_marginal(t->scheduler, at[i], &alpha[i], &sigma[i]);
    }
    if (!e) e = lk_exec_set(x, t->prior_x0, x0, (int64_t)n * LK_ZOO_LATENT_SIZE);
    if (!e) e = lk_exec_set(x, t->prior_noise, noise, (int64_t)n * LK_ZOO_LATENT_SIZE);
    if (!e) e = lk_exec_set(x, t->prior_text, text, n * width);
    if (!e) e = lk_exec_set_f64(x, t->prior_t, at, n);
    if (!e) e = lk_exec_set_f64(x, t->prior_alpha, alpha, n);
    if (!e) e = lk_exec_set_f64(x, t->prior_sigma, sigma, n);
    free(x0); free(noise); free(text); free(at);
    return e;
}
static lk_err set(void *ctx, lk_exec *x, int64_t step) {
    lk_terms *t = ctx;
    if (t->opts.weight[LK_TERM_MASKED] > 0) LK_TRY(set_mask(t, x, step));
    return t->opts.weight[LK_TERM_PRIOR] > 0 ? set_prior(t, x, step) : LK_OK;
}

/* ---- opening ---------------------------------------------------------------------------------------------------------------- */
static lk_err open_clip(lk_terms *t) {
    char *config = lk_xfmt("%s/config.json", t->opts.clip), *weights = lk_xfmt("%s/model.safetensors", t->opts.clip);
    lk_err e = lk_clip_vision_config_load(config, &t->clip_config);
    if (!e && !t->clip_config.project) e = lk_error(LK_EINPUT, "%s: a CLIP without image projection; expected CLIPModel or CLIPVisionModelWithProjection", config);
    if (!e) e = lk_st_open(weights, &t->clip_weights);
    free(config); free(weights);
    return e;
}
/* DreamBooth's class pictures: the frozen base's own, 20 DDIM steps, guidance 2. */
static lk_err draw_prior(lk_terms *t, lk_pool *pool) {
    int n = t->opts.prior;
    const char **prompts = lk_xcalloc((size_t)n, sizeof *prompts);
    for (int i = 0; i < n; i++) prompts[i] = t->opts.prior_prompt;
    t->prior_latents = lk_xmalloc(sizeof(float) * (size_t)n * LK_ZOO_LATENT_SIZE);
    t->prior_context = lk_xmalloc(sizeof(float) * (size_t)(LK_ZOO_TOKENS * t->zoo->text.hidden));
    lk_sampler *s;
    lk_err e = lk_sampler_new(t->zoo, NULL, n < 8 ? n : 8, pool, &s);
    if (!e) {
        e = lk_sample(s, prompts, n, t->seed, 4000, (lk_sampling){.steps = 20, .guidance = 2}, t->prior_latents);
        lk_sampler_free(s);
    }
    if (!e) e = lk_zoo_hidden_texts(t->zoo, pool, prompts, 1, t->prior_context);
    if (!e) e = lk_scheduler_parse("DDIMScheduler", lk_zoo_scheduler, &t->scheduler);
    free(prompts);
    return e;
}
lk_err lk_terms_graph_only(const lk_zoo *z, lk_terms_opts o, int batch, lk_terms **out) {
    lk_terms *t = lk_xcalloc(1, sizeof *t);
    *t = (lk_terms){.zoo = z, .opts = o, .batch = batch};
    t->loss = (lk_extra_loss){build, bind, set, t};
    lk_err e = lk_terms_check(&o);
    if (!e && o.weight[LK_TERM_CLIP] > 0) e = open_clip(t);
    if (e) { lk_terms_free(t); return e; }
    *out = t;
    return LK_OK;
}
lk_err lk_terms_new(const lk_zoo *z, lk_terms_opts o, int batch, int n_refs, const float *masks, uint64_t seed, lk_pool *pool, lk_terms **out) {
    enum { CELLS = LK_ZOO_GRID * LK_ZOO_GRID };
    if (o.weight[LK_TERM_MASKED] > 0 && !masks) return lk_error(LK_EINPUT, "the term mask needs a mask a reference");
    LK_TRY(lk_terms_graph_only(z, o, batch, out));
    lk_terms *t = *out;
    t->seed = seed;
    t->n_refs = n_refs;
    if (o.weight[LK_TERM_MASKED] > 0) {
        t->masks = lk_xmalloc(sizeof(float) * (size_t)n_refs * CELLS);
        memcpy(t->masks, masks, sizeof(float) * (size_t)n_refs * CELLS);
    }
    lk_err e = o.weight[LK_TERM_PRIOR] > 0 ? draw_prior(t, pool) : LK_OK;
    if (e) { lk_terms_free(t); *out = NULL; }
    return e;
}
void lk_terms_free(lk_terms *t) {
    if (!t) return;
    if (t->clip_weights) lk_st_close(t->clip_weights);
    if (t->vgg_weights) lk_st_close(t->vgg_weights);
    if (t->heads) lk_st_close(t->heads);
    if (t->scheduler) lk_scheduler_free(t->scheduler);
    free(t->masks); free(t->prior_latents); free(t->prior_context);
    free(t);
}
const lk_extra_loss *lk_terms_loss(const lk_terms *t) { return &t->loss; }
