/* Dinov2Model (Oquab et al. 2023, arXiv:2304.07193). For picture sizes other than the config's the table of patch positions is resampled
 * bicubically (a = -0.75, pixel centres, edges repeated, no antialiasing), which is two fixed matrices. mask_token exists and is unused. */
#include "models/blocks.h"
#include "models/config.h"
#include <string.h>

static const lk_config_rule rules[] = { { "attention_probs_dropout_prob", "0|0.0" }, { "hidden_dropout_prob", "0|0.0" }, { "drop_path_rate", "0|0.0" }, { NULL } };

static lk_err read_config(const json_t *j, const char *path, lk_dinov2_config *c) {
    int64_t ratio;
    LK_TRY(lk_config_allow(j, path, rules));
    LK_TRY(lk_config_count(j, "hidden_size", path, 768, 1, 1 << 16, &c->hidden));
    LK_TRY(lk_config_count(j, "num_hidden_layers", path, 12, 1, 256, &c->layers));
    LK_TRY(lk_config_count(j, "num_attention_heads", path, 12, 1, 1 << 12, &c->heads));
    LK_TRY(lk_config_divides(path, "hidden_size", c->hidden, "num_attention_heads", c->heads));
    LK_TRY(lk_config_count(j, "num_channels", path, 3, 1, 1 << 12, &c->channels));
    LK_TRY(lk_config_count(j, "image_size", path, 224, 1, 1 << 14, &c->image));
    LK_TRY(lk_config_count(j, "patch_size", path, 14, 1, 1 << 14, &c->patch));
    LK_TRY(lk_config_count(j, "mlp_ratio", path, 4, 1, 64, &ratio));
    LK_TRY(lk_json_real(j, "layer_norm_eps", path, 1e-6, &c->eps));
    LK_TRY(lk_json_bool(j, "use_swiglu_ffn", path, false, &c->swiglu));
    LK_TRY(lk_json_bool(j, "qkv_bias", path, true, &c->qkv_bias));
    LK_TRY(lk_json_bool(j, "use_mask_token", path, true, &c->mask_token));
    c->mlp = c->hidden * ratio;
    if (c->swiglu) c->mlp = (c->mlp * 2 / 3 + 7) / 8 * 8;
    return lk_config_act(j, "hidden_act", path, "gelu", &c->act);
}

lk_err lk_dinov2_config_load(const char *path, lk_dinov2_config *c) {
    json_t *j;
    memset(c, 0, sizeof *c);
    LK_TRY(lk_config_open(path, (const char *[]){ "Dinov2Model", NULL }, NULL, &j));
    lk_err err = read_config(j, path, c);
    json_decref(j);
    return err;
}

/* [1, 1 + side^2, D] -> [1, 1 + h w, D] */
static lk_val position_table(lk_graph *g, lk_val table, int64_t side, int64_t h, int64_t w, int64_t dim) {
    if (h == side && w == side) return table;
    lk_val grid = lk_image_of(g, lk_slice(g, table, 1, 1, 1 + side * side), side, side);
    grid = lk_resize(g, grid, (int)h, (int)w, LK_RESIZE_BICUBIC);
    return lk_concat(g, (lk_val[]){ lk_slice(g, table, 1, 0, 1), lk_reshape(g, lk_tokens_of(g, grid), LK_SHAPE(1, h * w, dim)) }, 2, 1);
}

static lk_val embed(const lk_net *net, const lk_dinov2_config *c, lk_val pixels) {
    lk_graph *g = net->g;
    int64_t d = c->hidden, batch = lk_dim(g, pixels, 0), side = c->image / c->patch, h = lk_dim(g, pixels, 2) / c->patch, w = lk_dim(g, pixels, 3) / c->patch;
    lk_val patches = lk_tokens_of(g, lk_nn_conv2d(net, "patch_embeddings.projection", pixels, c->channels, d, (int)c->patch, (int)c->patch, 0, true));
    lk_val cls = lk_broadcast(g, lk_nn_param(net, "cls_token", LK_SHAPE(1, 1, d)), LK_SHAPE(batch, 1, d));
    lk_val table = lk_nn_param(net, "position_embeddings", LK_SHAPE(1, 1 + side * side, d));
    if (c->mask_token) lk_nn_param(net, "mask_token", LK_SHAPE(1, d));
    return lk_add(g, lk_concat(g, (lk_val[]){ cls, patches }, 2, 1), position_table(g, table, side, h, w, d));
}

static lk_val feed_forward(const lk_net *net, const lk_dinov2_config *c, lk_val x) {
    int64_t d = c->hidden;
    if (c->swiglu) return lk_nn_linear(net, "weights_out", lk_swiglu(net->g, lk_nn_linear(net, "weights_in", x, d, 2 * c->mlp, true)), c->mlp, d, true);
    return lk_nn_linear(net, "fc2", lk_activate(net->g, lk_nn_linear(net, "fc1", x, d, c->mlp, true), c->act), c->mlp, d, true);
}

static lk_val layer(const lk_net *net, const lk_dinov2_config *c, lk_val x) {
    lk_graph *g = net->g;
    int64_t d = c->hidden;
    lk_net attn = lk_net_sub(net, "attention"), mlp = lk_net_sub(net, "mlp");
    lk_val h = lk_nn_layer_norm(net, "norm1", x, d, c->eps, true);
    lk_val q = lk_nn_linear(&attn, "attention.query", h, d, d, c->qkv_bias), k = lk_nn_linear(&attn, "attention.key", h, d, d, c->qkv_bias);
    lk_val v = lk_nn_linear(&attn, "attention.value", h, d, d, c->qkv_bias);
    lk_val y = lk_nn_linear(&attn, "output.dense", lk_sdpa(g, q, k, v, LK_NONE, (lk_sdpa_attr){ .heads = (int)c->heads }), d, d, true);
    x = lk_add(g, lk_mul(g, y, lk_nn_param(net, "layer_scale1.lambda1", LK_SHAPE(d))), x);
    y = feed_forward(&mlp, c, lk_nn_layer_norm(net, "norm2", x, d, c->eps, true));
    return lk_add(g, lk_mul(g, y, lk_nn_param(net, "layer_scale2.lambda1", LK_SHAPE(d))), x);
}

lk_encoder_out lk_dinov2(const lk_net *net, const lk_dinov2_config *c, lk_val pixels) {
    lk_graph *g = net->g;
    lk_net embeddings = lk_net_sub(net, "embeddings");
    lk_val *state = lk_alloc(lk_graph_arena(g), (size_t)(c->layers + 1) * sizeof *state);
    lk_encoder_out out = { .embeds = LK_NONE, .n_hidden = (int)c->layers + 1, .hidden = state };
    if (lk_dim(g, pixels, 2) % c->patch || lk_dim(g, pixels, 3) % c->patch || lk_dim(g, pixels, 2) < c->patch || lk_dim(g, pixels, 3) < c->patch)
        lk_graph_fail(g, LK_ESHAPE, "DINOv2: pixels of %lld x %lld; multiples of the patch size %lld are needed", (long long)lk_dim(g, pixels, 2), (long long)lk_dim(g, pixels, 3), (long long)c->patch);
    state[0] = embed(&embeddings, c, pixels);
    for (int64_t i = 0; i < c->layers; i++) {
        lk_net sub = lk_net_sub(net, "encoder.layer.%lld", (long long)i);
        state[i + 1] = layer(&sub, c, state[i]);
    }
    out.last_hidden_state = lk_nn_layer_norm(net, "layernorm", state[c->layers], c->hidden, c->eps, true);
    out.pooled = lk_reshape(g, lk_slice(g, out.last_hidden_state, 1, 0, 1), LK_SHAPE(lk_dim(g, pixels, 0), c->hidden));
    return out;
}
