/* CLIPTextModel and CLIPTextModelWithProjection (Radford et al. 2021, arXiv:2103.00020), and the tower shared with clip_vision.c.
 * Which position is pooled depends on the token ids alone, so the host works it out (lk_clip_pool_index). */
#include "models/clip.h"
#include <string.h>

static const lk_config_rule rules[] = { { "attention_dropout", "0|0.0" }, { "dropout", "0|0.0" }, { NULL } };

lk_err lk_clip_tower_read(const json_t *j, const char *path, lk_clip_tower dflt, lk_clip_tower *t) {
    *t = dflt;
    LK_TRY(lk_config_allow(j, path, rules));
    LK_TRY(lk_config_count(j, "hidden_size", path, dflt.hidden, 1, 1 << 16, &t->hidden));
    LK_TRY(lk_config_count(j, "intermediate_size", path, dflt.intermediate, 1, 1 << 18, &t->intermediate));
    LK_TRY(lk_config_count(j, "num_hidden_layers", path, dflt.layers, 1, 256, &t->layers));
    LK_TRY(lk_config_count(j, "num_attention_heads", path, dflt.heads, 1, 1 << 12, &t->heads));
    LK_TRY(lk_config_divides(path, "hidden_size", t->hidden, "num_attention_heads", t->heads));
    LK_TRY(lk_config_act(j, "hidden_act", path, "quick_gelu", &t->act));
    return lk_json_real(j, "layer_norm_eps", path, 1e-5, &t->eps);
}

static lk_val attention(const lk_net *net, const lk_clip_tower *t, lk_val x) {
    int64_t d = t->hidden;
    lk_val q = lk_nn_linear(net, "q_proj", x, d, d, true), k = lk_nn_linear(net, "k_proj", x, d, d, true), v = lk_nn_linear(net, "v_proj", x, d, d, true);
    return lk_nn_linear(net, "out_proj", lk_sdpa(net->g, q, k, v, LK_NONE, (lk_sdpa_attr){ .heads = (int)t->heads, .causal = t->causal }), d, d, true);
}

static lk_val layer(const lk_net *net, const lk_clip_tower *t, lk_val x) {
    lk_graph *g = net->g;
    lk_net attn = lk_net_sub(net, "self_attn"), mlp = lk_net_sub(net, "mlp");
    x = lk_add(g, x, attention(&attn, t, lk_nn_layer_norm(net, "layer_norm1", x, t->hidden, t->eps, true)));
    lk_val h = lk_nn_linear(&mlp, "fc1", lk_nn_layer_norm(net, "layer_norm2", x, t->hidden, t->eps, true), t->hidden, t->intermediate, true);
    return lk_add(g, x, lk_nn_linear(&mlp, "fc2", lk_activate(g, h, t->act), t->intermediate, t->hidden, true));
}

lk_val lk_clip_encoder(const lk_net *net, const lk_clip_tower *t, lk_val x, const lk_val **states) {
    lk_val *state = lk_alloc(lk_graph_arena(net->g), (size_t)(t->layers + 1) * sizeof *state);
    state[0] = x;
    for (int64_t i = 0; i < t->layers; i++) {
        lk_net sub = lk_net_sub(net, "layers.%lld", (long long)i);
        state[i + 1] = layer(&sub, t, state[i]);
    }
    *states = state;
    return state[t->layers];
}

static lk_err read_config(const json_t *j, const char *path, bool project, lk_clip_text_config *c) {
    lk_clip_tower t;
    LK_TRY(lk_clip_tower_read(j, path, (lk_clip_tower){ .hidden = 512, .intermediate = 2048, .layers = 12, .heads = 8 }, &t));
    *c = (lk_clip_text_config){ .hidden = t.hidden, .intermediate = t.intermediate, .layers = t.layers, .heads = t.heads, .eps = t.eps, .act = t.act,
                                .project = project, .scope = "text_model" };
    LK_TRY(lk_config_count(j, "vocab_size", path, 49408, 1, 1 << 28, &c->vocab));
    LK_TRY(lk_config_count(j, "max_position_embeddings", path, 77, 1, 1 << 20, &c->positions));
    LK_TRY(lk_config_count(j, "projection_dim", path, 512, 1, 1 << 16, &c->projection));
    return lk_json_int(j, "eos_token_id", path, 49407, &c->eos_token_id);
}

lk_err lk_clip_text_config_load(const char *path, lk_clip_text_config *c) {
    json_t *j;
    const char *cls;
    LK_TRY(lk_config_open(path, (const char *[]){ "CLIPTextModel", "CLIPTextModelWithProjection", "CLIPModel", NULL }, NULL, &j));
    const json_t *text = json_object_get(j, "text_config");
    lk_err err = lk_model_class(path, &cls);
    if (!err) err = read_config(json_is_object(text) ? text : j, path, strcmp(cls, "CLIPTextModel") != 0, c);
    if (!err && json_is_object(text)) err = lk_config_count(j, "projection_dim", path, c->projection, 1, 1 << 16, &c->projection);
    json_decref(j);
    return err;
}

lk_encoder_out lk_clip_text(const lk_net *root, const lk_clip_text_config *c, lk_val ids, lk_val pool_index) {
    lk_graph *g = root->g;
    lk_net net = lk_net_sub(root, "%s", c->scope), embeddings = lk_net_sub(&net, "embeddings"), encoder = lk_net_sub(&net, "encoder");
    lk_clip_tower tower = { c->hidden, c->intermediate, c->layers, c->heads, c->eps, c->act, true };
    int64_t batch = lk_dim(g, ids, 0), length = lk_dim(g, ids, 1);
    lk_encoder_out out = { .pooled = LK_NONE, .embeds = LK_NONE, .n_hidden = (int)c->layers + 1 };
    if (length > c->positions)
        lk_graph_fail(g, LK_EINPUT, "CLIP text: %lld tokens; the model has %lld positions", (long long)length, (long long)c->positions);
    lk_val positions = lk_nn_param(&embeddings, "position_embedding.weight", LK_SHAPE(c->positions, c->hidden));
    if (length < c->positions) positions = lk_slice(g, positions, 0, 0, length);
    lk_val x = lk_add(g, lk_nn_embedding(&embeddings, "token_embedding", ids, c->vocab, c->hidden), positions);
    x = lk_clip_encoder(&encoder, &tower, x, &out.hidden);
    out.last_hidden_state = lk_nn_layer_norm(&net, "final_layer_norm", x, c->hidden, c->eps, true);
    if (lk_ok(pool_index)) out.pooled = lk_gather_rows(g, lk_reshape(g, out.last_hidden_state, LK_SHAPE(batch * length, c->hidden)), pool_index);
    if (c->project && lk_ok(pool_index)) out.embeds = lk_nn_linear(root, "text_projection", out.pooled, c->hidden, c->projection, false);
    return out;
}

void lk_clip_pool_index(const lk_clip_text_config *c, const int64_t *ids, int64_t batch, int64_t length, int64_t *index) {
    bool largest = c->eos_token_id == 2;         /* configs written before the true end token was stored */
    for (int64_t b = 0; b < batch; b++) {
        const int64_t *row = ids + b * length;
        int64_t at = 0;
        if (largest) { for (int64_t t = 1; t < length; t++) if (row[t] > row[at]) at = t; }
        else { while (at < length && row[at] != c->eos_token_id) at++; if (at == length) at = 0; }
        index[b] = b * length + at;
    }
}
