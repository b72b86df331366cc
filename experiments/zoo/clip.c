/* The zoo's CLIP pair: a transformers CLIPModel of 64x64 pictures and captions, trained on the 28 base people, and its tokeniser.
 *   build/bin/zoo-clip [out=DIR] [until=N] [compare=models/zoo/trace.json]
 * Contrastive loss over batches of 32; pictures whose captions are equal are all right answers. Half of the captions name the
 * person by a token. Data as for the autoencoder: flip (with left and right in the caption), shift, zoom, brightness. */
#include "models/face_set.h"
#include "models/zoo.h"
#include "train/loop.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BATCH = 32, SEED = 2, RESERVED = 16 };
static const int64_t STEPS = 1500;
static const lk_augment augment = {.flip = true, .shift = 3, .zoom = 0.15, .brightness = 20, .blur = 0.1, .noise = 2};
static lk_clip_text_config text_config = {.hidden = 96, .intermediate = 256, .layers = 2, .heads = 4, .positions = LK_ZOO_TOKENS, .projection = 64,
                                          .eos_token_id = LK_TOKEN_EOS, .eps = 1e-5, .act = LK_ACT_QUICK_GELU, .project = true, .scope = "text_model"};
static const lk_clip_vision_config vision_config = {.hidden = 96, .intermediate = 256, .layers = 3, .heads = 4, .channels = 3, .image = 64, .patch = 8, .projection = 64,
                                                    .eps = 1e-5, .act = LK_ACT_QUICK_GELU, .project = true};
typedef struct {
    lk_graph *g; lk_exec *x;
    lk_val picture, ids, pool_index, target;           /* [B,3,64,64], [B,T], [B], [B,B] rows sum to 1 */
    lk_full full;
    lk_face_set set; const lk_dataset *data; lk_word_tokenizer *tokenizer;
} trainer;

static lk_val loss_of(trainer *t) {
    lk_graph *g = t->g;
    lk_net net = lk_net_root(g);
    net.param_prefix = "clip/";
    lk_val x = lk_shift(g, lk_scale(g, t->picture, 1 / 127.5), -1);
    lk_val image = lk_normalize(g, lk_clip_vision(&net, &vision_config, x).embeds, 1e-12);
    lk_val text = lk_normalize(g, lk_clip_text(&net, &text_config, t->ids, t->pool_index).embeds, 1e-12);
    lk_val scale = lk_exp(g, lk_nn_param(&net, "logit_scale", LK_SCALAR));
    lk_val logits = lk_mul(g, lk_matmul(g, image, text, LK_NONE, (lk_mm){.tb = true}), scale);
    lk_val across = lk_cross_entropy(g, logits, t->target), down = lk_cross_entropy(g, lk_transpose(g, logits, 0, 1), t->target);
    return lk_scale(g, lk_add(g, across, down), 0.5);
}
static char *caption(const trainer *t, int photo, bool flipped, bool named) {
    const lk_photo *p = lk_dataset_at(t->data, photo);
    char *text = flipped ? lk_flip_caption(p->text) : lk_xstrdup(p->text);
    if (!named) return text;
    char *token = lk_zoo_person_token(p->subject), *out = lk_zoo_caption_with_token(text, token);
    free(token); free(text);
    return out;
}
static lk_err batch(void *ctx, lk_exec *x, int64_t step) {
    trainer *t = ctx;
    static float pictures[BATCH][LK_FRAME_SIZE], target[BATCH][BATCH];
    static int64_t ids[BATCH][LK_ZOO_TOKENS];
    int64_t index[BATCH];
    uint64_t pick = lk_stream_key(SEED, "zoo.clip.pick"), name = lk_stream_key(SEED, "zoo.clip.name");
    for (int b = 0; b < BATCH; b++) {
        int i = (int)lk_philox_below(pick, (uint64_t)step, (uint32_t)b, 0, (uint32_t)t->set.n);
        memcpy(pictures[b], t->set.frame + (size_t)i * LK_FRAME_SIZE, sizeof pictures[b]);
        bool flipped = lk_augment_frame(&augment, SEED, (uint64_t)step, (uint32_t)b, pictures[b], NULL, 3, LK_FRAME, LK_FRAME);
        char *text = caption(t, t->set.photo[i], flipped, lk_philox_uniform(name, (uint64_t)step, (uint32_t)b, 0) < 0.5f);
        lk_err e = lk_word_tokenizer_encode(t->tokenizer, text, LK_ZOO_TOKENS, ids[b]);
        free(text);
        LK_TRY(e);
    }
    for (int b = 0; b < BATCH; b++) {
        int equal = 0;
        for (int k = 0; k < BATCH; k++) equal += !memcmp(ids[b], ids[k], sizeof ids[b]);
        for (int k = 0; k < BATCH; k++) target[b][k] = memcmp(ids[b], ids[k], sizeof ids[b]) ? 0 : 1 / (float)equal;
    }
    lk_clip_pool_index(&text_config, ids[0], BATCH, LK_ZOO_TOKENS, index);
    LK_TRY(lk_exec_set(x, t->picture, pictures[0], BATCH * LK_FRAME_SIZE));
    LK_TRY(lk_exec_set_i64(x, t->ids, ids[0], BATCH * LK_ZOO_TOKENS));
    LK_TRY(lk_exec_set_i64(x, t->pool_index, index, BATCH));
    return lk_exec_set(x, t->target, target[0], BATCH * BATCH);
}
static lk_word_tokenizer *make_tokenizer(const lk_dataset *d) {
    int n = lk_dataset_count(d);
    const char *const *people;
    int base = lk_dataset_subjects(d, "base", &people);
    const char **texts = lk_xcalloc((size_t)n, sizeof *texts);
    char **reserved = lk_xcalloc((size_t)(base + RESERVED), sizeof *reserved);
    for (int i = 0; i < n; i++) texts[i] = lk_dataset_at(d, i)->text;
    for (int i = 0; i < base; i++) reserved[i] = lk_zoo_person_token(people[i]);
    for (int i = 0; i < RESERVED; i++) reserved[base + i] = lk_xfmt("<p%d>", i + 1);
    lk_word_tokenizer *t = lk_word_tokenizer_new(texts, n, (const char *const *)reserved, base + RESERVED);
    for (int i = 0; i < base + RESERVED; i++) free(reserved[i]);
    free(reserved); free(texts);
    return t;
}
static lk_err build(trainer *t, lk_pool *pool) {
    lk_graph *g = t->g = lk_graph_new();
    t->picture = lk_input(g, "picture", LK_F32, LK_SHAPE(BATCH, 3, LK_FRAME, LK_FRAME));
    t->ids = lk_input(g, "ids", LK_I64, LK_SHAPE(BATCH, LK_ZOO_TOKENS));
    t->pool_index = lk_input(g, "pool_index", LK_I64, LK_SHAPE(BATCH));
    t->target = lk_input(g, "target", LK_F32, LK_SHAPE(BATCH, BATCH));
    lk_full_build(&t->full, g, loss_of(t), "clip/", (lk_adamw_attr){0.9, 0.98, 1e-8, 0.05}, 1);
    LK_TRY(lk_graph_error(g));
    LK_TRY(lk_exec_new(g, (lk_val[]){t->full.loss, t->full.norm}, 2, (lk_exec_opts){.pool = pool}, &t->x));
    LK_TRY(lk_weights_init(t->x, "clip/", SEED, NULL));
    return lk_exec_set_scalar(t->x, lk_find(g, "clip/logit_scale"), 2.659);
}
static lk_err write_configs(const char *directory) {
    const lk_clip_vision_config *v = &vision_config;
    const lk_clip_text_config *c = &text_config;
    json_t *text = json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:f, s:i, s:i, s:i}", "model_type", "clip_text_model", "hidden_size", c->hidden, "intermediate_size", c->intermediate,
                             "num_hidden_layers", c->layers, "num_attention_heads", c->heads, "vocab_size", c->vocab, "max_position_embeddings", c->positions, "projection_dim",
                             c->projection, "hidden_act", "quick_gelu", "layer_norm_eps", c->eps, "bos_token_id", LK_TOKEN_BOS, "eos_token_id", LK_TOKEN_EOS, "pad_token_id", LK_TOKEN_PAD);
    json_t *vision = json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:f}", "model_type", "clip_vision_model", "hidden_size", v->hidden, "intermediate_size", v->intermediate,
                               "num_hidden_layers", v->layers, "num_attention_heads", v->heads, "num_channels", v->channels, "image_size", v->image, "patch_size", v->patch,
                               "projection_dim", v->projection, "hidden_act", "quick_gelu", "layer_norm_eps", v->eps);
    json_t *j = json_pack("{s:[s], s:s, s:i, s:f, s:o, s:o}", "architectures", "CLIPModel", "model_type", "clip", "projection_dim", 64, "logit_scale_init_value", 2.659, "text_config", text,
                          "vision_config", vision);
    json_t *pixels = json_pack("{s:s, s:b, s:b, s:b, s:f, s:b, s:[f,f,f], s:[f,f,f]}", "image_processor_type", "CLIPImageProcessor", "do_resize", 0, "do_center_crop", 0, "do_rescale", 1,
                               "rescale_factor", 1 / 255.0, "do_normalize", 1, "image_mean", 0.5, 0.5, 0.5, "image_std", 0.5, 0.5, 0.5);
    char *path = lk_xfmt("%s/config.json", directory), *path2 = lk_xfmt("%s/preprocessor_config.json", directory);
    lk_err e = lk_json_save(j, path);
    if (!e) e = lk_json_save(pixels, path2);
    free(path); free(path2);
    json_decref(j); json_decref(pixels);
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
    t.data = data;
    t.tokenizer = make_tokenizer(data);
    text_config.vocab = lk_word_tokenizer_count(t.tokenizer);
    LK_TRY(build(&t, pool));
    LK_TRY(lk_loop_run(&(lk_loop){"clip", STEPS, 100, 1e-3, 0.995, batch, &t}, &t.full, t.x, opts));
    if (!opts.until) {
        char *dir = lk_xfmt("%s/clip", opts.out), *tokens = lk_xfmt("%s/tokenizer", opts.out), *weights = lk_xfmt("%s/model.safetensors", dir);
        static const char *const meta[] = {"format", "pt", NULL};
        LK_TRY(lk_mkdirs(dir));
        LK_TRY(lk_mkdirs(tokens));
        LK_TRY(lk_full_save_average(&t.full, t.x, "clip/", weights, false, meta));
        LK_TRY(write_configs(dir));
        LK_TRY(lk_word_tokenizer_save(t.tokenizer, tokens, LK_ZOO_TOKENS));
        free(dir); free(tokens); free(weights);
    }
    lk_exec_free(t.x);
    lk_graph_free(t.g);
    lk_word_tokenizer_free(t.tokenizer);
    lk_face_set_free(&t.set);
    lk_faces_free(faces);
    lk_dataset_free(data);
    lk_pool_free(pool);
    return LK_OK;
}
int main(int argc, char **argv) { return lk_err_report(run(argc, argv)); }
