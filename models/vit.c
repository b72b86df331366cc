/* ViTModel (Dosovitskiy et al. 2021, arXiv:2010.11929), as DINO's checkpoints are stored (Caron et al. 2021). Pre-norm blocks, a class
 * token, pictures of the config's own size. The pooler, which DINO's users leave out, is not built. */
#include "models/blocks.h"
#include "models/config.h"
#include <stdlib.h>
#include <string.h>

static const lk_config_rule rules[] = { { "attention_probs_dropout_prob", "0|0.0" }, { "hidden_dropout_prob", "0|0.0" }, { NULL } };

static lk_err read_config(const json_t *j, const char *path, lk_vit_config *c) {
    LK_TRY(lk_config_allow(j, path, rules));
    LK_TRY(lk_config_count(j, "hidden_size", path, 768, 1, 1 << 16, &c->hidden));
    LK_TRY(lk_config_count(j, "intermediate_size", path, 3072, 1, 1 << 18, &c->mlp));
    LK_TRY(lk_config_count(j, "num_hidden_layers", path, 12, 1, 256, &c->layers));
    LK_TRY(lk_config_count(j, "num_attention_heads", path, 12, 1, 1 << 12, &c->heads));
    LK_TRY(lk_config_divides(path, "hidden_size", c->hidden, "num_attention_heads", c->heads));
    LK_TRY(lk_config_count(j, "num_channels", path, 3, 1, 1 << 12, &c->channels));
    LK_TRY(lk_config_count(j, "image_size", path, 224, 1, 1 << 14, &c->image));
    LK_TRY(lk_config_count(j, "patch_size", path, 16, 1, 1 << 14, &c->patch));
    LK_TRY(lk_json_real(j, "layer_norm_eps", path, 1e-12, &c->eps));
    LK_TRY(lk_json_bool(j, "qkv_bias", path, true, &c->qkv_bias));
    return lk_config_act(j, "hidden_act", path, "gelu", &c->act);
}
lk_err lk_vit_config_load(const char *path, lk_vit_config *c) {
    json_t *j;
    memset(c, 0, sizeof *c);
    LK_TRY(lk_config_open(path, (const char *[]){ "ViTModel", "ViTForImageClassification", NULL }, NULL, &j));
    lk_err err = read_config(j, path, c);
    json_decref(j);
    return err;
}

static lk_val layer(const lk_net *net, const lk_vit_config *c, lk_val x) {
    lk_graph *g = net->g;
    int64_t d = c->hidden;
    lk_net attn = lk_net_sub(net, "attention");
    lk_val h = lk_nn_layer_norm(net, "layernorm_before", x, d, c->eps, true);
    lk_val q = lk_nn_linear(&attn, "attention.query", h, d, d, c->qkv_bias), k = lk_nn_linear(&attn, "attention.key", h, d, d, c->qkv_bias);
    lk_val v = lk_nn_linear(&attn, "attention.value", h, d, d, c->qkv_bias);
    x = lk_add(g, lk_nn_linear(&attn, "output.dense", lk_sdpa(g, q, k, v, LK_NONE, (lk_sdpa_attr){ .heads = (int)c->heads }), d, d, true), x);
    h = lk_nn_layer_norm(net, "layernorm_after", x, d, c->eps, true);
    h = lk_activate(g, lk_nn_linear(net, "intermediate.dense", h, d, c->mlp, true), c->act);
    return lk_add(g, lk_nn_linear(net, "output.dense", h, c->mlp, d, true), x);
}
lk_encoder_out lk_vit(const lk_net *net, const lk_vit_config *c, lk_val pixels) {
    lk_graph *g = net->g;
    lk_net embeddings = lk_net_sub(net, "embeddings"), patch = lk_net_sub(&embeddings, "patch_embeddings");
    int64_t d = c->hidden, batch = lk_dim(g, pixels, 0), side = c->image / c->patch;
    lk_val *state = lk_alloc(lk_graph_arena(g), (size_t)(c->layers + 1) * sizeof *state);
    lk_encoder_out out = { .embeds = LK_NONE, .n_hidden = (int)c->layers + 1, .hidden = state };
    if (lk_dim(g, pixels, 2) != c->image || lk_dim(g, pixels, 3) != c->image)
        lk_graph_fail(g, LK_ESHAPE, "ViT: pixels of %lld x %lld; the config's image_size is %lld", (long long)lk_dim(g, pixels, 2), (long long)lk_dim(g, pixels, 3), (long long)c->image);
    lk_val x = lk_tokens_of(g, lk_nn_conv2d(&patch, "projection", pixels, c->channels, d, (int)c->patch, (int)c->patch, 0, true));
    x = lk_concat(g, (lk_val[]){ lk_broadcast(g, lk_nn_param(&embeddings, "cls_token", LK_SHAPE(1, 1, d)), LK_SHAPE(batch, 1, d)), x }, 2, 1);
    state[0] = lk_add(g, x, lk_nn_param(&embeddings, "position_embeddings", LK_SHAPE(1, 1 + side * side, d)));
    for (int64_t i = 0; i < c->layers; i++) {
        lk_net sub = lk_net_sub(net, "encoder.layer.%lld", (long long)i);
        state[i + 1] = layer(&sub, c, state[i]);
    }
    out.last_hidden_state = lk_nn_layer_norm(net, "layernorm", state[c->layers], d, c->eps, true);
    out.pooled = lk_reshape(g, lk_slice(g, out.last_hidden_state, 1, 0, 1), LK_SHAPE(batch, d));
    return out;
}
