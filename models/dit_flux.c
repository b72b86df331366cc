/* FluxTransformer2DModel (Black Forest Labs' FLUX.1). Everything runs over [text | image]; rotary positions of three axes, interleaved pairs,
 * after the heads' RMS norms. Double blocks keep two streams, single blocks one with attention and feed-forward in parallel. */
#include "models/dit.h"
#include <string.h>

static const lk_config_rule rules[] = {
    { "patch_size", "1" }, { "in_channels" }, { "out_channels" }, { "num_layers" }, { "num_single_layers" }, { "attention_head_dim" },
    { "num_attention_heads" }, { "joint_attention_dim" }, { "pooled_projection_dim" }, { "guidance_embeds" }, { "axes_dims_rope" }, { NULL } };

static lk_err read_axes(const json_t *j, const char *path, const int64_t *dflt, lk_dit_config *c) {
    int64_t dims[3];
    memcpy(dims, dflt, sizeof dims);
    if (json_object_get(j, "axes_dims_rope")) LK_TRY(lk_config_counts(j, "axes_dims_rope", path, 16, 3, 2, 1 << 12, dims));
    c->axes = 3;
    for (int i = 0; i < 3; i++) c->axes_dims[i] = (int)dims[i];
    if (dims[0] + dims[1] + dims[2] != c->head_dim)
        return lk_error(LK_EINPUT, "%s: axes_dims_rope sum to %lld; attention_head_dim is %lld", path, (long long)(dims[0] + dims[1] + dims[2]), (long long)c->head_dim);
    return LK_OK;
}

static lk_err read_config(const json_t *j, const char *path, lk_dit_config *c) {
    c->patch = 1;
    c->rms_qk = true;
    LK_TRY(lk_config_count(j, "in_channels", path, 64, 1, 1 << 12, &c->in_channels));
    LK_TRY(lk_config_count(j, "out_channels", path, c->in_channels, 1, 1 << 12, &c->out_channels));
    LK_TRY(lk_config_count(j, "num_layers", path, 19, 0, 256, &c->layers));
    LK_TRY(lk_config_count(j, "num_single_layers", path, 38, 0, 256, &c->single_layers));
    LK_TRY(lk_config_count(j, "attention_head_dim", path, 128, 1, 1 << 12, &c->head_dim));
    LK_TRY(lk_config_count(j, "num_attention_heads", path, 24, 1, 1 << 12, &c->heads));
    LK_TRY(lk_config_count(j, "joint_attention_dim", path, 4096, 1, 1 << 16, &c->joint_dim));
    LK_TRY(lk_config_count(j, "pooled_projection_dim", path, 768, 1, 1 << 16, &c->pooled_dim));
    LK_TRY(lk_json_bool(j, "guidance_embeds", path, false, &c->guidance));
    return read_axes(j, path, (const int64_t[]){ 16, 56, 56 }, c);
}

lk_err lk_flux_config_load(const char *path, lk_dit_config *c) {
    json_t *j;
    memset(c, 0, sizeof *c);
    LK_TRY(lk_config_open(path, (const char *[]){ "FluxTransformer2DModel", NULL }, rules, &j));
    lk_err err = read_config(j, path, c);
    json_decref(j);
    return err;
}

typedef struct { lk_val cos, sin; } rotary;
typedef struct { lk_val x, text; } streams;

static rotary rotary_table(lk_graph *g, const lk_dit_config *c, lk_val txt_ids, lk_val img_ids) {
    lk_rtable r = { .n = c->axes, .theta = 10000 };
    memcpy(r.dims, c->axes_dims, sizeof r.dims);
    lk_val table = lk_rope_table(g, lk_concat(g, (lk_val[]){ txt_ids, img_ids }, 2, 0), r);
    lk_shape s = lk_shape_of(g, table);
    if (s.rank != 3) return (rotary){ LK_NONE, LK_NONE };
    lk_shape half = LK_SHAPE(s.d[1], s.d[2]);
    return (rotary){ lk_reshape(g, lk_slice(g, table, 0, 0, 1), half), lk_reshape(g, lk_slice(g, table, 0, 1, 2), half) };
}

static lk_val attend(lk_graph *g, const lk_dit_config *c, lk_qkv a, rotary r) {
    int heads = (int)c->heads;
    return lk_sdpa(g, lk_rope(g, a.q, r.cos, r.sin, heads), lk_rope(g, a.k, r.cos, r.sin, heads), a.v, LK_NONE, (lk_sdpa_attr){ .heads = heads });
}

static streams double_block(const lk_net *net, const lk_dit_config *c, streams s, lk_val temb, rotary r) {
    lk_graph *g = net->g;
    int64_t dim = c->heads * c->head_dim, n = lk_dim(g, s.x, 1), t = lk_dim(g, s.text, 1);
    lk_net attn = lk_net_sub(net, "attn"), ff = lk_net_sub(net, "ff"), ff_text = lk_net_sub(net, "ff_context");
    lk_val m[6], k[6];
    lk_dit_chunks(net, "norm1.linear", temb, dim, 6, m);
    lk_dit_chunks(net, "norm1_context.linear", temb, dim, 6, k);
    lk_qkv image = lk_dit_qkv(&attn, &lk_dit_image_names, lk_dit_norm(g, s.x, m[0], m[1]), dim, c->heads, c->head_dim, true);
    lk_qkv text = lk_dit_qkv(&attn, &lk_dit_text_names, lk_dit_norm(g, s.text, k[0], k[1]), dim, c->heads, c->head_dim, true);
    lk_val y = attend(g, c, lk_dit_join(g, text, image), r);
    lk_val x = lk_dit_gate(g, s.x, m[2], lk_nn_linear(&attn, "to_out.0", lk_slice(g, y, 1, t, t + n), dim, dim, true));
    x = lk_dit_gate(g, x, m[5], lk_dit_mlp(&ff, lk_dit_norm(g, x, m[3], m[4]), dim));
    lk_val z = lk_dit_gate(g, s.text, k[2], lk_nn_linear(&attn, "to_add_out", lk_slice(g, y, 1, 0, t), dim, dim, true));
    return (streams){ x, lk_dit_gate(g, z, k[5], lk_dit_mlp(&ff_text, lk_dit_norm(g, z, k[3], k[4]), dim)) };
}

static lk_val single_block(const lk_net *net, const lk_dit_config *c, lk_val x, lk_val temb, rotary r) {
    lk_graph *g = net->g;
    int64_t dim = c->heads * c->head_dim;
    lk_net attn = lk_net_sub(net, "attn");
    lk_val m[3];
    lk_dit_chunks(net, "norm.linear", temb, dim, 3, m);
    lk_val h = lk_dit_norm(g, x, m[0], m[1]);
    lk_val mlp = lk_gelu_tanh(g, lk_nn_linear(net, "proj_mlp", h, dim, 4 * dim, true));
    lk_val y = attend(g, c, lk_dit_qkv(&attn, &lk_dit_image_names, h, dim, c->heads, c->head_dim, true), r);
    return lk_dit_gate(g, x, m[2], lk_nn_linear(net, "proj_out", lk_concat(g, (lk_val[]){ y, mlp }, 2, 2), 5 * dim, dim, true));
}

static lk_val conditioning(const lk_net *net, const lk_dit_config *c, lk_val pooled, lk_val timestep, lk_val guidance) {
    lk_graph *g = net->g;
    int64_t dim = c->heads * c->head_dim;
    lk_net time = lk_net_sub(net, "time_text_embed");
    lk_val temb = lk_dit_time(&time, "timestep_embedder", timestep, 1000, dim);
    if (c->guidance != lk_ok(guidance))
        lk_graph_fail(g, LK_EINPUT, "FLUX: guidance %s, but the config's guidance_embeds is %s", lk_ok(guidance) ? "was given" : "is missing", c->guidance ? "true" : "false");
    if (c->guidance) temb = lk_add(g, temb, lk_dit_time(&time, "guidance_embedder", guidance, 1000, dim));
    return lk_add(g, temb, lk_dit_text(&time, "text_embedder", pooled, c->pooled_dim, dim));
}

lk_val lk_flux_transformer(const lk_net *net, const lk_dit_config *c, lk_val tokens, lk_val context, lk_val pooled, lk_val timestep,
                           lk_val img_ids, lk_val txt_ids, lk_val guidance) {
    lk_graph *g = net->g;
    int64_t dim = c->heads * c->head_dim;
    lk_val temb = conditioning(net, c, pooled, timestep, guidance);
    rotary r = rotary_table(g, c, txt_ids, img_ids);
    streams s = { lk_nn_linear(net, "x_embedder", tokens, c->in_channels, dim, true), lk_nn_linear(net, "context_embedder", context, c->joint_dim, dim, true) };
    for (int64_t i = 0; i < c->layers; i++) {
        lk_net sub = lk_net_sub(net, "transformer_blocks.%lld", (long long)i);
        s = double_block(&sub, c, s, temb, r);
    }
    int64_t text = lk_dim(g, s.text, 1), image = lk_dim(g, s.x, 1);
    lk_val x = c->single_layers ? lk_concat(g, (lk_val[]){ s.text, s.x }, 2, 1) : s.x;
    for (int64_t i = 0; i < c->single_layers; i++) {
        lk_net sub = lk_net_sub(net, "single_transformer_blocks.%lld", (long long)i);
        x = single_block(&sub, c, x, temb, r);
    }
    if (c->single_layers) x = lk_slice(g, x, 1, text, text + image);
    return lk_nn_linear(net, "proj_out", lk_dit_norm_out(net, "norm_out.linear", x, temb, dim), dim, c->out_channels, true);
}
