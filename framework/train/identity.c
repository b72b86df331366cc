/* Building and feeding the identity branch. */
#include "train/identity.h"
#include <stdlib.h>
#include <string.h>

enum { MAX_STEPS = 16 };
struct lk_id_branch {
    const lk_zoo *zoo; lk_id_opts opts; uint64_t seed;
    int n_prompts; int64_t width; float *context;              /* hidden states of the prompts */
    float *reference_values;
    double t[MAX_STEPS]; lk_jump jump[MAX_STEPS];                /* the student's chain */
    lk_val noise, text, reference, frames;
    lk_extra_loss loss;
};

lk_err lk_id_check(const lk_id_opts *o) {
    if (!(o->weight > 0)) return lk_error(LK_EINPUT, "identity loss of weight %g: above 0, or leave the branch away", o->weight);
    if (o->semantic < 0 || o->layout < 0 || o->total_variation < 0 || o->features < 0) return lk_error(LK_EINPUT, "a loss weight below 0");
    if (o->form == LK_ID_NAIVE && (o->semantic > 0 || o->layout > 0 || o->features > 0))
        return lk_error(LK_EINPUT, "the alignment losses compare two paths through the few-step sampler, which the naive form has not: take the accurate form");
    if (o->form == LK_ID_NAIVE) return LK_OK;
    if (o->steps < 1 || o->steps > MAX_STEPS) return lk_error(LK_EINPUT, "%d denoising steps; 1 to %d", o->steps, MAX_STEPS);
    if (o->through < 1 || o->through > o->steps) return lk_error(LK_EINPUT, "back through %d steps of a chain of %d: 1 to %d", o->through, o->steps, o->steps);
    if (o->batch < 1) return lk_error(LK_EINPUT, "identity batch %d; at least 1", o->batch);
    lk_adapter *a;
    LK_TRY(lk_student_adapter(o->student ? o->student : LK_STUDENT_PATH, "", &a));
    lk_adapter_free(a);
    return LK_OK;
}
lk_err lk_id_one_person(lk_faces *f, const float *frames, int n) {
    int dim = lk_recogniser_dim(LK_DLIB);
    float *e = lk_xmalloc(sizeof(float) * (size_t)(n * dim));
    lk_err err = lk_faces_embed_frames(f, LK_DLIB, frames, n, e);
    for (int i = 0; i < n && !err; i++) for (int j = 0; j < i && !err; j++) {
        double d = lk_embedding_distance(e + i * dim, e + j * dim, dim);
        if (d > 0.6) err = lk_error(LK_EINPUT, "references %d and %d look like two people: dlib distance %.3f, one person's is below .6", j + 1, i + 1, d);
    }
    free(e);
    return err;
}
lk_err lk_id_reference(lk_faces *f, const float *frames, int n, float *out) {
    int dim = lk_recogniser_dim(LK_MOBILEFACENET);
    float *e = lk_xmalloc(sizeof(float) * (size_t)(n * dim));
    lk_err err = lk_faces_embed_frames(f, LK_MOBILEFACENET, frames, n, e);
    double norm = 0;
    for (int k = 0; k < dim && !err; k++) {
        double sum = 0;
        for (int i = 0; i < n; i++) sum += e[i * dim + k];
        out[k] = (float)(sum / n);
        norm += (sum / n) * (sum / n);
    }
    for (int k = 0; k < dim && !err; k++) out[k] = (float)(out[k] / __builtin_sqrt(norm));
    free(e);
    return err;
}

/* ---- the graph ------------------------------------------------------------------------------------------------------- */
static lk_net student_net(lk_graph *g, lk_adapter **adapter, lk_attention_tap *tap) {
    lk_net net = lk_net_root(g);
    net.param_prefix = "student/";
    net.tap = tap;
    if (adapter) { net.adapters = adapter; net.n_adapters = 1; }
    return net;
}
/* One step of the student's chain; taps of the layers where asked. */
static lk_val denoise(lk_id_branch *b, lk_graph *g, lk_adapter **adapter, lk_attention_tap *tap, lk_val x, int step) {
    lk_net net = student_net(g, adapter, tap);
    float t[64];
    for (int i = 0; i < b->opts.batch; i++) t[i] = (float)b->t[step];
    lk_val at = lk_const(g, LK_F32, LK_SHAPE(b->opts.batch), t);
    lk_val m = lk_unet2d(&net, &b->zoo->unet, x, at, b->text, LK_UNET_PLAIN);
    return lk_add(g, lk_scale(g, x, b->jump[step].on_x), lk_scale(g, m, b->jump[step].on_prediction));
}
static lk_val decoded(const lk_id_branch *b, lk_graph *g, lk_val latents) {
    lk_net net = lk_net_root(g);
    net.param_prefix = "vae/";
    return lk_scale(g, lk_shift(g, lk_vae_decode(&net, &b->zoo->vae, latents), 1), 127.5);
}
static lk_val embedded(lk_graph *g, lk_val frames) {
    lk_net net = lk_net_root(g);
    net.param_prefix = "id/";
    return lk_face_embed_frames(&net, LK_MOBILEFACENET, frames);
}
static lk_val alignment(lk_id_branch *b, lk_graph *g, const lk_attention_tap *with, const lk_attention_tap *without) {
    lk_cross_attention p[LK_TAPPED], q[LK_TAPPED];
    if (with->n != without->n) { lk_graph_fail(g, LK_ESTATE, "alignment: %d layers with the adapter, %d without", with->n, without->n); return LK_NONE; }
    for (int i = 0; i < with->n; i++) {
        p[i] = (lk_cross_attention){with->layer[i].q, with->layer[i].k, with->layer[i].heads};
        q[i] = (lk_cross_attention){without->layer[i].q, without->layer[i].k, without->layer[i].heads};
    }
    return lk_alignment_loss(g, p, q, with->n, b->opts.semantic, b->opts.layout);
}
/* The chain with the adapter and, where something is compared with it, the chain without from the same noise. */
static lk_val accurate(lk_id_branch *b, lk_graph *g, lk_adapter *adapter) {
    const lk_id_opts *o = &b->opts;
    bool aligned = o->semantic > 0 || o->layout > 0, both = aligned || o->features > 0;
    b->noise = lk_input(g, "id.noise", LK_F32, LK_SHAPE(o->batch, LK_ZOO_LATENT, LK_ZOO_GRID, LK_ZOO_GRID));
    b->text = lk_input(g, "id.context", LK_F32, LK_SHAPE(o->batch, LK_ZOO_TOKENS, b->zoo->text.hidden));
    lk_val x = b->noise, without = b->noise, terms = LK_NONE;
    for (int i = 0; i < o->steps; i++) {
        bool learns = i >= o->steps - o->through;
        lk_attention_tap taps[2] = {{0}, {0}};
        if (!learns || i == o->steps - o->through) x = lk_detach(g, x);
        x = denoise(b, g, &adapter, &taps[0], x, i);
        if (both) without = lk_detach(g, denoise(b, g, NULL, &taps[1], without, i));
        if (!aligned || !learns) continue;
        lk_val one = lk_scale(g, alignment(b, g, &taps[0], &taps[1]), 1.0 / o->through);
        terms = lk_ok(terms) ? lk_add(g, terms, one) : one;
    }
    if (o->cut) x = lk_detach(g, x);
    b->frames = decoded(b, g, x);
    lk_val e = embedded(g, b->frames), loss = lk_scale(g, lk_identity_loss(g, e, b->reference, LK_NONE), o->weight);
    if (lk_ok(terms)) loss = lk_add(g, loss, terms);
    if (o->features > 0) loss = lk_add(g, loss, lk_scale(g, lk_feature_loss(g, e, embedded(g, decoded(b, g, without))), o->features));
    return loss;
}
static lk_val naive(lk_id_branch *b, lk_graph *g, const lk_micro *d) {
    lk_val x0 = lk_diffusion_x0(g, LK_PREDICT_V, d->noisy, d->predicted, d->alpha, d->sigma);
    lk_val gate = b->opts.gate > 0 ? lk_less(g, d->timestep, lk_scalar(g, b->opts.gate)) : LK_NONE;
    if (b->opts.cut) x0 = lk_detach(g, x0);
    b->frames = decoded(b, g, x0);
    return lk_scale(g, lk_identity_loss(g, embedded(g, b->frames), b->reference, gate), b->opts.weight);
}
static lk_val build(void *ctx, lk_graph *g, lk_adapter *adapter, const lk_micro *diffusion) {
    lk_id_branch *b = ctx;
    b->reference = lk_input(g, "id.reference", LK_F32, LK_SHAPE(1, lk_recogniser_dim(LK_MOBILEFACENET)));
    lk_val loss = b->opts.form == LK_ID_NAIVE ? naive(b, g, diffusion) : accurate(b, g, adapter);
    if (b->opts.total_variation > 0) loss = lk_add(g, loss, lk_scale(g, lk_total_variation(g, lk_scale(g, b->frames, 1.0 / 255)), b->opts.total_variation));
    return loss;
}

/* ---- weights and inputs ------------------------------------------------------------------------------------------------ */
static lk_err bind(void *ctx, lk_exec *x) {
    lk_id_branch *b = ctx;
    lk_st *st;
    if (b->opts.form == LK_ID_ACCURATE) LK_TRY(lk_student_merge(b->zoo, b->opts.student ? b->opts.student : LK_STUDENT_PATH, x, "student/"));
    LK_TRY(lk_weights_bind(x, b->zoo->vae_weights, "vae/", lk_vae_without_encoder));
    LK_TRY(lk_st_open("models/faces/mobilefacenet.safetensors", &st));
    lk_err e = lk_face_weights(x, st, "id/");
    lk_st_close(st);
    return e ? e : lk_exec_set(x, b->reference, b->reference_values, lk_recogniser_dim(LK_MOBILEFACENET));
}
static lk_err set(void *ctx, lk_exec *x, int64_t step) {
    lk_id_branch *b = ctx;
    if (b->opts.form == LK_ID_NAIVE) return LK_OK;
    int64_t n = b->opts.batch;
    float *noise = lk_xmalloc(sizeof(float) * (size_t)n * LK_ZOO_LATENT_SIZE), *context = lk_xmalloc(sizeof(float) * (size_t)(n * b->width));
    uint64_t noises = lk_stream_key(b->seed, "identity.noise"), pick = lk_stream_key(b->seed, "identity.prompt");
    for (int64_t i = 0; i < n; i++) {
        for (int64_t k = 0; k < LK_ZOO_LATENT_SIZE; k++) noise[i * LK_ZOO_LATENT_SIZE + k] = lk_philox_normal(noises, (uint64_t)step, (uint32_t)i, (uint64_t)k);
        int64_t p = (int64_t)lk_philox_below(pick, (uint64_t)step, (uint32_t)i, 0, (uint32_t)b->n_prompts);
        memcpy(context + i * b->width, b->context + p * b->width, sizeof(float) * (size_t)b->width);
    }
    lk_err e = lk_exec_set(x, b->noise, noise, n * LK_ZOO_LATENT_SIZE);
    if (!e) e = lk_exec_set(x, b->text, context, n * b->width);
    free(noise); free(context);
    return e;
}
static lk_err chain(lk_id_branch *b) {
    lk_scheduler *s;
    LK_TRY(lk_scheduler_parse("DDIMScheduler", lk_zoo_scheduler, &s));
    int n = b->opts.steps;
    double alpha[MAX_STEPS + 1], sigma[MAX_STEPS + 1];
    lk_err e = lk_scheduler_set_timesteps(s, n, (lk_timestep_opts){0});
    for (int i = 0; i <= n && !e; i++) e = lk_scheduler_marginal(s, i < n ? lk_scheduler_timesteps(s)[i] : 0, &alpha[i], &sigma[i]);   /* ends where the zoo's DDIM does */
    for (int i = 0; i < n && !e; i++) {
        b->t[i] = lk_scheduler_timesteps(s)[i];
        b->jump[i] = lk_jump_between(LK_PREDICT_V, alpha[i], sigma[i], alpha[i + 1], sigma[i + 1]);
    }
    lk_scheduler_free(s);
    return e;
}
lk_err lk_id_branch_graph_only(const lk_zoo *z, lk_id_opts o, const float *reference, lk_id_branch **out) {
    lk_id_branch *b = lk_xcalloc(1, sizeof *b);
    size_t dim = (size_t)lk_recogniser_dim(LK_MOBILEFACENET);
    *b = (lk_id_branch){.zoo = z, .opts = o, .width = LK_ZOO_TOKENS * z->text.hidden, .reference_values = lk_xmalloc(sizeof(float) * dim)};
    b->loss = (lk_extra_loss){build, bind, set, b};
    memcpy(b->reference_values, reference, sizeof(float) * dim);
    lk_err e = o.form == LK_ID_ACCURATE ? chain(b) : LK_OK;
    if (e) { lk_id_branch_free(b); return e; }
    *out = b;
    return LK_OK;
}
lk_err lk_id_branch_new(const lk_zoo *z, lk_id_opts o, const char *const *prompts, int n_prompts, const float *reference, uint64_t seed, lk_pool *pool, lk_id_branch **out) {
    LK_TRY(lk_id_check(&o));
    if (o.form == LK_ID_ACCURATE && n_prompts < 1) return lk_error(LK_EINPUT, "the identity branch needs prompts to draw from");
    if (o.batch > 64) return lk_error(LK_EINPUT, "identity batch %d; at most 64", o.batch);
    LK_TRY(lk_id_branch_graph_only(z, o, reference, out));
    lk_id_branch *b = *out;
    b->seed = seed;
    b->n_prompts = n_prompts;
    b->context = lk_xmalloc(sizeof(float) * (size_t)((n_prompts + 1) * b->width));
    lk_err e = lk_zoo_hidden_texts(z, pool, prompts, n_prompts, b->context);
    if (e) { lk_id_branch_free(b); *out = NULL; }
    return e;
}
void lk_id_branch_free(lk_id_branch *b) {
    if (!b) return;
    free(b->context);
    free(b->reference_values);
    free(b);
}
const lk_extra_loss *lk_id_branch_loss(const lk_id_branch *b) { return &b->loss; }
lk_val lk_id_branch_frames(const lk_id_branch *b) { return b->frames; }
