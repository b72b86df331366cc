/* Configs of UNet2DConditionModel and ControlNetModel: every key either read or held to the one value implemented. */
#include "models/config.h"
#include <string.h>

#define NO "null|false"
#define SHARED_RULES \
    { "in_channels" }, { "flip_sin_to_cos" }, { "freq_shift" }, { "down_block_types" }, { "mid_block_type" }, { "block_out_channels" }, \
    { "layers_per_block" }, { "cross_attention_dim" }, { "transformer_layers_per_block" }, { "attention_head_dim" }, { "norm_num_groups" }, \
    { "norm_eps" }, { "use_linear_projection" }, { "addition_embed_type", "null|\"text_time\"" }, { "addition_time_embed_dim" }, \
    { "projection_class_embeddings_input_dim" }, { "upcast_attention" }, { "addition_embed_type_num_heads" }, \
    { "downsample_padding", "1" }, { "mid_block_scale_factor", "1|1.0" }, { "act_fn", "\"silu\"|\"swish\"" }, \
    { "num_attention_heads", "null" }, { "resnet_time_scale_shift", "\"default\"" }

static const lk_config_rule unet_rules[] = {
    SHARED_RULES,
    { "only_cross_attention" }, { "class_embed_type" }, { "num_class_embeds" }, { "encoder_hid_dim" }, { "encoder_hid_dim_type", "null|\"text_proj\"" }, { "sample_size" }, { "out_channels" }, { "up_block_types" }, { "center_input_sample" }, { "time_embedding_dim" }, { "time_cond_proj_dim" },
    { "reverse_transformer_layers_per_block" }, { "dropout", "0|0.0" }, { "dual_cross_attention", NO }, { "resnet_skip_time_act", NO },
    { "resnet_out_scale_factor", "1|1.0" }, { "time_embedding_type", "\"positional\"" }, { "time_embedding_act_fn", "null" },
    { "timestep_post_act", "null" }, { "conv_in_kernel", "3" }, { "conv_out_kernel", "3" }, { "attention_type", "\"default\"" },
    { "class_embeddings_concat", NO }, { "mid_block_only_cross_attention" }, { "cross_attention_norm", NO }, { NULL } };

static const lk_config_rule controlnet_rules[] = {
    SHARED_RULES,
    { "only_cross_attention", NO }, { "class_embed_type", "null" }, { "num_class_embeds", "null" }, { "encoder_hid_dim", "null" }, { "encoder_hid_dim_type", "null" }, { "conditioning_channels" }, { "conditioning_embedding_out_channels" }, { "controlnet_conditioning_channel_order", "\"rgb\"|\"bgr\"" },
    { "global_pool_conditions" }, { NULL } };

static const char *const down_types[] = { "DownBlock2D", "CrossAttnDownBlock2D", NULL };
static const char *const up_types[] = { "UpBlock2D", "CrossAttnUpBlock2D", NULL };

static lk_err read_mid(const json_t *j, const char *path, lk_unet_config *c) {
    const char *type = "UNetMidBlock2DCrossAttn";
    if (json_is_null(json_object_get(j, "mid_block_type"))) { c->mid = c->mid_attn = false; return LK_OK; }
    LK_TRY(lk_json_str(j, "mid_block_type", path, type, &type));
    c->mid = true;
    c->mid_attn = !strcmp(type, "UNetMidBlock2DCrossAttn");
    if (c->mid_attn || !strcmp(type, "UNetMidBlock2D")) return LK_OK;
    return lk_error(LK_EINPUT, "%s: mid_block_type = '%s' is not implemented; allowed: UNetMidBlock2DCrossAttn, UNetMidBlock2D, null", path, type);
}

static lk_err read_addition(const json_t *j, const char *path, lk_unet_config *c) {
    c->text_time = json_is_string(json_object_get(j, "addition_embed_type"));      /* the rules allow no other name than text_time */
    LK_TRY(lk_config_count(j, "addition_time_embed_dim", path, 0, 0, 1 << 20, &c->add_time_dim));
    LK_TRY(lk_config_count(j, "projection_class_embeddings_input_dim", path, 0, 0, 1 << 20, &c->add_in_dim));
    if (c->text_time && (c->add_time_dim < 2 || c->add_in_dim < c->add_time_dim))
        return lk_error(LK_EINPUT, "%s: text_time needs addition_time_embed_dim and projection_class_embeddings_input_dim, found %lld and %lld", path,
                        (long long)c->add_time_dim, (long long)c->add_in_dim);
    return LK_OK;
}

static lk_err read_widths(const json_t *j, const char *path, lk_unet_config *c) {
    LK_TRY(lk_config_length(j, "block_out_channels", path, LK_MAX_LEVELS, &c->levels));
    int n = c->levels;
    LK_TRY(lk_config_counts(j, "block_out_channels", path, 0, n, 1, 1 << 16, c->channels));
    LK_TRY(lk_config_counts(j, "layers_per_block", path, 2, n, 1, 8, c->layers));
    LK_TRY(lk_config_counts(j, "attention_head_dim", path, 8, n, 1, 1 << 12, c->heads));
    LK_TRY(lk_config_counts(j, "transformer_layers_per_block", path, 1, n, 1, 64, c->depth));
    LK_TRY(lk_config_counts(j, "cross_attention_dim", path, 1280, n, 1, 1 << 16, c->context));
    int64_t groups;
    LK_TRY(lk_config_count(j, "norm_num_groups", path, 32, 1, 1 << 12, &groups));
    c->groups = (int)groups;
    for (int i = 0; i < n; i++) {
        LK_TRY(lk_config_divides(path, "block_out_channels", c->channels[i], "norm_num_groups", groups));
        if (c->down_attn[i] || c->up_attn[n - 1 - i] || (c->mid_attn && i == n - 1))
            LK_TRY(lk_config_divides(path, "block_out_channels", c->channels[i], "attention_head_dim (the number of heads)", c->heads[i]));
    }
    return LK_OK;
}

static lk_err read_blocks(const json_t *j, const char *path, bool up, lk_unet_config *c) {
    int kinds[LK_MAX_LEVELS];
    LK_TRY(lk_config_length(j, "block_out_channels", path, LK_MAX_LEVELS, &c->levels));
    LK_TRY(lk_config_words(j, "down_block_types", path, down_types, c->levels, kinds));
    for (int i = 0; i < c->levels; i++) c->down_attn[i] = kinds[i] == 1;
    if (!up) return LK_OK;
    LK_TRY(lk_config_words(j, "up_block_types", path, up_types, c->levels, kinds));
    for (int i = 0; i < c->levels; i++) c->up_attn[i] = kinds[i] == 1;
    return LK_OK;
}

static lk_err read_shared(const json_t *j, const char *path, bool up, lk_unet_config *c) {
    LK_TRY(read_blocks(j, path, up, c));
    LK_TRY(read_mid(j, path, c));
    LK_TRY(read_widths(j, path, c));
    LK_TRY(read_addition(j, path, c));
    LK_TRY(lk_config_count(j, "in_channels", path, 4, 1, 1 << 12, &c->in_channels));
    LK_TRY(lk_json_real(j, "norm_eps", path, 1e-5, &c->eps));
    LK_TRY(lk_json_bool(j, "use_linear_projection", path, false, &c->linear_proj));
    LK_TRY(lk_json_bool(j, "flip_sin_to_cos", path, true, &c->flip_sin_to_cos));
    LK_TRY(lk_json_real(j, "freq_shift", path, 0, &c->freq_shift));
    c->time_dim = 4 * c->channels[0];
    return LK_OK;
}

/* A flag or a flag a level; the mid block of these configs never follows it. */
static lk_err read_only_cross(const json_t *j, const char *path, lk_unet_config *c) {
    const json_t *v = json_object_get(j, "only_cross_attention");
    if (json_is_array(v) && json_array_size(v) != (size_t)c->levels)
        return lk_error(LK_EINPUT, "%s: only_cross_attention lists %zu levels of %d", path, json_array_size(v), c->levels);
    if (v && !json_is_null(v) && !json_is_boolean(v) && !json_is_array(v)) return lk_error(LK_EINPUT, "%s: only_cross_attention must be true, false or a list of them", path);
    for (int i = 0; i < c->levels; i++) c->only_cross[i] = json_is_true(json_is_array(v) ? json_array_get(v, (size_t)i) : v);
    return LK_OK;
}
static lk_err read_class(const json_t *j, const char *path, lk_unet_config *c) {
    static const char *const kinds[] = { [LK_CLASS_TIMESTEP] = "timestep", [LK_CLASS_IDENTITY] = "identity", [LK_CLASS_PROJECTION] = "projection", [LK_CLASS_SIMPLE] = "simple_projection" };
    const char *kind = NULL;
    LK_TRY(lk_json_str(j, "class_embed_type", path, NULL, &kind));
    LK_TRY(lk_config_count(j, "num_class_embeds", path, 0, 0, 1 << 28, &c->classes));
    if (!kind) { c->class_kind = c->classes ? LK_CLASS_TABLE : LK_CLASS_NONE; return LK_OK; }
    for (int k = LK_CLASS_TIMESTEP; k <= LK_CLASS_SIMPLE; k++) if (!strcmp(kinds[k], kind)) c->class_kind = k;
    if (!c->class_kind) return lk_error(LK_EINPUT, "%s: class_embed_type = '%s' is not implemented; allowed: timestep, identity, projection, simple_projection, null", path, kind);
    if (c->class_kind >= LK_CLASS_PROJECTION && c->add_in_dim < 1) return lk_error(LK_EINPUT, "%s: class_embed_type = '%s' needs projection_class_embeddings_input_dim", path, kind);
    if (c->text_time && c->class_kind >= LK_CLASS_PROJECTION) return lk_error(LK_EINPUT, "%s: class_embed_type = '%s' and addition_embed_type = 'text_time' would share projection_class_embeddings_input_dim", path, kind);
    return LK_OK;
}

static lk_err read_unet(const json_t *j, const char *path, lk_unet_config *c) {
    LK_TRY(read_shared(j, path, true, c));
    LK_TRY(lk_config_count(j, "out_channels", path, 4, 1, 1 << 12, &c->out_channels));
    if (!json_is_array(json_object_get(j, "sample_size"))) LK_TRY(lk_config_count(j, "sample_size", path, 0, 0, 1 << 16, &c->sample_size));
    LK_TRY(lk_json_bool(j, "center_input_sample", path, false, &c->center_input));
    LK_TRY(lk_config_count(j, "time_embedding_dim", path, c->time_dim, 1, 1 << 16, &c->time_dim));
    LK_TRY(lk_config_count(j, "time_cond_proj_dim", path, 0, 0, 1 << 16, &c->time_cond_dim));
    LK_TRY(read_only_cross(j, path, c));
    LK_TRY(read_class(j, path, c));
    LK_TRY(lk_config_count(j, "encoder_hid_dim", path, 0, 0, 1 << 16, &c->text_dim));        /* its type is text_proj by default, too */
    int64_t reversed[LK_MAX_LEVELS];
    for (int i = 0; i < c->levels; i++) reversed[i] = c->depth[c->levels - 1 - i];
    memcpy(c->up_depth, reversed, sizeof reversed);
    if (json_is_array(json_object_get(j, "reverse_transformer_layers_per_block")))
        LK_TRY(lk_config_counts(j, "reverse_transformer_layers_per_block", path, 1, c->levels, 1, 64, c->up_depth));
    return LK_OK;
}

static lk_err read_controlnet(const json_t *j, const char *path, lk_unet_config *c) {
    LK_TRY(read_shared(j, path, false, c));
    if (!c->mid) return lk_error(LK_EINPUT, "%s: mid_block_type = null is not implemented for a ControlNet", path);
    const char *order;
    LK_TRY(lk_json_str(j, "controlnet_conditioning_channel_order", path, "rgb", &order));
    c->cond_bgr = !strcmp(order, "bgr");
    LK_TRY(lk_config_count(j, "conditioning_channels", path, 3, 1, 1 << 12, &c->cond_channels));
    LK_TRY(lk_json_bool(j, "global_pool_conditions", path, false, &c->global_pool));
    const int64_t usual[] = { 16, 32, 96, 256 };
    c->cond_levels = 4;
    memcpy(c->cond_widths, usual, sizeof usual);
    if (!json_object_get(j, "conditioning_embedding_out_channels")) return LK_OK;
    LK_TRY(lk_config_length(j, "conditioning_embedding_out_channels", path, LK_MAX_LEVELS, &c->cond_levels));
    return lk_config_counts(j, "conditioning_embedding_out_channels", path, 16, c->cond_levels, 1, 1 << 12, c->cond_widths);
}

lk_err lk_unet_config_load(const char *path, lk_unet_config *c) {
    json_t *j;
    memset(c, 0, sizeof *c);
    LK_TRY(lk_config_open(path, (const char *[]){ "UNet2DConditionModel", NULL }, unet_rules, &j));
    lk_err err = read_unet(j, path, c);
    json_decref(j);
    return err;
}

lk_err lk_controlnet_config_load(const char *path, lk_unet_config *c) {
    json_t *j;
    memset(c, 0, sizeof *c);
    LK_TRY(lk_config_open(path, (const char *[]){ "ControlNetModel", NULL }, controlnet_rules, &j));
    lk_err err = read_controlnet(j, path, c);
    json_decref(j);
    return err;
}
