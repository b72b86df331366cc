/* The zoo's base: a text-conditioned UNet2DConditionModel on the autoencoder's 16x16x8 latents, trained on the 28 base people.
 *   build/bin/zoo-unet [out=DIR] [until=N] [compare=models/zoo/trace.json] [from=DIR]      from: where vae/ and clip/ are; default out
 * v-prediction (Salimans & Ho 2022), scaled-linear betas .00085 to .012, uniform timesteps; the frozen text model of the CLIP pair.
 * Half of the captions name the person by a token; one in ten is dropped for classifier-free guidance. Latents are encoded once:
 * every photo and its mirror, four augmented variants each. Outside the photo the loss counts a fifth. Stored as F16. */
#include "models/face_set.h"
#include "models/schedulers.h"
#include "models/zoo.h"
#include "train/loop.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 16, SEED = 3, VARIANTS = 8, CELLS = LK_ZOO_GRID * LK_ZOO_GRID };
static const int64_t STEPS = 4000;
static const lk_augment augment = {.flip = true, .shift = 2, .zoom = 0.08, .brightness = 10};
static const char *const down_types[3] = {"DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"}, *const up_types[3] = {"CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"};
enum { W0 = 64, W1 = 96, W2 = 128, LAYERS = 2, HEADS = 4, GROUPS = 16 };

typedef struct {
    lk_graph *g; lk_exec *x; lk_zoo zoo; lk_unet_config config;
    lk_val latent, weight, ids, t, signal, noise_level, seed, step, samples;
    lk_full full;
    lk_face_set set; const lk_dataset *data;
    int n; float *latents, *weights; bool *flipped; int *photo;     /* [set.n * VARIANTS] */
    lk_scheduler *scheduler;
} trainer;

static lk_err write_config(const char *path, int64_t context) {
    json_t *j = json_pack("{s:s, s:s, s:i, s:i, s:i, s:[i,i,i], s:[s,s,s], s:[s,s,s], s:s, s:i, s:i, s:I, s:i, s:s, s:f, s:b, s:i, s:b}", "_class_name", "UNet2DConditionModel",
                          "_diffusers_version", "0.42.1", "sample_size", LK_ZOO_GRID, "in_channels", LK_ZOO_LATENT, "out_channels", LK_ZOO_LATENT, "block_out_channels", W0, W1, W2,
                          "down_block_types", down_types[0], down_types[1], down_types[2], "up_block_types", up_types[0], up_types[1], up_types[2], "mid_block_type",
                          "UNetMidBlock2DCrossAttn", "layers_per_block", LAYERS, "attention_head_dim", HEADS, "cross_attention_dim", (json_int_t)context, "norm_num_groups", GROUPS,
                          "act_fn", "silu", "norm_eps", 1e-5, "flip_sin_to_cos", 1, "freq_shift", 0, "use_linear_projection", 0);
    lk_err e = lk_json_save(j, path);
    json_decref(j);
    return e;
}
static lk_err write_scheduler(const char *out) {
    json_t *j;
    LK_TRY(lk_json_parse(lk_zoo_scheduler, strlen(lk_zoo_scheduler), "lk_zoo_scheduler", &j));
    json_object_set_new(j, "_class_name", json_string("DDIMScheduler"));
    char *dir = lk_xfmt("%s/scheduler", out), *path = lk_xfmt("%s/scheduler_config.json", dir);
    lk_err e = lk_mkdirs(dir);
    if (!e) e = lk_json_save(j, path);
    free(dir); free(path);
    json_decref(j);
    return e;
}
static lk_val loss_of(trainer *t) {
    lk_graph *g = t->g;
    lk_net text = lk_net_root(g), unet = text;
    text.param_prefix = "clip/";
    unet.param_prefix = "unet/";
    lk_val context = lk_detach(g, lk_clip_text(&text, &t->zoo.text, t->ids, LK_NONE).last_hidden_state);
    lk_val noise = lk_randn(g, t->seed, t->step, t->samples, "zoo.noise", LK_SHAPE(BATCH, LK_ZOO_LATENT, LK_ZOO_GRID, LK_ZOO_GRID));
    lk_val noisy = lk_add(g, lk_mul(g, t->signal, t->latent), lk_mul(g, t->noise_level, noise));
    lk_val v = lk_sub(g, lk_mul(g, t->signal, noise), lk_mul(g, t->noise_level, t->latent));
    lk_val d = lk_sub(g, lk_unet2d(&unet, &t->config, noisy, t->t, context, LK_UNET_PLAIN), v);
    return lk_mean_all(g, lk_mul(g, lk_square(g, d), t->weight));
}
static lk_err encode_all(trainer *t, lk_pool *pool) {
    t->n = t->set.n * VARIANTS;
    float *frames = lk_xmalloc(sizeof(float) * (size_t)t->n * LK_FRAME_SIZE), *inside = lk_xmalloc(sizeof(float) * LK_FRAME * LK_FRAME);
    t->latents = lk_xmalloc(sizeof(float) * (size_t)t->n * LK_ZOO_LATENT_SIZE);
    t->weights = lk_xmalloc(sizeof(float) * (size_t)t->n * CELLS);
    t->flipped = lk_xcalloc((size_t)t->n, sizeof(bool));
    t->photo = lk_xcalloc((size_t)t->n, sizeof(int));
    for (int i = 0; i < t->n; i++) {
        int at = i / VARIANTS;
        float *frame = frames + (size_t)i * LK_FRAME_SIZE;
        memcpy(frame, t->set.frame + (size_t)at * LK_FRAME_SIZE, sizeof(float) * LK_FRAME_SIZE);
        memcpy(inside, t->set.inside + (size_t)at * LK_FRAME * LK_FRAME, sizeof(float) * LK_FRAME * LK_FRAME);
        t->flipped[i] = lk_augment_frame(&augment, SEED, (uint64_t)(i % VARIANTS), (uint32_t)at, frame, inside, 3, LK_FRAME, LK_FRAME);
        t->photo[i] = t->set.photo[at];
        for (int c = 0; c < CELLS; c++) {               /* a latent cell covers 4x4 pixels */
            float sum = 0;
            for (int k = 0; k < 16; k++) sum += inside[(c / LK_ZOO_GRID * 4 + k / 4) * LK_FRAME + c % LK_ZOO_GRID * 4 + k % 4];
            t->weights[(size_t)i * CELLS + (size_t)c] = 0.2f + 0.8f * (sum / 16);
        }
    }
    lk_err e = lk_zoo_encode(&t->zoo, pool, frames, t->n, t->latents);
    free(frames); free(inside);
    return e;
}
static lk_err caption_ids(const trainer *t, int i, int64_t step, int b, int64_t ids[LK_ZOO_TOKENS]) {
    const lk_photo *p = lk_dataset_at(t->data, t->photo[i]);
    float kind = lk_philox_uniform(lk_stream_key(SEED, "zoo.unet.caption"), (uint64_t)step, (uint32_t)b, 0);
    char *text = kind < 0.1f ? lk_xstrdup("") : t->flipped[i] ? lk_flip_caption(p->text) : lk_xstrdup(p->text);
    if (kind >= 0.55f) {
        char *token = lk_zoo_person_token(p->subject), *named = lk_zoo_caption_with_token(text, token);
        free(token); free(text);
        text = named;
    }
    lk_err e = lk_zoo_encode_text(&t->zoo, text, ids);
    free(text);
    return e;
}
static lk_err batch(void *ctx, lk_exec *x, int64_t step) {
    trainer *t = ctx;
    static float latents[BATCH][LK_ZOO_LATENT_SIZE], weights[BATCH][CELLS];
    static int64_t ids[BATCH][LK_ZOO_TOKENS];
    float timestep[BATCH], signal[BATCH], level[BATCH];
    int64_t samples[BATCH], seed = SEED;
    uint64_t pick = lk_stream_key(SEED, "zoo.unet.pick"), when = lk_stream_key(SEED, "zoo.unet.timestep");
    for (int b = 0; b < BATCH; b++) {
        int i = (int)lk_philox_below(pick, (uint64_t)step, (uint32_t)b, 0, (uint32_t)t->n);
        int at = (int)lk_philox_below(when, (uint64_t)step, (uint32_t)b, 0, 1000);
        memcpy(latents[b], t->latents + (size_t)i * LK_ZOO_LATENT_SIZE, sizeof latents[b]);
        memcpy(weights[b], t->weights + (size_t)i * CELLS, sizeof weights[b]);
        LK_TRY(caption_ids(t, i, step, b, ids[b]));
        timestep[b] = (float)at;
        double alpha, sigma;
        LK_TRY(lk_scheduler_marginal(t->scheduler, at, &alpha, &sigma));
        signal[b] = (float)alpha;
        level[b] = (float)sigma;
        samples[b] = b;
    }
    LK_TRY(lk_exec_set(x, t->latent, latents[0], BATCH * LK_ZOO_LATENT_SIZE));
    LK_TRY(lk_exec_set(x, t->weight, weights[0], BATCH * CELLS));
    LK_TRY(lk_exec_set_i64(x, t->ids, ids[0], BATCH * LK_ZOO_TOKENS));
    LK_TRY(lk_exec_set(x, t->t, timestep, BATCH));
    LK_TRY(lk_exec_set(x, t->signal, signal, BATCH));
    LK_TRY(lk_exec_set(x, t->noise_level, level, BATCH));
    LK_TRY(lk_exec_set_i64(x, t->seed, &seed, 1));
    LK_TRY(lk_exec_set_i64(x, t->step, &step, 1));
    return lk_exec_set_i64(x, t->samples, samples, BATCH);
}
static lk_err build(trainer *t, lk_pool *pool) {
    lk_graph *g = t->g = lk_graph_new();
    t->latent = lk_input(g, "latent", LK_F32, LK_SHAPE(BATCH, LK_ZOO_LATENT, LK_ZOO_GRID, LK_ZOO_GRID));
    t->weight = lk_input(g, "weight", LK_F32, LK_SHAPE(BATCH, 1, LK_ZOO_GRID, LK_ZOO_GRID));
    t->ids = lk_input(g, "ids", LK_I64, LK_SHAPE(BATCH, LK_ZOO_TOKENS));
    t->t = lk_input(g, "timestep", LK_F32, LK_SHAPE(BATCH));
    t->signal = lk_input(g, "signal", LK_F32, LK_SHAPE(BATCH, 1, 1, 1));
    t->noise_level = lk_input(g, "noise_level", LK_F32, LK_SHAPE(BATCH, 1, 1, 1));
    t->seed = lk_input(g, "seed", LK_I64, LK_SCALAR);
    t->step = lk_input(g, "step", LK_I64, LK_SCALAR);
    t->samples = lk_input(g, "samples", LK_I64, LK_SHAPE(BATCH));
    lk_full_build(&t->full, g, loss_of(t), "unet/", (lk_adamw_attr){0.9, 0.99, 1e-8, 0.01}, 1);
    LK_TRY(lk_graph_error(g));
    LK_TRY(lk_exec_new(g, (lk_val[]){t->full.loss, t->full.norm}, 2, (lk_exec_opts){.pool = pool}, &t->x));
    static const char *const zero[] = {"conv2.weight", "conv2.bias", "to_out.0.weight", "to_out.0.bias", "ff.net.2.weight", "ff.net.2.bias", "proj_out.weight", "proj_out.bias",
                                       "conv_out.weight", "conv_out.bias", NULL};
    static const char *const only_text[] = {"vision_model.", "visual_projection.", "text_projection.", "logit_scale", NULL};
    LK_TRY(lk_weights_init(t->x, "unet/", SEED, zero));
    return lk_weights_bind(t->x, t->zoo.clip_weights, "clip/", only_text);
}
static lk_err run(int argc, char **argv) {
    lk_loop_opts opts;
    const char *from = NULL;
    for (int i = 1; i < argc; i++)
        if (lk_starts(argv[i], "from=")) { from = argv[i] + 5; memmove(argv + i, argv + i + 1, sizeof *argv * (size_t)(argc - i)); argc--; i--; }
    LK_TRY(lk_loop_args(argc, argv, &opts));
    trainer t = {0};
    lk_pool *pool = lk_pool_new(lk_default_threads());
    lk_dataset *data;
    lk_faces *faces;
    LK_TRY(lk_dataset_load("datasets/orl", &data));
    LK_TRY(lk_faces_new("models/faces", pool, &faces));
    LK_TRY(lk_zoo_open(from ? from : opts.out, "vae clip", &t.zoo));
    LK_TRY(lk_face_set_split(faces, data, "base", &t.set));
    t.data = data;
    LK_TRY(lk_scheduler_parse("DDIMScheduler", lk_zoo_scheduler, &t.scheduler));
    char *dir = lk_xfmt("%s/unet", opts.out), *json = lk_xfmt("%s/config.json", dir), *weights = lk_xfmt("%s/diffusion_pytorch_model.safetensors", dir);
    LK_TRY(lk_mkdirs(dir));
    LK_TRY(write_config(json, t.zoo.text.hidden));
    LK_TRY(lk_unet_config_load(json, &t.config));
    LK_TRY(encode_all(&t, pool));
    LK_TRY(build(&t, pool));
    LK_TRY(lk_loop_run(&(lk_loop){"unet", STEPS, 200, 1.2e-3, 0.999, batch, &t}, &t.full, t.x, opts));
    if (!opts.until) LK_TRY(lk_full_save_average(&t.full, t.x, "unet/", weights, true, NULL));
    if (!opts.until) LK_TRY(write_scheduler(opts.out));
    free(dir); free(json); free(weights);
    free(t.latents); free(t.weights); free(t.flipped); free(t.photo);
    lk_exec_free(t.x);
    lk_graph_free(t.g);
    lk_face_set_free(&t.set);
    lk_scheduler_free(t.scheduler);
    lk_zoo_close(&t.zoo);
    lk_faces_free(faces);
    lk_dataset_free(data);
    lk_pool_free(pool);
    return LK_OK;
}
int main(int argc, char **argv) { return lk_err_report(run(argc, argv)); }
