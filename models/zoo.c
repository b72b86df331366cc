/* Opening the zoo, and its encoders run over arrays in batches. */
#include "models/zoo.h"
#include "models/face_set.h"
#include <stdlib.h>
#include <string.h>

enum { BATCH = 8 };
const char lk_zoo_scheduler[] = "{\"num_train_timesteps\": 1000, \"beta_start\": 0.00085, \"beta_end\": 0.012, \"beta_schedule\": \"scaled_linear\","
                                " \"prediction_type\": \"v_prediction\", \"timestep_spacing\": \"trailing\", \"clip_sample\": false, \"set_alpha_to_one\": false}";
static lk_err open_part(const char *directory, const char *part, const char *file, char **config, lk_st **st) {
    char *path = lk_xfmt("%s/%s/%s", directory, part, file);
    *config = lk_xfmt("%s/%s/config.json", directory, part);
    lk_err e = lk_st_open(path, st);
    free(path);
    return e;
}
lk_err lk_zoo_open(const char *directory, const char *parts, lk_zoo *z) {
    *z = (lk_zoo){.directory = lk_xstrdup(directory)};
    char *config = NULL;
    lk_err e = LK_OK;
    if (strstr(parts, "vae")) {
        e = open_part(directory, "vae", "diffusion_pytorch_model.safetensors", &config, &z->vae_weights);
        if (!e) e = lk_vae_config_load(config, &z->vae);
        free(config);
    }
    if (!e && strstr(parts, "clip")) {
        e = open_part(directory, "clip", "model.safetensors", &config, &z->clip_weights);
        if (!e) e = lk_clip_text_config_load(config, &z->text);
        if (!e) e = lk_clip_vision_config_load(config, &z->vision);
        free(config);
        config = lk_xfmt("%s/tokenizer", directory);
        if (!e) e = lk_word_tokenizer_load(config, &z->tokenizer);
        free(config);
    }
    if (!e && strstr(parts, "unet")) {
        e = open_part(directory, "unet", "diffusion_pytorch_model.safetensors", &config, &z->unet_weights);
        if (!e) e = lk_unet_config_load(config, &z->unet);
        free(config);
    }
    if (e) lk_zoo_close(z);
    return e;
}
void lk_zoo_close(lk_zoo *z) {
    if (z->vae_weights) lk_st_close(z->vae_weights);
    if (z->clip_weights) lk_st_close(z->clip_weights);
    if (z->unet_weights) lk_st_close(z->unet_weights);
    lk_word_tokenizer_free(z->tokenizer);
    free(z->directory);
    *z = (lk_zoo){0};
}
lk_err lk_zoo_encode_text(const lk_zoo *z, const char *text, int64_t ids[LK_ZOO_TOKENS]) {
    return lk_word_tokenizer_encode(z->tokenizer, text, LK_ZOO_TOKENS, ids);
}

/* ---- an encoder over an array ------------------------------------------------------------------------ */
typedef lk_val (*build_fn)(const lk_zoo *, const lk_net *, lk_val in);
static const char *const no_text[] = {"text_model.", "text_projection.", "logit_scale", NULL}, *const no_vision[] = {"vision_model.", "visual_projection.", "logit_scale", NULL};
static lk_err over_array(const lk_zoo *z, lk_pool *pool, build_fn build, const lk_st *weights, const char *const *ignore, lk_shape in_shape, const float *in, int n,
                         float *out, int64_t out_each) {
    lk_graph *g = lk_graph_new();
    lk_net net = lk_net_root(g);
    lk_val input = lk_input(g, "in", LK_F32, in_shape), output = build(z, &net, input);
    lk_exec *x = NULL;
    lk_err e = lk_graph_error(g);
    if (!e) e = lk_exec_new(g, &output, 1, (lk_exec_opts){.pool = pool}, &x);
    if (!e) e = lk_weights_bind(x, weights, "", ignore);
    int64_t in_each = lk_numel(in_shape) / BATCH;
    float *ins = lk_xcalloc((size_t)(in_each * BATCH), sizeof(float)), *outs = lk_xcalloc((size_t)(out_each * BATCH), sizeof(float));
    for (int at = 0; at < n && !e; at += BATCH) {
        int k = n - at < BATCH ? n - at : BATCH;
        memset(ins, 0, sizeof(float) * (size_t)(in_each * BATCH));
        memcpy(ins, in + at * in_each, sizeof(float) * (size_t)(in_each * k));
        e = lk_exec_set(x, input, ins, in_each * BATCH);
        if (!e) e = lk_exec_run(x);
        if (!e) e = lk_exec_get(x, output, outs, out_each * BATCH);
        if (!e) memcpy(out + at * out_each, outs, sizeof(float) * (size_t)(out_each * k));
    }
    free(ins); free(outs);
    lk_exec_free(x);
    lk_graph_free(g);
    return e;
}
static lk_val unit_range(lk_graph *g, lk_val frames) { return lk_shift(g, lk_scale(g, frames, 1 / 127.5), -1); }
static lk_val build_encode(const lk_zoo *z, const lk_net *n, lk_val in) { return lk_vae_mean(n->g, lk_vae_encode(n, &z->vae, unit_range(n->g, in))); }
static lk_val build_decode(const lk_zoo *z, const lk_net *n, lk_val in) {
    lk_val y = lk_scale(n->g, lk_shift(n->g, lk_vae_decode(n, &z->vae, in), 1), 127.5);
    return lk_min(n->g, lk_max(n->g, y, lk_scalar(n->g, 0)), lk_scalar(n->g, 255));
}
static lk_val build_vision(const lk_zoo *z, const lk_net *n, lk_val in) { return lk_normalize(n->g, lk_clip_vision(n, &z->vision, unit_range(n->g, in)).embeds, 1e-12); }
static lk_shape frames_shape(void) { return LK_SHAPE(BATCH, 3, LK_FRAME, LK_FRAME); }
lk_err lk_zoo_encode_sized(const lk_zoo *z, lk_pool *pool, const float *frames, int n, int height, int width, float *latents) {
    lk_shape shape = LK_SHAPE(BATCH, 3, LK_FRAME / LK_ZOO_GRID * height, LK_FRAME / LK_ZOO_GRID * width);
    return over_array(z, pool, build_encode, z->vae_weights, lk_vae_without_decoder, shape, frames, n, latents, (int64_t)LK_ZOO_LATENT * height * width);
}
lk_err lk_zoo_encode(const lk_zoo *z, lk_pool *pool, const float *frames, int n, float *latents) {
    return lk_zoo_encode_sized(z, pool, frames, n, LK_ZOO_GRID, LK_ZOO_GRID, latents);
}
lk_err lk_zoo_decode_sized(const lk_zoo *z, lk_pool *pool, const float *latents, int n, int height, int width, float *frames) {
    return over_array(z, pool, build_decode, z->vae_weights, lk_vae_without_encoder, LK_SHAPE(BATCH, LK_ZOO_LATENT, height, width), latents, n, frames, (int64_t)LK_FRAME_SIZE / (LK_ZOO_GRID * LK_ZOO_GRID) * height * width);
}
lk_err lk_zoo_decode(const lk_zoo *z, lk_pool *pool, const float *latents, int n, float *frames) {
    return lk_zoo_decode_sized(z, pool, latents, n, LK_ZOO_GRID, LK_ZOO_GRID, frames);
}
lk_err lk_zoo_embed_frames(const lk_zoo *z, lk_pool *pool, const float *frames, int n, float *out) {
    return over_array(z, pool, build_vision, z->clip_weights, no_text, frames_shape(), frames, n, out, z->vision.projection);
}
lk_err lk_zoo_embed_texts(const lk_zoo *z, lk_pool *pool, const char *const *texts, int n, float *out) {
    lk_graph *g = lk_graph_new();
    lk_net net = lk_net_root(g);
    lk_val ids = lk_input(g, "ids", LK_I64, LK_SHAPE(1, LK_ZOO_TOKENS)), pool_index = lk_input(g, "pool_index", LK_I64, LK_SHAPE(1));
    lk_val output = lk_normalize(g, lk_clip_text(&net, &z->text, ids, pool_index).embeds, 1e-12);
    lk_exec *x = NULL;
    lk_err e = lk_graph_error(g);
    if (!e) e = lk_exec_new(g, &output, 1, (lk_exec_opts){.pool = pool}, &x);
    if (!e) e = lk_weights_bind(x, z->clip_weights, "", no_vision);
    for (int i = 0; i < n && !e; i++) {
        int64_t id[LK_ZOO_TOKENS], index;
        e = lk_zoo_encode_text(z, texts[i], id);
        if (!e) lk_clip_pool_index(&z->text, id, 1, LK_ZOO_TOKENS, &index);
        if (!e) e = lk_exec_set_i64(x, ids, id, LK_ZOO_TOKENS);
        if (!e) e = lk_exec_set_i64(x, pool_index, &index, 1);
        if (!e) e = lk_exec_run(x);
        if (!e) e = lk_exec_get(x, output, out + i * z->text.projection, z->text.projection);
    }
    lk_exec_free(x);
    lk_graph_free(g);
    return e;
}
lk_err lk_zoo_hidden_texts(const lk_zoo *z, lk_pool *pool, const char *const *texts, int n, float *out) {
    static const char *const only_text[] = {"vision_model.", "visual_projection.", "text_projection.", "logit_scale", NULL};
    lk_graph *g = lk_graph_new();
    lk_net net = lk_net_root(g);
    lk_val ids = lk_input(g, "ids", LK_I64, LK_SHAPE(1, LK_ZOO_TOKENS)), hidden = lk_clip_text(&net, &z->text, ids, LK_NONE).last_hidden_state;
    int64_t each = LK_ZOO_TOKENS * z->text.hidden;
    lk_exec *x = NULL;
    lk_err e = lk_graph_error(g);
    if (!e) e = lk_exec_new(g, &hidden, 1, (lk_exec_opts){.pool = pool}, &x);
    if (!e) e = lk_weights_bind(x, z->clip_weights, "", only_text);
    for (int i = 0; i < n && !e; i++) {
        int64_t tokens[LK_ZOO_TOKENS];
        e = lk_zoo_encode_text(z, texts[i], tokens);
        if (!e) e = lk_exec_set_i64(x, ids, tokens, LK_ZOO_TOKENS);
        if (!e) e = lk_exec_run(x);
        if (!e) e = lk_exec_get(x, hidden, out + i * each, each);
    }
    lk_exec_free(x);
    lk_graph_free(g);
    return e;
}

/* ---- captions ------------------------------------------------------------------------------------------ */
char *lk_zoo_person_token(const char *subject) { return lk_xfmt("<%s>", subject); }
char *lk_zoo_caption_with_token(const char *text, const char *token) {
    static const char article[] = "a photo of a ";
    if (!lk_starts(text, article)) return lk_xstrdup(text);
    return lk_xfmt("%s%s %s", article, token, text + sizeof article - 1);
}
