/* UNet2DConditionModel (Rombach et al. 2022, arXiv:2112.10752; SDXL: Podell et al. 2023, arXiv:2307.01952).
 * The half up to the mid block is shared with controlnet.c through blocks.h.
 *
 * Skips are kept in the order the down path makes them (conv_in first) and taken back last first. Upsampling goes to the
 * size of the skip it will meet, so sizes need not be divisible. */
#include "models/blocks.h"

static lk_val sinusoid(lk_graph *g, lk_val t, int64_t dim, const lk_unet_config *c) {
    return lk_timestep_embed(g, t, (lk_tembed){ .dim = (int)dim, .flip_sin_to_cos = c->flip_sin_to_cos, .freq_shift = c->freq_shift });
}

/* text_time: each time id by the sinusoid, flattened, after the pooled text. */
static lk_val added_embedding(const lk_net *net, const lk_unet_config *c, lk_unet_extra extra) {
    lk_graph *g = net->g;
    if (!lk_ok(extra.text_embeds) || !lk_ok(extra.time_ids)) {
        lk_graph_fail(g, LK_EINPUT, "%s: addition_embed_type text_time needs text_embeds [B, P] and time_ids [B, n]", net->prefix[0] ? net->prefix : "unet");
        return LK_NONE;
    }
    int64_t batch = lk_dim(g, extra.time_ids, 0), ids = lk_dim(g, extra.time_ids, 1), pooled = lk_dim(g, extra.text_embeds, 1);
    if (pooled + ids * c->add_time_dim != c->add_in_dim) {
        lk_graph_fail(g, LK_ESHAPE, "text_embeds width %lld + %lld time ids x %lld = %lld; the config's projection_class_embeddings_input_dim is %lld", (long long)pooled,
                      (long long)ids, (long long)c->add_time_dim, (long long)(pooled + ids * c->add_time_dim), (long long)c->add_in_dim);
        return LK_NONE;
    }
    lk_val times = sinusoid(g, lk_reshape(g, extra.time_ids, LK_SHAPE(batch * ids)), c->add_time_dim, c);
    lk_val both = lk_concat(g, (lk_val[]){ extra.text_embeds, lk_reshape(g, times, LK_SHAPE(batch, ids * c->add_time_dim)) }, 2, 1);
    lk_net add = lk_net_sub(net, "add_embedding");
    return lk_block_time_embedding(&add, both, c->add_in_dim, c->time_dim);
}

static lk_val class_embedding(const lk_net *net, const lk_unet_config *c, lk_val labels) {
    lk_net sub = lk_net_sub(net, "class_embedding");
    if (!lk_ok(labels)) { lk_graph_fail(net->g, LK_EINPUT, "%s: the config has class embeddings; class_labels are missing", net->prefix[0] ? net->prefix : "unet"); return LK_NONE; }
    switch (c->class_kind) {
    case LK_CLASS_TABLE: return lk_nn_embedding(net, "class_embedding", labels, c->classes, c->time_dim);
    case LK_CLASS_TIMESTEP: return lk_block_time_embedding(&sub, sinusoid(net->g, labels, c->channels[0], c), c->channels[0], c->time_dim);
    case LK_CLASS_PROJECTION: return lk_block_time_embedding(&sub, labels, c->add_in_dim, c->time_dim);
    case LK_CLASS_SIMPLE: return lk_nn_linear(net, "class_embedding", labels, c->add_in_dim, c->time_dim, true);
    default: return labels;
    }
}

lk_val lk_unet_time(const lk_net *net, const lk_unet_config *c, lk_val timestep, lk_unet_extra extra) {
    lk_graph *g = net->g;
    lk_net time = lk_net_sub(net, "time_embedding");
    lk_val t = sinusoid(g, timestep, c->channels[0], c);
    if (lk_ok(extra.timestep_cond) && !c->time_cond_dim) lk_graph_fail(g, LK_EINPUT, "timestep_cond was given but the config has no time_cond_proj_dim");
    if (c->time_cond_dim) {
        lk_val cond = lk_ok(extra.timestep_cond) ? extra.timestep_cond : lk_zeros(g, LK_SHAPE(lk_dim(g, timestep, 0), c->time_cond_dim));
        t = lk_add(g, t, lk_nn_linear(&time, "cond_proj", cond, c->time_cond_dim, c->channels[0], false));
    }
    lk_val temb = lk_block_time_embedding(&time, t, c->channels[0], c->time_dim);
    if (c->class_kind) temb = lk_add(g, temb, class_embedding(net, c, extra.class_labels));
    return c->text_time ? lk_add(g, temb, added_embedding(net, c, extra)) : temb;
}

static lk_val resnet_at(const lk_net *block, const lk_unet_config *c, lk_val x, lk_val temb, int64_t i, int64_t in, int64_t out) {
    lk_net net = lk_net_sub(block, "resnets.%lld", (long long)i);
    return lk_block_resnet(&net, lk_rows_for(net.g, x, temb), lk_rows_for(net.g, temb, x), c->time_dim, in, out, c->groups, c->eps);
}

static lk_val attention_at(const lk_net *block, const lk_unet_config *c, lk_val x, lk_val context, int64_t i, int level, int64_t depth, bool only_cross) {
    lk_net net = lk_net_sub(block, "attentions.%lld", (long long)i);
    return lk_block_transformer2d(&net, x, context, c->channels[level], c->context[level], c->heads[level], depth, c->groups, c->linear_proj, only_cross);
}

static void keep(lk_unet_down *d) { if (d->n < LK_MAX_SKIPS) d->skip[d->n++] = d->x; }

void lk_unet_run_down(const lk_net *net, const lk_unet_config *c, lk_unet_down *d, lk_val context) {
    keep(d);
    for (int level = 0; level < c->levels; level++) {
        lk_net block = lk_net_sub(net, "down_blocks.%d", level);
        int64_t in = c->channels[level ? level - 1 : 0], out = c->channels[level];
        for (int64_t i = 0; i < c->layers[level]; i++) {
            d->x = resnet_at(&block, c, d->x, d->temb, i, i ? out : in, out);
            if (c->down_attn[level]) d->x = attention_at(&block, c, d->x, context, i, level, c->depth[level], c->only_cross[level]);
            keep(d);
        }
        if (level == c->levels - 1) break;
        lk_net down = lk_net_sub(&block, "downsamplers.0");
        d->x = lk_block_downsample(&down, d->x, out);
        keep(d);
    }
}

lk_val lk_unet_run_mid(const lk_net *net, const lk_unet_config *c, lk_val x, lk_val temb, lk_val context) {
    if (!c->mid) return x;
    lk_net mid = lk_net_sub(net, "mid_block");
    int last = c->levels - 1;
    x = resnet_at(&mid, c, x, temb, 0, c->channels[last], c->channels[last]);
    if (!c->mid_attn) return x;
    x = attention_at(&mid, c, x, context, 0, last, c->depth[last], false);
    return resnet_at(&mid, c, x, temb, 1, c->channels[last], c->channels[last]);
}

/* Up block i works at level levels-1-i; its resnets meet the skips of that level and, last, of the level above's end. */
static lk_val run_up(const lk_net *net, const lk_unet_config *c, lk_unet_down *d, lk_val context, int i) {
    lk_graph *g = net->g;
    lk_net block = lk_net_sub(net, "up_blocks.%d", i);
    int level = c->levels - 1 - i;
    int64_t previous = c->channels[i ? level + 1 : level], out = c->channels[level];
    lk_val x = d->x;
    for (int64_t j = 0; j <= c->layers[level]; j++) {
        if (!d->n) return LK_NONE;
        lk_val skip = lk_rows_for(g, d->skip[--d->n], x);
        int64_t in = (j ? out : previous) + lk_dim(g, skip, 1);
        x = resnet_at(&block, c, lk_concat(g, (lk_val[]){ x, skip }, 2, 1), d->temb, j, in, out);
        if (c->up_attn[i]) x = attention_at(&block, c, x, context, j, level, c->up_depth[i], c->only_cross[level]);
    }
    if (!level || !d->n) return x;
    lk_net up = lk_net_sub(&block, "upsamplers.0");
    return lk_block_upsample(&up, x, out, lk_dim(g, d->skip[d->n - 1], 2), lk_dim(g, d->skip[d->n - 1], 3));
}

static void add_residuals(lk_graph *g, lk_unet_down *d, lk_unet_extra extra) {
    if (extra.n_down && extra.n_down != d->n)
        lk_graph_fail(g, LK_EINPUT, "%d ControlNet residuals were given; this UNet has %d skips", extra.n_down, d->n);
    for (int i = 0; i < extra.n_down && i < d->n; i++) d->skip[i] = lk_add(g, lk_rows_for(g, d->skip[i], extra.down_residuals[i]), extra.down_residuals[i]);
    if (lk_ok(extra.mid_residual)) d->x = lk_add(g, d->x, extra.mid_residual);
}

lk_val lk_unet2d(const lk_net *net, const lk_unet_config *c, lk_val sample, lk_val timestep, lk_val context, lk_unet_extra extra) {
    lk_graph *g = net->g;
    if (c->center_input) sample = lk_shift(g, lk_scale(g, sample, 2), -1);
    if (c->text_dim) context = lk_nn_linear(net, "encoder_hid_proj", context, c->text_dim, c->context[0], true);
    lk_unet_down d = { .temb = lk_unet_time(net, c, timestep, extra) };
    d.x = lk_nn_conv2d(net, "conv_in", sample, c->in_channels, c->channels[0], 3, 1, 1, true);
    lk_unet_run_down(net, c, &d, context);
    d.x = lk_unet_run_mid(net, c, d.x, d.temb, context);
    add_residuals(g, &d, extra);
    for (int i = 0; i < c->levels; i++) d.x = run_up(net, c, &d, context, i);
    lk_val y = lk_nn_group_norm(net, "conv_norm_out", d.x, c->channels[0], c->groups, c->eps, true);
    return lk_nn_conv2d(net, "conv_out", y, c->channels[0], c->out_channels, 3, 1, 1, true);
}
