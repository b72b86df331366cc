/* Model classes beyond the SD 1.5 family. Call arguments that are no tensors stand in case.json: the ControlNet's base and scale, Qwen-Image's
 * img_shapes. A further io file io_X takes the argument's variant with the suffix _X where there is one; guess mode is the ControlNet's only variant. */
#include "cli/golden/golden.h"
#include <stdlib.h>
#include <string.h>

static const char *config_of(lk_golden_model *m) { return lk_golden_path(m->memory, m->dir, "config.json"); }

/* "" for io.safetensors, "_edit" for io_edit.safetensors. */
static const char *io_suffix(lk_golden_model *m) {
    const char *path = lk_st_path(m->io->st), *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    size_t n = strlen(name), end = strlen(".safetensors");
    return lk_starts(name, "io") && n >= end + 2 ? lk_fmt(m->memory, "%.*s", (int)(n - end - 2), name + 2) : "";
}

static lk_err case_json(lk_golden_model *m, json_t **out) { return lk_golden_json(m->run, lk_golden_path(m->memory, m->dir, "case.json"), out); }

/* The ControlNet, and the base UNet with its residuals under its own param prefix. */
static lk_err controlnet_on(lk_golden_model *m, const char *base, double scale, bool guess) {
    lk_unet_config c, u;
    const char *base_dir = lk_golden_path(m->memory, m->dir, base);
    LK_TRY(lk_controlnet_config_load(config_of(m), &c));
    LK_TRY(lk_unet_config_load(lk_golden_path(m->memory, base_dir, "config.json"), &u));
    lk_val sample = lk_golden_input(m, "sample"), t = lk_golden_input(m, "timestep"), text = lk_golden_input(m, "encoder_hidden_states");
    lk_unet_extra extra = LK_UNET_PLAIN;
    if (lk_golden_has(m, "text_embeds")) extra.text_embeds = lk_golden_input(m, "text_embeds");
    if (lk_golden_has(m, "time_ids")) extra.time_ids = lk_golden_input(m, "time_ids");
    lk_control k = lk_controlnet(&m->net, &c, sample, t, text, lk_golden_input(m, "controlnet_cond"), scale, guess, extra);
    for (int i = 0; i < k.n; i++) lk_golden_output(m, lk_fmt(m->memory, "down.%d", i), k.down[i]);
    lk_golden_output(m, "mid", k.mid);
    lk_net net = m->net;
    net.param_prefix = "unet/";
    extra.down_residuals = k.down;
    extra.n_down = k.n;
    extra.mid_residual = k.mid;
    lk_golden_output(m, "sample", lk_unet2d(&net, &u, sample, t, text, extra));
    lk_golden_weights(m, "unet/", lk_golden_path(m->memory, base_dir, "model.safetensors"));
    return LK_OK;
}
lk_err lk_golden_controlnet(lk_golden_model *m) {
    json_t *j;
    const char *base;
    double scale;
    LK_TRY(case_json(m, &j));
    lk_err err = lk_json_str(j, "base", "case.json", "", &base);
    if (!err) err = lk_json_real(j, "conditioning_scale", "case.json", 1, &scale);
    if (!err) err = controlnet_on(m, base, scale, !strcmp(io_suffix(m), "_guess"));
    json_decref(j);
    return err;
}

lk_err lk_golden_sd3(lk_golden_model *m) {
    lk_dit_config c;
    LK_TRY(lk_sd3_config_load(config_of(m), &c));
    lk_golden_output(m, "sample", lk_sd3_transformer(&m->net, &c, lk_golden_input(m, "hidden_states"), lk_golden_input(m, "encoder_hidden_states"),
                                                     lk_golden_input(m, "pooled_projections"), lk_golden_input(m, "timestep")));
    return LK_OK;
}

lk_err lk_golden_flux(lk_golden_model *m) {
    lk_dit_config c;
    LK_TRY(lk_flux_config_load(config_of(m), &c));
    lk_val guidance = lk_golden_has(m, "guidance") ? lk_golden_input(m, "guidance") : LK_NONE;
    lk_golden_output(m, "sample", lk_flux_transformer(&m->net, &c, lk_golden_input(m, "hidden_states"), lk_golden_input(m, "encoder_hidden_states"), lk_golden_input(m, "pooled_projections"),
                                                      lk_golden_input(m, "timestep"), lk_golden_input(m, "img_ids"), lk_golden_input(m, "txt_ids"), guidance));
    return LK_OK;
}

static lk_err read_shapes(lk_golden_model *m, int64_t shapes[16][3], int *n) {
    json_t *j;
    LK_TRY(case_json(m, &j));
    const json_t *list = json_object_get(j, lk_fmt(m->memory, "img_shapes%s", io_suffix(m)));
    if (!list) list = json_object_get(j, "img_shapes");
    *n = (int)json_array_size(list);
    lk_err err = *n >= 1 && *n <= 16 ? LK_OK : lk_error(LK_EINPUT, "%s/case.json: img_shapes must list 1 to 16 images", m->dir);
    for (int i = 0; i < *n && !err; i++)
        for (int k = 0; k < 3; k++) shapes[i][k] = json_integer_value(json_array_get(json_array_get(list, (size_t)i), (size_t)k));
    json_decref(j);
    return err;
}
lk_err lk_golden_qwenimage(lk_golden_model *m) {
    lk_dit_config c;
    int64_t shapes[16][3];
    int n;
    LK_TRY(lk_qwenimage_config_load(config_of(m), &c));
    LK_TRY(read_shapes(m, shapes, &n));
    lk_val mask = lk_golden_has(m, "encoder_hidden_states_mask") ? lk_golden_input(m, "encoder_hidden_states_mask") : LK_NONE;
    lk_golden_output(m, "sample", lk_qwenimage_transformer(&m->net, &c, lk_golden_input(m, "hidden_states"), lk_golden_input(m, "encoder_hidden_states"), mask,
                                                           lk_golden_input(m, "timestep"), (const int64_t (*)[3])shapes, n));
    return LK_OK;
}

lk_err lk_golden_dinov2(lk_golden_model *m) {
    lk_dinov2_config c;
    LK_TRY(lk_dinov2_config_load(config_of(m), &c));
    lk_golden_encoder_outputs(m, lk_dinov2(&m->net, &c, lk_golden_input(m, "pixel_values")), "embeds");
    return LK_OK;
}

lk_err lk_golden_vit(lk_golden_model *m) {
    lk_vit_config c;
    LK_TRY(lk_vit_config_load(config_of(m), &c));
    lk_golden_encoder_outputs(m, lk_vit(&m->net, &c, lk_golden_input(m, "pixel_values")), "embeds");
    return LK_OK;
}

lk_err lk_golden_unet_svd(lk_golden_model *m) {
    lk_svd_config c;
    LK_TRY(lk_svd_config_load(config_of(m), &c));
    lk_golden_output(m, "sample", lk_unet_svd(&m->net, &c, lk_golden_input(m, "sample"), lk_golden_input(m, "timestep"), lk_golden_input(m, "encoder_hidden_states"),
                                              lk_golden_input(m, "added_time_ids")));
    return LK_OK;
}
