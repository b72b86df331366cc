/* The zoo's ID adapter (models/id_adapter.h): one training on the 28 base people, then any person's photos without training.
 *   build/bin/zoo-id_adapter [out=DIR] [until=N] [compare=models/id_adapter/trace.json]
 * The base is frozen; encoder and new projections learn to denoise a photo given the embedding, by the recogniser that serves as loss
 * (mobilefacenet), of ANOTHER photo of the same person: copying pose or light from the embedding does not help. Captions never name a person;
 * one in ten is dropped, one in ten embeddings is zeros, for guidance. Photos and variants as in unet.c. The averages are stored as F16. */
#include "models/face_set.h"
#include "models/id_adapter.h"
#include "models/schedulers.h"
#include "train/loop.h"
#include <stdlib.h>
#include <string.h>

enum { BATCH = 8, SEED = 5, VARIANTS = 4 };
static const int64_t STEPS = 3000;
static const lk_augment augment = {.flip = true, .shift = 2, .zoom = 0.08, .brightness = 10};

typedef struct {
    lk_graph *g; lk_exec *x; lk_zoo zoo;
    lk_val latent, ids, t, signal, noise_level, person, seed, step, samples;
    lk_full full;
    lk_face_set set; const lk_dataset *data;
    float *embedding;                                               /* [set.n][dim] */
    int n; float *latents; bool *flipped;                           /* [set.n * VARIANTS] */
    lk_scheduler *scheduler;
} trainer;

static lk_val loss_of(trainer *t) {
    lk_graph *g = t->g;
    lk_net text = lk_net_root(g), unet = text;
    lk_id_adapter id;
    text.param_prefix = "clip/";
    lk_id_adapter_join(&id, lk_zoo_id_adapter, g, t->person);
    unet.guest = &id.guest;
    lk_val context = lk_detach(g, lk_clip_text(&text, &t->zoo.text, t->ids, LK_NONE).last_hidden_state);
    lk_val noise = lk_randn(g, t->seed, t->step, t->samples, "zoo.noise", LK_SHAPE(BATCH, LK_ZOO_LATENT, LK_ZOO_GRID, LK_ZOO_GRID));
    lk_val noisy = lk_add(g, lk_mul(g, t->signal, t->latent), lk_mul(g, t->noise_level, noise));
    lk_val v = lk_sub(g, lk_mul(g, t->signal, noise), lk_mul(g, t->noise_level, t->latent));
    return lk_mean_all(g, lk_square(g, lk_sub(g, lk_unet2d(&unet, &t->zoo.unet, noisy, t->t, context, LK_UNET_PLAIN), v)));
}
static lk_err encode_all(trainer *t, lk_faces *faces, lk_pool *pool) {
    t->n = t->set.n * VARIANTS;
    float *frames = lk_xmalloc(sizeof(float) * (size_t)t->n * LK_FRAME_SIZE), *inside = lk_xmalloc(sizeof(float) * LK_FRAME * LK_FRAME);
    t->latents = lk_xmalloc(sizeof(float) * (size_t)t->n * LK_ZOO_LATENT_SIZE);
    t->flipped = lk_xcalloc((size_t)t->n, sizeof(bool));
    t->embedding = lk_xmalloc(sizeof(float) * (size_t)t->set.n * (size_t)lk_zoo_id_adapter.embedding);
    for (int i = 0; i < t->n; i++) {
        int at = i / VARIANTS;
        memcpy(frames + (size_t)i * LK_FRAME_SIZE, t->set.frame + (size_t)at * LK_FRAME_SIZE, sizeof(float) * LK_FRAME_SIZE);
        memcpy(inside, t->set.inside + (size_t)at * LK_FRAME * LK_FRAME, sizeof(float) * LK_FRAME * LK_FRAME);
        t->flipped[i] = lk_augment_frame(&augment, SEED, (uint64_t)(i % VARIANTS), (uint32_t)at, frames + (size_t)i * LK_FRAME_SIZE, inside, 3, LK_FRAME, LK_FRAME);
    }
    lk_err e = lk_zoo_encode(&t->zoo, pool, frames, t->n, t->latents);
    if (!e) e = lk_faces_embed_frames(faces, LK_MOBILEFACENET, t->set.frame, t->set.n, t->embedding);
    free(frames); free(inside);
    return e;
}
/* Another photo of the same person: photos lie person by person. */
static int other_photo(const trainer *t, int at, uint64_t key, int64_t step, int b) {
    const char *who = lk_dataset_at(t->data, t->set.photo[at])->subject;
    int first = at, last = at;
    while (first > 0 && !strcmp(lk_dataset_at(t->data, t->set.photo[first - 1])->subject, who)) first--;
    while (last + 1 < t->set.n && !strcmp(lk_dataset_at(t->data, t->set.photo[last + 1])->subject, who)) last++;
    if (last == first) return at;
    int k = first + (int)lk_philox_below(key, (uint64_t)step, (uint32_t)b, 0, (uint32_t)(last - first));
    return k < at ? k : k + 1;
}
static lk_err batch(void *ctx, lk_exec *x, int64_t step) {
    trainer *t = ctx;
    int64_t dim = lk_zoo_id_adapter.embedding;
    static float latents[BATCH][LK_ZOO_LATENT_SIZE], people[BATCH * 512];
    static int64_t ids[BATCH][LK_ZOO_TOKENS];
    float timestep[BATCH], signal[BATCH], level[BATCH];
    int64_t samples[BATCH], seed = SEED;
    uint64_t pick = lk_stream_key(SEED, "zoo.id.pick"), when = lk_stream_key(SEED, "zoo.id.timestep"), other = lk_stream_key(SEED, "zoo.id.other"), drop = lk_stream_key(SEED, "zoo.id.drop");
    for (int b = 0; b < BATCH; b++) {
        int i = (int)lk_philox_below(pick, (uint64_t)step, (uint32_t)b, 0, (uint32_t)t->n), at = (int)lk_philox_below(when, (uint64_t)step, (uint32_t)b, 0, 1000);
        const char *caption = lk_dataset_at(t->data, t->set.photo[i / VARIANTS])->text;
        char *text = lk_philox_uniform(drop, (uint64_t)step, (uint32_t)b, 0) < 0.1f ? lk_xstrdup("") : t->flipped[i] ? lk_flip_caption(caption) : lk_xstrdup(caption);
        lk_err e = lk_zoo_encode_text(&t->zoo, text, ids[b]);
        free(text);
        if (e) return e;
        if (lk_philox_uniform(drop, (uint64_t)step, (uint32_t)b, 1) < 0.1f) memset(people + b * dim, 0, sizeof(float) * (size_t)dim);
        else memcpy(people + b * dim, t->embedding + other_photo(t, i / VARIANTS, other, step, b) * dim, sizeof(float) * (size_t)dim);
        memcpy(latents[b], t->latents + (size_t)i * LK_ZOO_LATENT_SIZE, sizeof latents[b]);
        double alpha, sigma;
        LK_TRY(lk_scheduler_marginal(t->scheduler, at, &alpha, &sigma));
        timestep[b] = (float)at; signal[b] = (float)alpha; level[b] = (float)sigma; samples[b] = b;
    }
    LK_TRY(lk_exec_set(x, t->latent, latents[0], BATCH * LK_ZOO_LATENT_SIZE));
    LK_TRY(lk_exec_set(x, t->person, people, BATCH * dim));
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
    t->person = lk_input(g, "person", LK_F32, LK_SHAPE(BATCH, lk_zoo_id_adapter.embedding));
    t->ids = lk_input(g, "ids", LK_I64, LK_SHAPE(BATCH, LK_ZOO_TOKENS));
    t->t = lk_input(g, "timestep", LK_F32, LK_SHAPE(BATCH));
    t->signal = lk_input(g, "signal", LK_F32, LK_SHAPE(BATCH, 1, 1, 1));
    t->noise_level = lk_input(g, "noise_level", LK_F32, LK_SHAPE(BATCH, 1, 1, 1));
    t->seed = lk_input(g, "seed", LK_I64, LK_SCALAR);
    t->step = lk_input(g, "step", LK_I64, LK_SCALAR);
    t->samples = lk_input(g, "samples", LK_I64, LK_SHAPE(BATCH));
    lk_full_build(&t->full, g, loss_of(t), LK_ID_ADAPTER_PREFIX, (lk_adamw_attr){0.9, 0.99, 1e-8, 0.01}, 1);
    LK_TRY(lk_graph_error(g));
    LK_TRY(lk_exec_new(g, (lk_val[]){t->full.loss, t->full.norm}, 2, (lk_exec_opts){.pool = pool}, &t->x));
    static const char *const only_text[] = {"vision_model.", "visual_projection.", "text_projection.", "logit_scale", NULL};
    LK_TRY(lk_weights_bind(t->x, t->zoo.clip_weights, "clip/", only_text));
    LK_TRY(lk_weights_bind(t->x, t->zoo.unet_weights, "", NULL));
    return lk_id_adapter_init(t->x, SEED);
}
static lk_err save(const trainer *t, const char *out) {
    char base[65], *path = lk_xfmt("%s/adapter.safetensors", out);
    lk_err e = lk_base_digest(t->zoo.unet_weights, base);
    if (!e) e = lk_full_save_average(&t->full, t->x, LK_ID_ADAPTER_PREFIX, path, true, (const char *const[]){LK_BASE_KEY, base, NULL});
    free(path);
    return e;
}
static lk_err run(int argc, char **argv) {
    lk_loop_opts opts;
    LK_TRY(lk_loop_args(argc, argv, &opts));
    if (!strcmp(opts.out, "build/zoo")) opts.out = "build/zoo/id_adapter";      /* not given */
    trainer t = {0};
    lk_pool *pool = lk_pool_new(lk_default_threads());
    lk_dataset *data;
    lk_faces *faces;
    LK_TRY(lk_dataset_load("datasets/orl", &data));
    LK_TRY(lk_faces_new("models/faces", pool, &faces));
    LK_TRY(lk_zoo_open("models/zoo", "vae clip unet", &t.zoo));
    LK_TRY(lk_face_set_split(faces, data, "base", &t.set));
    t.data = data;
    LK_TRY(lk_scheduler_parse("DDIMScheduler", lk_zoo_scheduler, &t.scheduler));
    LK_TRY(encode_all(&t, faces, pool));
    LK_TRY(build(&t, pool));
    LK_TRY(lk_loop_run(&(lk_loop){"id_adapter", STEPS, 100, 1e-3, 0.999, batch, &t}, &t.full, t.x, opts));
    if (!opts.until) LK_TRY(save(&t, opts.out));
    free(t.latents); free(t.flipped); free(t.embedding);
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
