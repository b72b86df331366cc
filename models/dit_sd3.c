/* SD3Transformer2DModel (Esser et al. 2024, arXiv:2403.03206), SD 3 and 3.5. Joint attention runs over [image | text]. The last block's text side
 * ends with attention (context_pre_only). Blocks of dual_attention_layers have a second attention of the image alone. */
#include "models/blocks.h"
#include "models/dit.h"
#include <string.h>

static const lk_config_rule rules[] = {
    { "sample_size" }, { "patch_size" }, { "in_channels" }, { "out_channels" }, { "num_layers" }, { "attention_head_dim" }, { "num_attention_heads" },
    { "joint_attention_dim" }, { "caption_projection_dim" }, { "pooled_projection_dim" }, { "pos_embed_max_size" }, { "dual_attention_layers" },
    { "qk_norm", "null|\"rms_norm\"" }, { NULL } };

static lk_err read_dual(const json_t *j, const char *path, lk_dit_config *c) {
    const json_t *list = json_object_get(j, "dual_attention_layers");
    for (size_t i = 0; i < json_array_size(list); i++) {
        json_int_t layer = json_integer_value(json_array_get(list, i));
        if (layer < 0 || layer >= c->layers) return lk_error(LK_EINPUT, "%s: dual_attention_layers names block %lld of %lld", path, (long long)layer, (long long)c->layers);
        c->dual[layer] = true;
    }
    return LK_OK;
}

static lk_err read_config(const json_t *j, const char *path, lk_dit_config *c) {
    LK_TRY(lk_config_count(j, "sample_size", path, 128, 1, 1 << 16, &c->sample_size));
    LK_TRY(lk_config_count(j, "patch_size", path, 2, 1, 64, &c->patch));
    LK_TRY(lk_config_count(j, "in_channels", path, 16, 1, 1 << 12, &c->in_channels));
    LK_TRY(lk_config_count(j, "out_channels", path, c->in_channels, 1, 1 << 12, &c->out_channels));
    LK_TRY(lk_config_count(j, "num_layers", path, 18, 1, 256, &c->layers));
    LK_TRY(lk_config_count(j, "attention_head_dim", path, 64, 1, 1 << 12, &c->head_dim));
    LK_TRY(lk_config_count(j, "num_attention_heads", path, 18, 1, 1 << 12, &c->heads));
    LK_TRY(lk_config_count(j, "joint_attention_dim", path, 4096, 1, 1 << 16, &c->joint_dim));
    LK_TRY(lk_config_count(j, "caption_projection_dim", path, 1152, 1, 1 << 16, &c->caption_dim));
    LK_TRY(lk_config_count(j, "pooled_projection_dim", path, 2048, 1, 1 << 16, &c->pooled_dim));
    LK_TRY(lk_config_count(j, "pos_embed_max_size", path, 96, 1, 1 << 12, &c->pos_embed_max));
    c->rms_qk = json_is_string(json_object_get(j, "qk_norm"));
    if (c->caption_dim != c->heads * c->head_dim)
        return lk_error(LK_EINPUT, "%s: caption_projection_dim %lld differs from the width %lld", path, (long long)c->caption_dim, (long long)(c->heads * c->head_dim));
    return read_dual(j, path, c);
}

lk_err lk_sd3_config_load(const char *path, lk_dit_config *c) {
    json_t *j;
    memset(c, 0, sizeof *c);
    LK_TRY(lk_config_open(path, (const char *[]){ "SD3Transformer2DModel", NULL }, rules, &j));
    lk_err err = read_config(j, path, c);
    json_decref(j);
    return err;
}

/* Patches plus the middle of the stored position table, which is fixed: it is never trained. */
static lk_val embed_patches(const lk_net *net, const lk_dit_config *c, lk_val latent, int64_t h, int64_t w) {
    lk_graph *g = net->g;
    int64_t dim = c->heads * c->head_dim, max = c->pos_embed_max, top = (max - h) / 2, left = (max - w) / 2;
    int p = (int)c->patch;
    if (h > max || w > max) {
        lk_graph_fail(g, LK_ESHAPE, "SD3: %lld x %lld patches; the position table holds %lld x %lld", (long long)h, (long long)w, (long long)max, (long long)max);
        return LK_NONE;
    }
    lk_val x = lk_tokens_of(g, lk_nn_conv2d(net, "proj", latent, c->in_channels, dim, p, p, 0, true));
    lk_val table = lk_reshape(g, lk_detach(g, lk_nn_param(net, "pos_embed", LK_SHAPE(1, max * max, dim))), LK_SHAPE(max, max, dim));
    table = lk_slice_nd(g, table, (lk_window){ .lo = { top, left, 0 }, .hi = { top + h, left + w, dim } });
    return lk_add(g, x, lk_reshape(g, table, LK_SHAPE(h * w, dim)));
}

typedef struct { lk_val x, text; } streams;

static lk_val self_attention(const lk_net *net, const lk_dit_config *c, lk_val x) {
    int64_t dim = c->heads * c->head_dim;
    lk_qkv a = lk_dit_qkv(net, &lk_dit_image_names, x, dim, c->heads, c->head_dim, c->rms_qk);
    return lk_nn_linear(net, "to_out.0", lk_sdpa(net->g, a.q, a.k, a.v, LK_NONE, (lk_sdpa_attr){ .heads = (int)c->heads }), dim, dim, true);
}

static streams joint_attention(const lk_net *net, const lk_dit_config *c, lk_val x, lk_val text, bool last) {
    lk_graph *g = net->g;
    int64_t dim = c->heads * c->head_dim, n = lk_dim(g, x, 1), m = lk_dim(g, text, 1);
    lk_qkv a = lk_dit_join(g, lk_dit_qkv(net, &lk_dit_image_names, x, dim, c->heads, c->head_dim, c->rms_qk),
                           lk_dit_qkv(net, &lk_dit_text_names, text, dim, c->heads, c->head_dim, c->rms_qk));
    lk_val y = lk_sdpa(g, a.q, a.k, a.v, LK_NONE, (lk_sdpa_attr){ .heads = (int)c->heads });
    streams out = { lk_nn_linear(net, "to_out.0", lk_slice(g, y, 1, 0, n), dim, dim, true), LK_NONE };
    if (!last) out.text = lk_nn_linear(net, "to_add_out", lk_slice(g, y, 1, n, n + m), dim, dim, true);
    return out;
}

/* Chunks: shift, scale, gate of attention; shift, scale, gate of the feed-forward; dual: shift, scale, gate of the second attention. */
static streams block(const lk_net *net, const lk_dit_config *c, streams s, lk_val temb, int64_t i) {
    lk_graph *g = net->g;
    int64_t dim = c->heads * c->head_dim;
    bool last = i == c->layers - 1;
    lk_net attn = lk_net_sub(net, "attn"), attn2 = lk_net_sub(net, "attn2"), ff = lk_net_sub(net, "ff"), ff_text = lk_net_sub(net, "ff_context");
    lk_val m[9], t[6];
    lk_dit_chunks(net, "norm1.linear", temb, dim, c->dual[i] ? 9 : 6, m);
    lk_val text_in;
    if (last) text_in = lk_dit_norm_out(net, "norm1_context.linear", s.text, temb, dim);
    else { lk_dit_chunks(net, "norm1_context.linear", temb, dim, 6, t); text_in = lk_dit_norm(g, s.text, t[0], t[1]); }
    streams y = joint_attention(&attn, c, lk_dit_norm(g, s.x, m[0], m[1]), text_in, last);
    lk_val x = lk_dit_gate(g, s.x, m[2], y.x);
    if (c->dual[i]) x = lk_dit_gate(g, x, m[8], self_attention(&attn2, c, lk_dit_norm(g, s.x, m[6], m[7])));
    x = lk_dit_gate(g, x, m[5], lk_dit_mlp(&ff, lk_dit_norm(g, x, m[3], m[4]), dim));
    if (last) return (streams){ x, LK_NONE };
    lk_val text = lk_dit_gate(g, s.text, t[2], y.text);
    return (streams){ x, lk_dit_gate(g, text, t[5], lk_dit_mlp(&ff_text, lk_dit_norm(g, text, t[3], t[4]), dim)) };
}

/* [B, h*w, p*p*C] -> [B, C, h*p, w*p] */
static lk_val unpatchify(lk_graph *g, lk_val x, int64_t h, int64_t w, int64_t p, int64_t channels) {
    int64_t batch = lk_dim(g, x, 0);
    x = lk_permute(g, lk_reshape(g, x, LK_SHAPE(batch, h, w, p, p, channels)), (int[]){ 0, 5, 1, 3, 2, 4 });
    return lk_reshape(g, x, LK_SHAPE(batch, channels, h * p, w * p));
}

lk_val lk_sd3_transformer(const lk_net *net, const lk_dit_config *c, lk_val latent, lk_val context, lk_val pooled, lk_val timestep) {
    lk_graph *g = net->g;
    int64_t dim = c->heads * c->head_dim, h = lk_dim(g, latent, 2) / c->patch, w = lk_dim(g, latent, 3) / c->patch;
    lk_net pos = lk_net_sub(net, "pos_embed"), time = lk_net_sub(net, "time_text_embed");
    lk_val temb = lk_add(g, lk_dit_time(&time, "timestep_embedder", timestep, 1, dim), lk_dit_text(&time, "text_embedder", pooled, c->pooled_dim, dim));
    streams s = { embed_patches(&pos, c, latent, h, w), lk_nn_linear(net, "context_embedder", context, c->joint_dim, dim, true) };
    for (int64_t i = 0; i < c->layers; i++) {
        lk_net sub = lk_net_sub(net, "transformer_blocks.%lld", (long long)i);
        s = block(&sub, c, s, temb, i);
    }
    lk_val y = lk_nn_linear(net, "proj_out", lk_dit_norm_out(net, "norm_out.linear", s.x, temb, dim), dim, c->patch * c->patch * c->out_channels, true);
    return unpatchify(g, y, h, w, c->patch, c->out_channels);
}
