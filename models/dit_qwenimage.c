/* QwenImageTransformer2DModel (Qwen-Image, arXiv:2508.02324). Everything runs over [text | image]. Image positions are centred, the frame axis counts
 * images and their frames; text positions go on from the largest half side, the same on every axis. A mask hides padding text as keys. */
#include "models/dit.h"
#include <stdlib.h>
#include <string.h>

static const lk_config_rule rules[] = {
    { "patch_size" }, { "in_channels" }, { "out_channels" }, { "num_layers" }, { "attention_head_dim" }, { "num_attention_heads" }, { "joint_attention_dim" },
    { "axes_dims_rope" }, { "pooled_projection_dim" }, { "guidance_embeds", "false|null" }, { "zero_cond_t", "false|null" }, { "use_additional_t_cond", "false|null" },
    { "use_layer3d_rope", "false|null" }, { NULL } };

static lk_err read_config(const json_t *j, const char *path, lk_dit_config *c) {
    int64_t dims[3] = { 16, 56, 56 };
    c->rms_qk = true;
    LK_TRY(lk_config_count(j, "patch_size", path, 2, 1, 64, &c->patch));
    LK_TRY(lk_config_count(j, "in_channels", path, 64, 1, 1 << 12, &c->in_channels));
    LK_TRY(lk_config_count(j, "out_channels", path, c->in_channels, 1, 1 << 12, &c->out_channels));
    LK_TRY(lk_config_count(j, "num_layers", path, 60, 1, 256, &c->layers));
    LK_TRY(lk_config_count(j, "attention_head_dim", path, 128, 1, 1 << 12, &c->head_dim));
    LK_TRY(lk_config_count(j, "num_attention_heads", path, 24, 1, 1 << 12, &c->heads));
    LK_TRY(lk_config_count(j, "joint_attention_dim", path, 3584, 1, 1 << 16, &c->joint_dim));
    if (json_object_get(j, "axes_dims_rope")) LK_TRY(lk_config_counts(j, "axes_dims_rope", path, 16, 3, 2, 1 << 12, dims));
    c->axes = 3;
    for (int i = 0; i < 3; i++) c->axes_dims[i] = (int)dims[i];
    if (dims[0] + dims[1] + dims[2] != c->head_dim)
        return lk_error(LK_EINPUT, "%s: axes_dims_rope sum to %lld; attention_head_dim is %lld", path, (long long)(dims[0] + dims[1] + dims[2]), (long long)c->head_dim);
    return LK_OK;
}

lk_err lk_qwenimage_config_load(const char *path, lk_dit_config *c) {
    json_t *j;
    memset(c, 0, sizeof *c);
    LK_TRY(lk_config_open(path, (const char *[]){ "QwenImageTransformer2DModel", NULL }, rules, &j));
    lk_err err = read_config(j, path, c);
    json_decref(j);
    return err;
}

typedef struct { lk_val cos, sin; } rotary;
typedef struct { lk_val x, text; } streams;

static int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

/* Positions [text + image, 3] as floats; NULL if the shapes do not add up to the image tokens. */
static float *positions(int64_t text, int64_t image, const int64_t (*shapes)[3], int n) {
    float *ids = lk_xcalloc((size_t)(text + image) * 3 + 1, sizeof *ids), *p = ids + 3 * text;
    int64_t start = 0, left = image;
    for (int k = 0; k < n; k++) {
        int64_t frames = shapes[k][0], h = shapes[k][1], w = shapes[k][2];
        start = larger(start, larger(h / 2, w / 2));
        left -= frames * h * w;
        if (left < 0) break;
        for (int64_t f = 0; f < frames; f++)
            for (int64_t y = 0; y < h; y++)
                for (int64_t x = 0; x < w; x++, p += 3) { p[0] = (float)(k + f); p[1] = (float)(y - (h - h / 2)); p[2] = (float)(x - (w - w / 2)); }
    }
    for (int64_t i = 0; i < text; i++) ids[3 * i] = ids[3 * i + 1] = ids[3 * i + 2] = (float)(start + i);
    if (left) { free(ids); return NULL; }
    return ids;
}

static rotary rotary_table(lk_graph *g, const lk_dit_config *c, int64_t text, int64_t image, const int64_t (*shapes)[3], int n) {
    float *ids = positions(text, image, shapes, n);
    if (!ids) {
        lk_graph_fail(g, LK_ESHAPE, "Qwen-Image: img_shapes do not add up to the %lld image tokens", (long long)image);
        return (rotary){ LK_NONE, LK_NONE };
    }
    lk_rtable r = { .n = c->axes, .theta = 10000 };
    memcpy(r.dims, c->axes_dims, sizeof r.dims);
    lk_val table = lk_rope_table(g, lk_const(g, LK_F32, LK_SHAPE(text + image, 3), ids), r);
    free(ids);
    lk_shape half = LK_SHAPE(text + image, c->head_dim / 2);
    return (rotary){ lk_reshape(g, lk_slice(g, table, 0, 0, 1), half), lk_reshape(g, lk_slice(g, table, 0, 1, 2), half) };
}

/* 0 where a key may be seen, -inf where the mask is 0; [B, 1, 1, text + image]. */
static lk_val key_bias(lk_graph *g, lk_val mask, int64_t image) {
    if (!lk_ok(mask)) return LK_NONE;
    int64_t batch = lk_dim(g, mask, 0), text = lk_dim(g, mask, 1);
    lk_val seen = lk_concat(g, (lk_val[]){ mask, lk_ones(g, LK_SHAPE(batch, image)) }, 2, 1);
    lk_val bias = lk_where(g, seen, lk_scalar(g, 0), lk_scalar(g, -__builtin_inf()));
    return lk_reshape(g, bias, LK_SHAPE(batch, 1, 1, text + image));
}

static streams block(const lk_net *net, const lk_dit_config *c, streams s, lk_val temb, rotary r, lk_val bias) {
    lk_graph *g = net->g;
    int heads = (int)c->heads;
    int64_t dim = c->heads * c->head_dim, n = lk_dim(g, s.x, 1), t = lk_dim(g, s.text, 1);
    lk_net attn = lk_net_sub(net, "attn"), image_mlp = lk_net_sub(net, "img_mlp"), text_mlp = lk_net_sub(net, "txt_mlp");
    lk_val m[6], k[6];
    lk_dit_chunks(net, "img_mod.1", temb, dim, 6, m);
    lk_dit_chunks(net, "txt_mod.1", temb, dim, 6, k);
    lk_qkv image = lk_dit_qkv(&attn, &lk_dit_image_names, lk_dit_norm(g, s.x, m[0], m[1]), dim, c->heads, c->head_dim, true);
    lk_qkv text = lk_dit_qkv(&attn, &lk_dit_text_names, lk_dit_norm(g, s.text, k[0], k[1]), dim, c->heads, c->head_dim, true);
    lk_qkv a = lk_dit_join(g, text, image);
    lk_val y = lk_sdpa(g, lk_rope(g, a.q, r.cos, r.sin, heads), lk_rope(g, a.k, r.cos, r.sin, heads), a.v, bias, (lk_sdpa_attr){ .heads = heads });
    lk_val x = lk_dit_gate(g, s.x, m[2], lk_nn_linear(&attn, "to_out.0", lk_slice(g, y, 1, t, t + n), dim, dim, true));
    x = lk_dit_gate(g, x, m[5], lk_dit_mlp(&image_mlp, lk_dit_norm(g, x, m[3], m[4]), dim));
    lk_val z = lk_dit_gate(g, s.text, k[2], lk_nn_linear(&attn, "to_add_out", lk_slice(g, y, 1, 0, t), dim, dim, true));
    return (streams){ x, lk_dit_gate(g, z, k[5], lk_dit_mlp(&text_mlp, lk_dit_norm(g, z, k[3], k[4]), dim)) };
}

lk_val lk_qwenimage_transformer(const lk_net *net, const lk_dit_config *c, lk_val tokens, lk_val context, lk_val mask, lk_val timestep,
                                const int64_t (*img_shapes)[3], int n) {
    lk_graph *g = net->g;
    int64_t dim = c->heads * c->head_dim, image = lk_dim(g, tokens, 1), text = lk_dim(g, context, 1);
    lk_net time = lk_net_sub(net, "time_text_embed");
    lk_val temb = lk_dit_time(&time, "timestep_embedder", timestep, 1000, dim);
    lk_val normed = lk_rms_norm(g, context, lk_nn_param(net, "txt_norm.weight", LK_SHAPE(c->joint_dim)), 1e-6);
    streams s = { lk_nn_linear(net, "img_in", tokens, c->in_channels, dim, true), lk_nn_linear(net, "txt_in", normed, c->joint_dim, dim, true) };
    rotary r = rotary_table(g, c, text, image, img_shapes, n);
    lk_val bias = key_bias(g, mask, image);
    for (int64_t i = 0; i < c->layers; i++) {
        lk_net sub = lk_net_sub(net, "transformer_blocks.%lld", (long long)i);
        s = block(&sub, c, s, temb, r, bias);
    }
    return lk_nn_linear(net, "proj_out", lk_dit_norm_out(net, "norm_out.linear", s.x, temb, dim), dim, c->patch * c->patch * c->out_channels, true);
}
