/* One row a model class: which inputs it takes, how it is called, how its outputs are called in the vectors. */
#include "cli/golden/golden.h"
#include <stdlib.h>

static lk_err unet2d(lk_golden_model *m) {
    lk_unet_config c;
    LK_TRY(lk_unet_config_load(lk_golden_path(m->memory, m->dir, "config.json"), &c));
    lk_unet_extra extra = LK_UNET_PLAIN;
    if (lk_golden_has(m, "text_embeds")) extra.text_embeds = lk_golden_input(m, "text_embeds");
    if (lk_golden_has(m, "time_ids")) extra.time_ids = lk_golden_input(m, "time_ids");
    if (lk_golden_has(m, "class_labels")) extra.class_labels = c.class_kind == LK_CLASS_TABLE ? lk_golden_ids(m, "class_labels") : lk_golden_input(m, "class_labels");
    if (lk_golden_has(m, "timestep_cond")) extra.timestep_cond = lk_golden_input(m, "timestep_cond");
    lk_golden_output(m, "sample", lk_unet2d(&m->net, &c, lk_golden_input(m, "sample"), lk_golden_input(m, "timestep"), lk_golden_input(m, "encoder_hidden_states"), extra));
    return LK_OK;
}
static lk_err autoencoder_kl(lk_golden_model *m) {
    lk_vae_config c;
    LK_TRY(lk_vae_config_load(lk_golden_path(m->memory, m->dir, "config.json"), &c));
    lk_golden_output(m, "moments", lk_vae_encode(&m->net, &c, lk_golden_input(m, "image")));
    lk_golden_output(m, "image", lk_vae_decode(&m->net, &c, lk_golden_input(m, "latent")));
    return LK_OK;
}
static lk_err autoencoder_tiny(lk_golden_model *m) {
    lk_tiny_vae_config c;
    LK_TRY(lk_tiny_vae_config_load(lk_golden_path(m->memory, m->dir, "config.json"), &c));
    lk_golden_output(m, "latents", lk_tiny_vae_encode(&m->net, &c, lk_golden_input(m, "image")));
    lk_golden_output(m, "image", lk_tiny_vae_decode(&m->net, &c, lk_golden_input(m, "latent")));
    return LK_OK;
}
void lk_golden_encoder_outputs(lk_golden_model *m, lk_encoder_out o, const char *embeds) {
    lk_golden_output(m, "last_hidden_state", o.last_hidden_state);
    lk_golden_output(m, "pooler_output", o.pooled);
    if (lk_ok(o.embeds)) lk_golden_output(m, embeds, o.embeds);
    if (o.n_hidden < 2) return;
    lk_golden_output(m, "penultimate", o.hidden[o.n_hidden - 2]);
    lk_golden_output(m, "hidden_last_before_ln", o.hidden[o.n_hidden - 1]);
    lk_golden_output(m, "embeddings", o.hidden[0]);
    lk_golden_output(m, "hidden1", o.hidden[1]);
}
static lk_err clip_text(lk_golden_model *m) {
    lk_clip_text_config c;
    LK_TRY(lk_clip_text_config_load(lk_golden_path(m->memory, m->dir, "config.json"), &c));
    lk_val ids = lk_golden_ids(m, "input_ids");
    if (!lk_ok(ids)) return LK_OK;
    int64_t B = lk_dim(m->net.g, ids, 0), T = lk_dim(m->net.g, ids, 1), *index = lk_alloc(m->memory, (size_t)B * sizeof *index);
    lk_clip_pool_index(&c, lk_golden_ids_values(m, "input_ids"), B, T, index);
    lk_golden_encoder_outputs(m, lk_clip_text(&m->net, &c, ids, lk_golden_given_ids(m, "pool_index", LK_SHAPE(B), index)), "text_embeds");
    return LK_OK;
}
static lk_err clip_vision(lk_golden_model *m) {
    lk_clip_vision_config c;
    LK_TRY(lk_clip_vision_config_load(lk_golden_path(m->memory, m->dir, "config.json"), &c));
    lk_golden_encoder_outputs(m, lk_clip_vision(&m->net, &c, lk_golden_input(m, "pixel_values")), "image_embeds");
    return LK_OK;
}
const lk_golden_class lk_golden_classes[] = {
    { "UNet2DConditionModel", unet2d },
    { "AutoencoderKL", autoencoder_kl },
    { "AutoencoderTiny", autoencoder_tiny },
    { "CLIPTextModel", clip_text },
    { "CLIPTextModelWithProjection", clip_text },
    { "CLIPVisionModel", clip_vision },
    { "CLIPVisionModelWithProjection", clip_vision },
    { "ControlNetModel", lk_golden_controlnet },
    { "SD3Transformer2DModel", lk_golden_sd3 },
    { "FluxTransformer2DModel", lk_golden_flux },
    { "QwenImageTransformer2DModel", lk_golden_qwenimage },
    { "Dinov2Model", lk_golden_dinov2 },
    { "ViTModel", lk_golden_vit },
    { "UNetSpatioTemporalConditionModel", lk_golden_unet_svd },
    { 0 },
};
