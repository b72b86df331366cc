/* The zoo's autoencoder: AutoencoderKL, 64x64 pictures to 16x16 latents of 8 channels, trained on the 28 base people.
 *   build/bin/zoo-autoencoder [out=DIR] [until=N] [compare=models/zoo/trace.json]
 * Data: aligned common frames; flip, shift by 2, zoom by .1, brightness by 12. Loss: L1 + L2 (outside the photo a fifth) + KL 5e-5
 * + identity: .3 (1 - cosine by mobilefacenet between picture and reconstruction), since pixels alone lose the person.
 * At the end the latents are normalised per channel over the training frames, folded into quant_conv and post_quant_conv, so that
 * scaling_factor is 1. */
#include "base/exact_math.h"
#include "models/face_set.h"
#include "models/models.h"
#include "train/loop.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 8, LATENT = 8, SEED = 1 };
static const int64_t STEPS = 2600;
static const lk_vae_config config = {.levels = 3, .in_channels = 3, .out_channels = 3, .latent_channels = LATENT, .channels = {16, 48, 64}, .layers = 1,
                                     .groups = 8, .mid_attn = true, .quant_conv = true, .post_quant_conv = true, .scaling_factor = 1};
static const lk_augment augment = {.flip = true, .shift = 2, .zoom = 0.1, .brightness = 12};

typedef struct {
    lk_graph *g; lk_exec *x;
    lk_val picture, weight, seed, step, samples;      /* [B,3,64,64] in 0..255, [B,1,64,64], keys of the latent's noise */
    lk_full full;
    lk_face_set set;
} trainer;

static lk_val loss_of(trainer *t) {
    lk_graph *g = t->g;
    lk_net net = lk_net_root(g), recogniser = net;
    net.param_prefix = "vae/";
    recogniser.param_prefix = "mobilefacenet/";
    lk_val x = lk_shift(g, lk_scale(g, t->picture, 1 / 127.5), -1);
    lk_val moments = lk_vae_encode(&net, &config, x);
    lk_val mean = lk_vae_mean(g, moments), logvar = lk_vae_logvar(g, moments);
    lk_val noise = lk_randn(g, t->seed, t->step, t->samples, "zoo.latent", LK_SHAPE(BATCH, LATENT, 16, 16));
    lk_val y = lk_vae_decode(&net, &config, lk_vae_sample(g, moments, noise));
    lk_val d = lk_sub(g, y, x);
    lk_val pixels = lk_mean_all(g, lk_mul(g, lk_add(g, lk_abs(g, d), lk_square(g, d)), t->weight));
    lk_val kl = lk_mean_all(g, lk_sub(g, lk_add(g, lk_square(g, mean), lk_exp(g, logvar)), lk_shift(g, logvar, 1)));
    lk_val out = lk_scale(g, lk_shift(g, y, 1), 127.5);
    lk_val identity = lk_cosine(g, lk_face_embed_frames(&recogniser, LK_MOBILEFACENET, out),
                                lk_detach(g, lk_face_embed_frames(&recogniser, LK_MOBILEFACENET, t->picture)), 1e-8);
    lk_val id_loss = lk_sub(g, lk_scalar(g, 1), lk_mean_all(g, identity));
    return lk_add(g, lk_add(g, pixels, lk_scale(g, kl, 0.5 * 5e-5)), lk_scale(g, id_loss, 0.3));
}
static lk_err batch(void *ctx, lk_exec *x, int64_t step) {
    trainer *t = ctx;
    static float pictures[BATCH][LK_FRAME_SIZE], weights[BATCH][LK_FRAME * LK_FRAME];
    int64_t samples[BATCH], seed = SEED;
    uint64_t pick = lk_stream_key(SEED, "zoo.autoencoder.pick");
    for (int b = 0; b < BATCH; b++) {
        int i = (int)lk_philox_below(pick, (uint64_t)step, (uint32_t)b, 0, (uint32_t)t->set.n);
        memcpy(pictures[b], t->set.frame + (size_t)i * LK_FRAME_SIZE, sizeof pictures[b]);
        memcpy(weights[b], t->set.inside + (size_t)i * LK_FRAME * LK_FRAME, sizeof weights[b]);
        lk_augment_frame(&augment, SEED, (uint64_t)step, (uint32_t)b, pictures[b], weights[b], 3, LK_FRAME, LK_FRAME);
        for (int k = 0; k < LK_FRAME * LK_FRAME; k++) weights[b][k] = 0.2f + 0.8f * weights[b][k];
        samples[b] = b;
    }
    LK_TRY(lk_exec_set(x, t->picture, pictures[0], BATCH * LK_FRAME_SIZE));
    LK_TRY(lk_exec_set(x, t->weight, weights[0], BATCH * LK_FRAME * LK_FRAME));
    LK_TRY(lk_exec_set_i64(x, t->seed, &seed, 1));
    LK_TRY(lk_exec_set_i64(x, t->step, &step, 1));
    return lk_exec_set_i64(x, t->samples, samples, BATCH);
}
static lk_err load_recogniser(lk_exec *x) {
    lk_st *st;
    LK_TRY(lk_st_open("models/faces/mobilefacenet.safetensors", &st));
    lk_err e = lk_face_weights(x, st, "mobilefacenet/");
    lk_st_close(st);
    return e;
}
static lk_err build(trainer *t, lk_pool *pool) {
    lk_graph *g = t->g = lk_graph_new();
    t->picture = lk_input(g, "picture", LK_F32, LK_SHAPE(BATCH, 3, LK_FRAME, LK_FRAME));
    t->weight = lk_input(g, "weight", LK_F32, LK_SHAPE(BATCH, 1, LK_FRAME, LK_FRAME));
    t->seed = lk_input(g, "seed", LK_I64, LK_SCALAR);
    t->step = lk_input(g, "step", LK_I64, LK_SCALAR);
    t->samples = lk_input(g, "samples", LK_I64, LK_SHAPE(BATCH));
    lk_val loss = loss_of(t);
    lk_full_build(&t->full, g, loss, "vae/", (lk_adamw_attr){0.9, 0.99, 1e-8, 0}, 1);
    LK_TRY(lk_graph_error(g));
    LK_TRY(lk_exec_new(g, (lk_val[]){t->full.loss, t->full.norm}, 2, (lk_exec_opts){.pool = pool}, &t->x));
    LK_TRY(lk_weights_init(t->x, "vae/", SEED, NULL));
    return load_recogniser(t->x);
}

/* ---- normalised latents ---------------------------------------------------------------------------------- */
/* Mean and deviation per channel over the training frames, by the averaged weights in `path`. */
static lk_err latent_statistics(const trainer *t, const char *path, lk_pool *pool, double mean[LATENT], double sd[LATENT]) {
    lk_graph *g = lk_graph_new();
    lk_net net = lk_net_root(g);
    lk_val in = lk_input(g, "picture", LK_F32, LK_SHAPE(BATCH, 3, LK_FRAME, LK_FRAME));
    lk_val out = lk_vae_mean(g, lk_vae_encode(&net, &config, lk_shift(g, lk_scale(g, in, 1 / 127.5), -1)));
    lk_exec *x = NULL;
    lk_st *st = NULL;
    double sum[LATENT] = {0}, squares[LATENT] = {0};
    int n = t->set.n / BATCH * BATCH;
    float *latent = lk_xmalloc(sizeof(float) * BATCH * LATENT * 256);
    lk_err e = lk_exec_new(g, &out, 1, (lk_exec_opts){.pool = pool}, &x);
    if (!e) e = lk_st_open(path, &st);
    if (!e) e = lk_weights_set(x, st, "", lk_vae_without_decoder);
    for (int i = 0; i < n && !e; i += BATCH) {
        e = lk_exec_set(x, in, t->set.frame + (size_t)i * LK_FRAME_SIZE, BATCH * LK_FRAME_SIZE);
        if (!e) e = lk_exec_run(x);
        if (!e) e = lk_exec_get(x, out, latent, BATCH * LATENT * 256);
        for (int k = 0; k < BATCH * LATENT * 256 && !e; k++) { int c = k / 256 % LATENT; sum[c] += latent[k]; squares[c] += (double)latent[k] * latent[k]; }
    }
    for (int c = 0; c < LATENT; c++) {
        mean[c] = sum[c] / (n * 256);
        sd[c] = __builtin_sqrt(squares[c] / (n * 256) - mean[c] * mean[c]);
    }
    free(latent);
    if (st) lk_st_close(st);
    lk_exec_free(x);
    lk_graph_free(g);
    return e;
}
/* z' = (z - mean) / sd: rows of quant_conv (mean half; the log-variance half shifts by -2 log sd), columns of post_quant_conv. */
static lk_err fold(const char *from, const char *to, const double mean[LATENT], const double sd[LATENT]) {
    lk_st *st;
    LK_TRY(lk_st_open(from, &st));
    lk_arena *a = lk_arena_new();
    int n = lk_st_count(st);
    lk_st_item *items = lk_alloc(a, sizeof *items * (size_t)n);
    lk_err e = LK_OK;
    float *quant_w = NULL, *quant_b = NULL, *post_w = NULL, *post_b = NULL;
    for (int i = 0; i < n && !e; i++) {
        const lk_tensor *s = lk_st_at(st, i);
        float *v = lk_alloc(a, sizeof(float) * (size_t)s->numel);
        e = lk_st_f32(s, v);
        items[i] = (lk_st_item){.name = s->name, .dtype = LK_ST_F32, .rank = s->rank, .data = v};
        memcpy(items[i].d, s->d, sizeof s->d);
        if (!strcmp(s->name, "quant_conv.weight")) quant_w = v;
        if (!strcmp(s->name, "quant_conv.bias")) quant_b = v;
        if (!strcmp(s->name, "post_quant_conv.weight")) post_w = v;
        if (!strcmp(s->name, "post_quant_conv.bias")) post_b = v;
    }
    if (!e && !(quant_w && quant_b && post_w && post_b)) e = lk_error(LK_ESTATE, "%s: quant_conv and post_quant_conv are missing", from);
    for (int c = 0; c < LATENT && !e; c++) {
        for (int k = 0; k < 2 * LATENT; k++) quant_w[c * 2 * LATENT + k] = (float)(quant_w[c * 2 * LATENT + k] / sd[c]);
        quant_b[c] = (float)((quant_b[c] - mean[c]) / sd[c]);
        quant_b[LATENT + c] = (float)(quant_b[LATENT + c] - 2 * lk_log_d(sd[c]));
    }
    for (int o = 0; o < LATENT && !e; o++) {
        double bias = post_b[o];
        for (int c = 0; c < LATENT; c++) { bias += post_w[o * LATENT + c] * mean[c]; post_w[o * LATENT + c] = (float)(post_w[o * LATENT + c] * sd[c]); }
        post_b[o] = (float)bias;
    }
    if (!e) e = lk_st_write(to, items, n, NULL);
    lk_arena_free(a);
    lk_st_close(st);
    return e;
}
static lk_err write_config(const char *path) {
    json_t *j = json_pack("{s:s, s:s, s:i, s:i, s:i, s:[i,i,i], s:[s,s,s], s:[s,s,s], s:i, s:i, s:s, s:i, s:f, s:b, s:b, s:b}", "_class_name", "AutoencoderKL", "act_fn", "silu",
                          "in_channels", 3, "out_channels", 3, "latent_channels", LATENT, "block_out_channels", 16, 48, 64,
                          "down_block_types", "DownEncoderBlock2D", "DownEncoderBlock2D", "DownEncoderBlock2D",
                          "up_block_types", "UpDecoderBlock2D", "UpDecoderBlock2D", "UpDecoderBlock2D",
                          "layers_per_block", 1, "norm_num_groups", 8, "_diffusers_version", "0.42.1", "sample_size", 64, "scaling_factor", 1.0,
                          "use_quant_conv", 1, "use_post_quant_conv", 1, "mid_block_add_attention", 1);
    lk_err e = lk_json_save(j, path);
    json_decref(j);
    return e;
}
static lk_err run(int argc, char **argv) {
    lk_loop_opts opts;
    LK_TRY(lk_loop_args(argc, argv, &opts));
    trainer t = {0};
    lk_pool *pool = lk_pool_new(lk_default_threads());
    lk_dataset *data;
    lk_faces *faces;
    LK_TRY(lk_dataset_load("datasets/orl", &data));
    LK_TRY(lk_faces_new("models/faces", pool, &faces));
    LK_TRY(lk_face_set_split(faces, data, "base", &t.set));
    LK_TRY(build(&t, pool));
    LK_TRY(lk_loop_run(&(lk_loop){"autoencoder", STEPS, 100, 2e-3, 0.999, batch, &t}, &t.full, t.x, opts));
    if (!opts.until) {
        char *raw = lk_xfmt("%s/autoencoder.raw.safetensors", opts.out), *dir = lk_xfmt("%s/vae", opts.out);
        char *weights = lk_xfmt("%s/diffusion_pytorch_model.safetensors", dir), *json = lk_xfmt("%s/config.json", dir);
        double mean[LATENT], sd[LATENT];
        LK_TRY(lk_mkdirs(dir));
        LK_TRY(lk_full_save_average(&t.full, t.x, "vae/", raw, false, NULL));
        LK_TRY(latent_statistics(&t, raw, pool, mean, sd));
        LK_TRY(fold(raw, weights, mean, sd));
        LK_TRY(write_config(json));
        free(raw); free(dir); free(weights); free(json);
    }
    lk_exec_free(t.x);
    lk_graph_free(t.g);
    lk_face_set_free(&t.set);
    lk_faces_free(faces);
    lk_dataset_free(data);
    lk_pool_free(pool);
    return LK_OK;
}
int main(int argc, char **argv) { return lk_err_report(run(argc, argv)); }
