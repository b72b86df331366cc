/* Text embeddings of a CLIP in a model directory (extract.h). The tokeniser is looked for in the directory and in ../tokenizer: CLIP's own
 * (vocab.json and merges.txt, models/clip_tokenizer.h), else the closed-vocabulary one of base models trained here (tokenizer.json alone,
 * models/word_tokenizer.h). */
#include "metrics/extract.h"
#include "models/clip_tokenizer.h"
#include "models/models.h"
#include "models/word_tokenizer.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const no_vision[] = { "vision_model.", "visual_projection.weight", "logit_scale", "position_ids", NULL };

typedef struct { lk_clip_tokenizer *bpe; lk_word_tokenizer *words; } tokenizer;
static bool holds(const char *dir, const char *name) {
    char *file = lk_xfmt("%s/%s", dir, name);
    bool here = !access(file, R_OK);
    free(file);
    return here;
}
static lk_err open_tokenizer(const char *model, tokenizer *out) {
    for (size_t i = 0; i < 2; i++) {
        char *dir = i ? lk_xfmt("%s/../tokenizer", model) : lk_xstrdup(model);
        bool bpe = holds(dir, "vocab.json"), words = !bpe && holds(dir, "tokenizer.json");
        lk_err e = bpe ? lk_clip_tokenizer_open(dir, &out->bpe) : words ? lk_word_tokenizer_load(dir, &out->words) : LK_OK;
        free(dir);
        if (bpe || words) return e;
    }
    return lk_error(LK_EINPUT, "%s: neither vocab.json and merges.txt nor tokenizer.json there or in ../tokenizer", model);
}
static lk_err embed(lk_exec *x, lk_val in, lk_val index, lk_val out, const lk_clip_text_config *c, const tokenizer *t, const char *text, double *to) {
    int64_t *ids = lk_xmalloc((size_t)c->positions * sizeof *ids), at;
    double length = 0;
    lk_err e = t->bpe ? lk_clip_tokenize(t->bpe, text, strlen(text), (int)c->positions, ids, NULL) : lk_word_tokenizer_encode(t->words, text, (int)c->positions, ids);
    if (!e) lk_clip_pool_index(c, ids, 1, c->positions, &at);
    if (!e) e = lk_exec_set_i64(x, in, ids, c->positions);
    if (!e) e = lk_exec_set_i64(x, index, &at, 1);
    if (!e) e = lk_exec_run(x);
    if (!e) e = lk_exec_get_f64(x, out, to, c->projection);
    for (int64_t i = 0; i < c->projection && !e; i++) length += to[i] * to[i];
    for (int64_t i = 0; i < c->projection && !e; i++) to[i] /= sqrt(length);
    free(ids);
    return e;
}
lk_err lk_clip_texts(const char *model, const char *const *texts, int n, lk_pool *pool, double **out, int64_t *d) {
    lk_clip_text_config c;
    *out = NULL;
    tokenizer t = { 0 };
    lk_st *st = NULL;
    char *config = lk_xfmt("%s/config.json", model), *weights = lk_xfmt("%s/model.safetensors", model);
    lk_err e = lk_clip_text_config_load(config, &c);
    if (!e) e = open_tokenizer(model, &t);
    if (!e) e = lk_st_open(weights, &st);
    lk_graph *g = lk_graph_new();
    lk_exec *x = NULL;
    if (!e) {
        lk_net net = lk_net_root(g);
        lk_val in = lk_input(g, "ids", LK_I64, LK_SHAPE(1, c.positions)), index = lk_input(g, "pool_index", LK_I64, LK_SHAPE(1));
        lk_val y = lk_clip_text(&net, &c, in, index).embeds;
        e = lk_graph_error(g);
        if (!e) e = lk_exec_new(g, &y, 1, (lk_exec_opts){ .pool = pool }, &x);
        if (!e) e = lk_weights_bind(x, st, "", no_vision);
        *d = c.projection;
        *out = lk_xmalloc((size_t)(n * c.projection + 1) * sizeof **out);
        for (int i = 0; i < n && !e; i++) e = lk_err_wrap(embed(x, in, index, y, &c, &t, texts[i], *out + i * c.projection), "\"%s\"", texts[i]);
        if (e) { free(*out); *out = NULL; }
    }
    lk_exec_free(x);
    lk_graph_free(g);
    if (st) lk_st_close(st);
    lk_clip_tokenizer_free(t.bpe);
    lk_word_tokenizer_free(t.words);
    free(config);
    free(weights);
    return e;
}
