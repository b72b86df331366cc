/* UNetSpatioTemporalConditionModel (Stable Video Diffusion, Blattmann et al. 2023, arXiv:2311.15127). Frames are folded into the batch for what is
 * spatial; temporal blocks see [B, C, F, H, W] or, per position, the F frames as tokens. Both results are blended:
 * alpha spatial + (1 - alpha) temporal, alpha = sigmoid(mix_factor).
 *
 * Residual blocks have epsilon 1e-6 in CrossAttnDown, CrossAttnUp and Up blocks and 1e-5 in Down blocks and the mid block. */
#include "models/blocks.h"
#include "models/config.h"
#include <string.h>

static const lk_config_rule rules[] = {
    { "sample_size" }, { "in_channels" }, { "out_channels" }, { "down_block_types" }, { "up_block_types" }, { "block_out_channels" }, { "addition_time_embed_dim" },
    { "projection_class_embeddings_input_dim" }, { "layers_per_block" }, { "cross_attention_dim" }, { "transformer_layers_per_block" }, { "num_attention_heads" },
    { "num_frames" }, { "norm_num_groups" }, { NULL } };
static const char *const down_types[] = { "DownBlockSpatioTemporal", "CrossAttnDownBlockSpatioTemporal", NULL };
static const char *const up_types[] = { "UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal", NULL };

static lk_err read_config(const json_t *j, const char *path, lk_svd_config *c) {
    int kinds[LK_MAX_LEVELS];
    int64_t groups;
    LK_TRY(lk_config_length(j, "block_out_channels", path, LK_MAX_LEVELS, &c->levels));
    int n = c->levels;
    LK_TRY(lk_config_words(j, "down_block_types", path, down_types, n, kinds));
    for (int i = 0; i < n; i++) c->down_attn[i] = kinds[i] == 1;
    LK_TRY(lk_config_words(j, "up_block_types", path, up_types, n, kinds));
    for (int i = 0; i < n; i++) c->up_attn[i] = kinds[i] == 1;
    LK_TRY(lk_config_counts(j, "block_out_channels", path, 0, n, 1, 1 << 16, c->channels));
    LK_TRY(lk_config_counts(j, "layers_per_block", path, 2, n, 1, 8, c->layers));
    LK_TRY(lk_config_counts(j, "num_attention_heads", path, 8, n, 1, 1 << 12, c->heads));
    LK_TRY(lk_config_counts(j, "transformer_layers_per_block", path, 1, n, 1, 64, c->depth));
    LK_TRY(lk_config_counts(j, "cross_attention_dim", path, 1024, n, 1, 1 << 16, c->context));
    LK_TRY(lk_config_count(j, "in_channels", path, 8, 1, 1 << 12, &c->in_channels));
    LK_TRY(lk_config_count(j, "out_channels", path, 4, 1, 1 << 12, &c->out_channels));
    LK_TRY(lk_config_count(j, "num_frames", path, 25, 1, 1 << 12, &c->frames));
    LK_TRY(lk_config_count(j, "addition_time_embed_dim", path, 256, 2, 1 << 12, &c->add_time_dim));
    LK_TRY(lk_config_count(j, "projection_class_embeddings_input_dim", path, 768, 2, 1 << 16, &c->add_in_dim));
    LK_TRY(lk_config_count(j, "norm_num_groups", path, 32, 1, 1 << 12, &groups));
    c->groups = (int)groups;
    for (int i = 0; i < n; i++) {
        LK_TRY(lk_config_divides(path, "block_out_channels", c->channels[i], "norm_num_groups", groups));
        LK_TRY(lk_config_divides(path, "block_out_channels", c->channels[i], "num_attention_heads", c->heads[i]));
    }
    return LK_OK;
}

lk_err lk_svd_config_load(const char *path, lk_svd_config *c) {
    json_t *j;
    memset(c, 0, sizeof *c);
    LK_TRY(lk_config_open(path, (const char *[]){ "UNetSpatioTemporalConditionModel", NULL }, rules, &j));
    lk_err err = read_config(j, path, c);
    json_decref(j);
    return err;
}

/* What every block needs besides its input. Values are per frame ([B*F, ...]) unless said otherwise. */
typedef struct {
    const lk_svd_config *c;
    int64_t batch, frames;
    lk_val temb, context;              /* [B*F, time dim], [B*F, T, D] */
    lk_val clip_context;               /* [B, T, D]: each clip's own */
} clip;

static lk_val blend(const lk_net *net, lk_val spatial, lk_val temporal) {
    lk_graph *g = net->g;
    lk_val alpha = lk_sigmoid(g, lk_nn_param(net, "time_mixer.mix_factor", LK_SHAPE(1)));
    return lk_add(g, lk_mul(g, spatial, alpha), lk_mul(g, temporal, lk_shift(g, lk_neg(g, alpha), 1)));
}

static lk_val conv_over_frames(const lk_net *net, const char *name, lk_val x, int64_t channels) {
    lk_net sub = lk_net_sub(net, "%s", name);
    lk_val w = lk_nn_param(&sub, "weight", LK_SHAPE(channels, channels, 3, 1, 1)), b = lk_nn_param(&sub, "bias", LK_SHAPE(channels));
    return lk_conv3d(net->g, x, w, b, (int[]){ 1, 1, 1 }, (int[]){ 1, 0, 0 });
}

/* x [B, C, F, H, W] */
static lk_val temporal_resnet(const lk_net *net, const clip *k, lk_val x, int64_t channels, double eps) {
    lk_graph *g = net->g;
    lk_val h = conv_over_frames(net, "conv1", lk_nn_group_norm(net, "norm1", x, channels, k->c->groups, eps, true), channels);
    lk_val t = lk_nn_linear(net, "time_emb_proj", lk_silu(g, k->temb), 4 * k->c->channels[0], channels, true);
    t = lk_permute(g, lk_reshape(g, t, LK_SHAPE(k->batch, k->frames, channels)), (int[]){ 0, 2, 1 });
    h = lk_add(g, h, lk_reshape(g, t, LK_SHAPE(k->batch, channels, k->frames, 1, 1)));
    h = conv_over_frames(net, "conv2", lk_nn_group_norm(net, "norm2", h, channels, k->c->groups, eps, true), channels);
    return lk_add(g, x, h);
}

static lk_val resnet_at(const lk_net *block, const clip *k, lk_val x, int64_t i, int64_t in, int64_t out, double eps) {
    lk_graph *g = block->g;
    lk_net net = lk_net_sub(block, "resnets.%lld", (long long)i), spatial = lk_net_sub(&net, "spatial_res_block"), temporal = lk_net_sub(&net, "temporal_res_block");
    x = lk_block_resnet(&spatial, x, k->temb, 4 * k->c->channels[0], in, out, k->c->groups, eps);
    int64_t h = lk_dim(g, x, 2), w = lk_dim(g, x, 3);
    lk_val video = lk_permute(g, lk_reshape(g, x, LK_SHAPE(k->batch, k->frames, out, h, w)), (int[]){ 0, 2, 1, 3, 4 });
    video = blend(&net, video, temporal_resnet(&temporal, k, video, out, eps));
    return lk_reshape(g, lk_permute(g, video, (int[]){ 0, 2, 1, 3, 4 }), LK_SHAPE(k->batch * k->frames, out, h, w));
}

/* [B*F, S, C] <-> [B*S, F, C] */
static lk_val swap_frames(lk_graph *g, lk_val x, int64_t batch, int64_t a, int64_t b) {
    int64_t channels = lk_dim(g, x, 2);
    x = lk_permute(g, lk_reshape(g, x, LK_SHAPE(batch, a, b, channels)), (int[]){ 0, 2, 1, 3 });
    return lk_reshape(g, x, LK_SHAPE(batch * b, a, channels));
}

static lk_val repeat_rows(lk_graph *g, lk_val x, int64_t times) {                  /* each row of axis 0 `times` times in a row */
    lk_shape s = lk_shape_of(g, x), wide = { .rank = s.rank + 1, .d = { s.d[0], times } }, thin = wide, flat = s;
    if (s.rank < 1 || s.rank >= LK_MAX_RANK) return LK_NONE;
    for (int i = 1; i < s.rank; i++) wide.d[i + 1] = thin.d[i + 1] = s.d[i];
    thin.d[1] = 1;
    flat.d[0] = s.d[0] * times;
    return lk_reshape(g, lk_broadcast(g, lk_reshape(g, x, thin), wide), flat);
}

/* TemporalBasicTransformerBlock: a residual feed-forward first, then a basic block over the frames of each position. */
static lk_val temporal_block(const lk_net *net, const clip *k, lk_val x, int64_t dim, int64_t context_dim, int64_t heads) {
    lk_graph *g = net->g;
    int64_t positions = lk_dim(g, x, 1);
    lk_net ff_in = lk_net_sub(net, "ff_in");
    x = swap_frames(g, x, k->batch, k->frames, positions);
    x = lk_add(g, lk_block_geglu(&ff_in, lk_nn_layer_norm(net, "norm_in", x, dim, 1e-5, true), dim, dim), x);
    x = lk_block_transformer(net, x, repeat_rows(g, k->clip_context, positions), dim, context_dim, heads, false);
    return swap_frames(g, x, k->batch, positions, k->frames);
}

/* The frame's number by the sinusoid, through a small network: [B*F, 1, C]. */
static lk_val frame_embedding(const lk_net *net, const clip *k, int64_t dim) {
    lk_graph *g = net->g;
    lk_net sub = lk_net_sub(net, "time_pos_embed");
    int64_t n = k->batch * k->frames;
    float *number = lk_alloc(lk_graph_arena(g), (size_t)n * sizeof *number);
    for (int64_t i = 0; i < n; i++) number[i] = (float)(i % k->frames);
    lk_val t = lk_timestep_embed(g, lk_const(g, LK_F32, LK_SHAPE(n), number), (lk_tembed){ .dim = (int)dim, .flip_sin_to_cos = true });
    t = lk_silu(g, lk_nn_linear(&sub, "linear_1", t, dim, 4 * dim, true));
    return lk_reshape(g, lk_nn_linear(&sub, "linear_2", t, 4 * dim, dim, true), LK_SHAPE(n, 1, dim));
}

static lk_val transformer_at(const lk_net *block, const clip *k, lk_val x, int64_t i, int level, int64_t depth) {
    lk_graph *g = block->g;
    lk_net net = lk_net_sub(block, "attentions.%lld", (long long)i);
    int64_t dim = k->c->channels[level], context = k->c->context[level], heads = k->c->heads[level];
    lk_val y = lk_nn_linear(&net, "proj_in", lk_tokens_of(g, lk_nn_group_norm(&net, "norm", x, dim, k->c->groups, 1e-6, false)), dim, dim, true);
    lk_val frame = frame_embedding(&net, k, dim);
    for (int64_t d = 0; d < depth; d++) {
        lk_net spatial = lk_net_sub(&net, "transformer_blocks.%lld", (long long)d), temporal = lk_net_sub(&net, "temporal_transformer_blocks.%lld", (long long)d);
        y = lk_block_transformer(&spatial, y, k->context, dim, context, heads, false);
        y = blend(&net, y, temporal_block(&temporal, k, lk_add(g, y, frame), dim, context, heads));
    }
    y = lk_image_of(g, lk_nn_linear(&net, "proj_out", y, dim, dim, true), lk_dim(g, x, 2), lk_dim(g, x, 3));
    return lk_add(g, y, x);
}

typedef struct { int n; lk_val at[LK_MAX_SKIPS]; } skips;
static void keep(skips *s, lk_val x) { if (s->n < LK_MAX_SKIPS) s->at[s->n++] = x; }

static lk_val down_block(const lk_net *root, const clip *k, lk_val x, int level, skips *s) {
    const lk_svd_config *c = k->c;
    lk_net block = lk_net_sub(root, "down_blocks.%d", level), down = lk_net_sub(&block, "downsamplers.0");
    int64_t in = c->channels[level ? level - 1 : 0], out = c->channels[level];
    for (int64_t i = 0; i < c->layers[level]; i++) {
        x = resnet_at(&block, k, x, i, i ? out : in, out, c->down_attn[level] ? 1e-6 : 1e-5);
        if (c->down_attn[level]) x = transformer_at(&block, k, x, i, level, c->depth[level]);
        keep(s, x);
    }
    if (level == c->levels - 1) return x;
    x = lk_block_downsample(&down, x, out);
    keep(s, x);
    return x;
}

static lk_val mid_block(const lk_net *root, const clip *k, lk_val x) {
    lk_net mid = lk_net_sub(root, "mid_block");
    int last = k->c->levels - 1;
    int64_t dim = k->c->channels[last];
    x = resnet_at(&mid, k, x, 0, dim, dim, 1e-5);
    x = transformer_at(&mid, k, x, 0, last, k->c->depth[last]);
    return resnet_at(&mid, k, x, 1, dim, dim, 1e-5);
}

static lk_val up_block(const lk_net *root, const clip *k, lk_val x, int i, skips *s) {
    const lk_svd_config *c = k->c;
    lk_graph *g = root->g;
    lk_net block = lk_net_sub(root, "up_blocks.%d", i), up = lk_net_sub(&block, "upsamplers.0");
    int level = c->levels - 1 - i;
    int64_t previous = c->channels[i ? level + 1 : level], out = c->channels[level];
    for (int64_t j = 0; j <= c->layers[level] && s->n; j++) {
        lk_val skip = s->at[--s->n];
        x = resnet_at(&block, k, lk_concat(g, (lk_val[]){ x, skip }, 2, 1), j, (j ? out : previous) + lk_dim(g, skip, 1), out, 1e-6);
        if (c->up_attn[i]) x = transformer_at(&block, k, x, j, level, c->depth[level]);
    }
    if (!level || !s->n) return x;
    return lk_block_upsample(&up, x, out, lk_dim(g, s->at[s->n - 1], 2), lk_dim(g, s->at[s->n - 1], 3));
}

static lk_val conditioning(const lk_net *net, const lk_svd_config *c, lk_val timestep, lk_val ids) {
    lk_graph *g = net->g;
    int64_t batch = lk_dim(g, ids, 0), n = lk_dim(g, ids, 1), dim = 4 * c->channels[0];
    lk_net time = lk_net_sub(net, "time_embedding"), add = lk_net_sub(net, "add_embedding");
    if (n * c->add_time_dim != c->add_in_dim) {
        lk_graph_fail(g, LK_ESHAPE, "SVD: %lld added time ids x %lld; the config's projection_class_embeddings_input_dim is %lld", (long long)n, (long long)c->add_time_dim, (long long)c->add_in_dim);
        return LK_NONE;
    }
    lk_val t = lk_timestep_embed(g, timestep, (lk_tembed){ .dim = (int)c->channels[0], .flip_sin_to_cos = true });
    lk_val a = lk_timestep_embed(g, lk_reshape(g, ids, LK_SHAPE(batch * n)), (lk_tembed){ .dim = (int)c->add_time_dim, .flip_sin_to_cos = true });
    return lk_add(g, lk_block_time_embedding(&time, t, c->channels[0], dim), lk_block_time_embedding(&add, lk_reshape(g, a, LK_SHAPE(batch, c->add_in_dim)), c->add_in_dim, dim));
}

lk_val lk_unet_svd(const lk_net *net, const lk_svd_config *c, lk_val sample, lk_val timestep, lk_val context, lk_val added_time_ids) {
    lk_graph *g = net->g;
    lk_shape s = lk_shape_of(g, sample);
    if (s.rank != 5) { lk_graph_fail(g, LK_ESHAPE, "SVD: sample has %d axes; expected [B, F, C, H, W]", s.rank); return LK_NONE; }
    clip k = { .c = c, .batch = s.d[0], .frames = s.d[1], .clip_context = context };
    k.temb = repeat_rows(g, conditioning(net, c, timestep, added_time_ids), k.frames);
    k.context = repeat_rows(g, context, k.frames);
    skips kept = { 0 };
    lk_val x = lk_reshape(g, sample, LK_SHAPE(s.d[0] * s.d[1], s.d[2], s.d[3], s.d[4]));
    x = lk_nn_conv2d(net, "conv_in", x, c->in_channels, c->channels[0], 3, 1, 1, true);
    keep(&kept, x);
    for (int level = 0; level < c->levels; level++) x = down_block(net, &k, x, level, &kept);
    x = mid_block(net, &k, x);
    for (int i = 0; i < c->levels; i++) x = up_block(net, &k, x, i, &kept);
    x = lk_nn_group_norm(net, "conv_norm_out", x, c->channels[0], c->groups, 1e-5, true);
    x = lk_nn_conv2d(net, "conv_out", x, c->channels[0], c->out_channels, 3, 1, 1, true);
    return lk_reshape(g, x, LK_SHAPE(s.d[0], s.d[1], c->out_channels, s.d[3], s.d[4]));
}
