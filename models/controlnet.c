/* ControlNetModel (Zhang et al. 2023, arXiv:2302.05543): the UNet's down half and mid block on sample + embedded condition, each skip
 * through a 1x1 convolution that starts at zero in training. */
#include "models/blocks.h"
#include "base/exact_math.h"

/* conv_in, then pairs (same width; next width at stride 2), conv_out; silu between: eight times smaller than the image. */
static lk_val embed_condition(const lk_net *net, const lk_unet_config *c, lk_val cond) {
    lk_graph *g = net->g;
    if (c->cond_bgr) {
        lk_val planes[3];
        for (int i = 0; i < 3; i++) planes[i] = lk_slice(g, cond, 1, 2 - i, 3 - i);
        cond = lk_concat(g, planes, 3, 1);
    }
    lk_val x = lk_silu(g, lk_nn_conv2d(net, "conv_in", cond, c->cond_channels, c->cond_widths[0], 3, 1, 1, true));
    lk_net blocks = lk_net_sub(net, "blocks");
    lk_arena *arena = lk_graph_arena(g);
    for (int i = 0; i + 1 < c->cond_levels; i++) {
        x = lk_silu(g, lk_nn_conv2d(&blocks, lk_fmt(arena, "%d", 2 * i), x, c->cond_widths[i], c->cond_widths[i], 3, 1, 1, true));
        x = lk_silu(g, lk_nn_conv2d(&blocks, lk_fmt(arena, "%d", 2 * i + 1), x, c->cond_widths[i], c->cond_widths[i + 1], 3, 2, 1, true));
    }
    return lk_nn_conv2d(net, "conv_out", x, c->cond_widths[c->cond_levels - 1], c->channels[0], 3, 1, 1, true);
}

/* Guess mode: residual k of n + 1 (mid last) by 10^(-1 + k / n). */
static double weight_of(int k, int n, double scale, bool guess_mode) {
    return guess_mode && n ? scale * lk_exp_d(2.302585092994045684 * ((double)k / n - 1.0)) : scale;
}

static lk_val residual(const lk_net *net, const lk_unet_config *c, const char *name, lk_val x, double weight) {
    lk_graph *g = net->g;
    int64_t channels = lk_dim(g, x, 1);
    x = lk_nn_conv2d(net, name, x, channels, channels, 1, 1, 0, true);
    if (weight != 1) x = lk_scale(g, x, weight);
    return c->global_pool ? lk_mean(g, x, (lk_axes){ .n = 2, .axis = { 2, 3 }, .keep = true }) : x;
}

lk_control lk_controlnet(const lk_net *net, const lk_unet_config *c, lk_val sample, lk_val timestep, lk_val context, lk_val cond, double scale, bool guess_mode, lk_unet_extra extra) {
    lk_graph *g = net->g;
    lk_control out = { 0 };
    lk_net embedding = lk_net_sub(net, "controlnet_cond_embedding");
    bool guess = guess_mode && !c->global_pool;
    lk_unet_down d = { .temb = lk_unet_time(net, c, timestep, extra) };
    d.x = lk_nn_conv2d(net, "conv_in", sample, c->in_channels, c->channels[0], 3, 1, 1, true);
    d.x = lk_add(g, d.x, embed_condition(&embedding, c, cond));
    lk_unet_run_down(net, c, &d, context);
    lk_val mid = lk_unet_run_mid(net, c, d.x, d.temb, context);
    lk_net zero = lk_net_sub(net, "controlnet_down_blocks");
    for (out.n = 0; out.n < d.n; out.n++)
        out.down[out.n] = residual(&zero, c, lk_fmt(lk_graph_arena(g), "%d", out.n), d.skip[out.n], weight_of(out.n, d.n, scale, guess));
    out.mid = residual(net, c, "controlnet_mid_block", mid, weight_of(d.n, d.n, scale, guess));
    return out;
}
