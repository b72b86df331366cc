/* AutoencoderKL (Rombach et al. 2022; Kingma & Welling 2013 for the latent). GroupNorms have epsilon 1e-6, the mid block's attention
 * one head over h*w. The encoder halves with padding right and bottom only. Scaling and shift are the caller's. */
#include "models/blocks.h"
#include "models/config.h"
#include <string.h>

static const double eps = 1e-6;
const char *const lk_vae_without_encoder[] = { "encoder.", "quant_conv.", NULL };
const char *const lk_vae_without_decoder[] = { "decoder.", "post_quant_conv.", NULL };

static const lk_config_rule rules[] = {
    { "in_channels" }, { "out_channels" }, { "latent_channels" }, { "block_out_channels" }, { "down_block_types" }, { "up_block_types" },
    { "layers_per_block" }, { "norm_num_groups" }, { "scaling_factor" }, { "shift_factor" }, { "latents_mean" }, { "latents_std" },
    { "use_quant_conv" }, { "use_post_quant_conv" }, { "mid_block_add_attention" }, { "sample_size" }, { "force_upcast" },
    { "act_fn", "\"silu\"|\"swish\"" }, { NULL } };

static lk_err read_config(const json_t *j, const char *path, lk_vae_config *c) {
    int kinds[LK_MAX_LEVELS];
    int64_t groups;
    LK_TRY(lk_config_length(j, "block_out_channels", path, LK_MAX_LEVELS, &c->levels));
    LK_TRY(lk_config_counts(j, "block_out_channels", path, 64, c->levels, 1, 1 << 16, c->channels));
    LK_TRY(lk_config_words(j, "down_block_types", path, (const char *[]){ "DownEncoderBlock2D", NULL }, c->levels, kinds));
    LK_TRY(lk_config_words(j, "up_block_types", path, (const char *[]){ "UpDecoderBlock2D", NULL }, c->levels, kinds));
    LK_TRY(lk_config_count(j, "in_channels", path, 3, 1, 1 << 12, &c->in_channels));
    LK_TRY(lk_config_count(j, "out_channels", path, 3, 1, 1 << 12, &c->out_channels));
    LK_TRY(lk_config_count(j, "latent_channels", path, 4, 1, 1 << 12, &c->latent_channels));
    LK_TRY(lk_config_count(j, "layers_per_block", path, 1, 1, 16, &c->layers));
    LK_TRY(lk_config_count(j, "norm_num_groups", path, 32, 1, 1 << 12, &groups));
    c->groups = (int)groups;
    for (int i = 0; i < c->levels; i++) LK_TRY(lk_config_divides(path, "block_out_channels", c->channels[i], "norm_num_groups", groups));
    LK_TRY(lk_json_bool(j, "use_quant_conv", path, true, &c->quant_conv));
    LK_TRY(lk_json_bool(j, "use_post_quant_conv", path, true, &c->post_quant_conv));
    LK_TRY(lk_json_bool(j, "mid_block_add_attention", path, true, &c->mid_attn));
    LK_TRY(lk_json_real(j, "scaling_factor", path, 0.18215, &c->scaling_factor));
    return lk_json_real(j, "shift_factor", path, 0, &c->shift_factor);
}

lk_err lk_vae_config_load(const char *path, lk_vae_config *c) {
    json_t *j;
    memset(c, 0, sizeof *c);
    LK_TRY(lk_config_open(path, (const char *[]){ "AutoencoderKL", NULL }, rules, &j));
    lk_err err = read_config(j, path, c);
    json_decref(j);
    return err;
}

static lk_val resnet_at(const lk_net *block, const lk_vae_config *c, lk_val x, int64_t i, int64_t in, int64_t out) {
    lk_net net = lk_net_sub(block, "resnets.%lld", (long long)i);
    return lk_block_resnet(&net, x, LK_NONE, 0, in, out, c->groups, eps);
}

/* One head over all positions, residual. */
static lk_val attention(const lk_net *net, const lk_vae_config *c, lk_val x, int64_t dim) {
    lk_graph *g = net->g;
    lk_val t = lk_tokens_of(g, lk_nn_group_norm(net, "group_norm", x, dim, c->groups, eps, false));
    t = lk_block_attention(net, t, t, dim, dim, 1, true);
    return lk_add(g, lk_image_of(g, t, lk_dim(g, x, 2), lk_dim(g, x, 3)), x);
}

static lk_val mid_block(const lk_net *net, const lk_vae_config *c, lk_val x) {
    lk_net mid = lk_net_sub(net, "mid_block"), attn = lk_net_sub(&mid, "attentions.0");
    int64_t dim = c->channels[c->levels - 1];
    x = resnet_at(&mid, c, x, 0, dim, dim);
    if (c->mid_attn) x = attention(&attn, c, x, dim);
    return resnet_at(&mid, c, x, 1, dim, dim);
}

static lk_val down_block(const lk_net *net, const lk_vae_config *c, lk_val x, int level) {
    lk_net block = lk_net_sub(net, "down_blocks.%d", level), down = lk_net_sub(&block, "downsamplers.0");
    int64_t in = c->channels[level ? level - 1 : 0], out = c->channels[level];
    for (int64_t i = 0; i < c->layers; i++) x = resnet_at(&block, c, x, i, i ? out : in, out);
    return level < c->levels - 1 ? lk_block_downsample_bottom_right(&down, x, out) : x;
}

static lk_val up_block(const lk_net *net, const lk_vae_config *c, lk_val x, int i) {
    lk_net block = lk_net_sub(net, "up_blocks.%d", i), up = lk_net_sub(&block, "upsamplers.0");
    int level = c->levels - 1 - i;
    int64_t in = c->channels[i ? level + 1 : level], out = c->channels[level];
    for (int64_t j = 0; j <= c->layers; j++) x = resnet_at(&block, c, x, j, j ? out : in, out);
    return level ? lk_block_upsample(&up, x, out, 2 * lk_dim(net->g, x, 2), 2 * lk_dim(net->g, x, 3)) : x;
}

static lk_val head(const lk_net *net, const lk_vae_config *c, lk_val x, int64_t in, int64_t out) {
    return lk_nn_conv2d(net, "conv_out", lk_nn_group_norm(net, "conv_norm_out", x, in, c->groups, eps, true), in, out, 3, 1, 1, true);
}

lk_val lk_vae_encode(const lk_net *net, const lk_vae_config *c, lk_val image) {
    lk_net enc = lk_net_sub(net, "encoder");
    int64_t moments = 2 * c->latent_channels;
    lk_val x = lk_nn_conv2d(&enc, "conv_in", image, c->in_channels, c->channels[0], 3, 1, 1, true);
    for (int level = 0; level < c->levels; level++) x = down_block(&enc, c, x, level);
    x = head(&enc, c, mid_block(&enc, c, x), c->channels[c->levels - 1], moments);
    return c->quant_conv ? lk_nn_conv2d(net, "quant_conv", x, moments, moments, 1, 1, 0, true) : x;
}

lk_val lk_vae_decode(const lk_net *net, const lk_vae_config *c, lk_val latent) {
    lk_net dec = lk_net_sub(net, "decoder");
    lk_val x = c->post_quant_conv ? lk_nn_conv2d(net, "post_quant_conv", latent, c->latent_channels, c->latent_channels, 1, 1, 0, true) : latent;
    x = lk_nn_conv2d(&dec, "conv_in", x, c->latent_channels, c->channels[c->levels - 1], 3, 1, 1, true);
    x = mid_block(&dec, c, x);
    for (int i = 0; i < c->levels; i++) x = up_block(&dec, c, x, i);
    return head(&dec, c, x, c->channels[0], c->out_channels);
}

lk_val lk_vae_mean(lk_graph *g, lk_val moments) { return lk_slice(g, moments, 1, 0, lk_dim(g, moments, 1) / 2); }

lk_val lk_vae_logvar(lk_graph *g, lk_val moments) {
    int64_t channels = lk_dim(g, moments, 1);
    lk_val logvar = lk_slice(g, moments, 1, channels / 2, channels);
    return lk_min(g, lk_max(g, logvar, lk_scalar(g, -30)), lk_scalar(g, 20));
}

lk_val lk_vae_sample(lk_graph *g, lk_val moments, lk_val noise) {
    lk_val std = lk_exp(g, lk_scale(g, lk_vae_logvar(g, moments), 0.5));
    return lk_add(g, lk_vae_mean(g, moments), lk_mul(g, std, noise));
}
