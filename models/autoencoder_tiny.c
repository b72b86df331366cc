/* AutoencoderTiny (TAESD). Layers are numbered as in one list: activation and upsampling take a number, too. The encoder maps [-1, 1]
 * to [0, 1] first, the decoder clamps by 3 tanh(x / 3) first and maps back last; neither applies the scaling factor. */
#include "models/config.h"
#include <string.h>

static const lk_config_rule rules[] = {
    { "in_channels" }, { "out_channels" }, { "encoder_block_out_channels" }, { "decoder_block_out_channels" }, { "block_out_channels" }, { "act_fn" },
    { "latent_channels" }, { "upsampling_scaling_factor", "2" }, { "num_encoder_blocks" }, { "num_decoder_blocks" }, { "latent_magnitude", "3|3.0" },
    { "latent_shift" }, { "force_upcast" }, { "scaling_factor" }, { "shift_factor" }, { "upsample_fn", "\"nearest\"" }, { NULL } };

static lk_err read_config(const json_t *j, const char *path, lk_tiny_vae_config *c) {
    LK_TRY(lk_config_length(j, "encoder_block_out_channels", path, LK_MAX_LEVELS, &c->levels));
    LK_TRY(lk_config_counts(j, "encoder_block_out_channels", path, 64, c->levels, 1, 1 << 12, c->enc_channels));
    LK_TRY(lk_config_counts(j, "decoder_block_out_channels", path, 64, c->levels, 1, 1 << 12, c->dec_channels));
    LK_TRY(lk_config_counts(j, "num_encoder_blocks", path, 3, c->levels, 0, 64, c->enc_blocks));
    LK_TRY(lk_config_counts(j, "num_decoder_blocks", path, 3, c->levels, 0, 64, c->dec_blocks));
    for (int i = 1; i < c->levels; i++)
        if (c->enc_channels[i] != c->enc_channels[0] || c->dec_channels[i] != c->dec_channels[0])
            return lk_error(LK_EINPUT, "%s: block_out_channels differ from level to level, which this class cannot run", path);
    LK_TRY(lk_config_count(j, "in_channels", path, 3, 1, 1 << 12, &c->in_channels));
    LK_TRY(lk_config_count(j, "out_channels", path, 3, 1, 1 << 12, &c->out_channels));
    LK_TRY(lk_config_count(j, "latent_channels", path, 4, 1, 1 << 12, &c->latent_channels));
    c->latent_magnitude = 3;
    LK_TRY(lk_json_real(j, "latent_shift", path, 0.5, &c->latent_shift));
    LK_TRY(lk_json_real(j, "scaling_factor", path, 1, &c->scaling_factor));
    LK_TRY(lk_json_real(j, "shift_factor", path, 0, &c->shift_factor));
    return lk_config_act(j, "act_fn", path, "relu", &c->act);
}

lk_err lk_tiny_vae_config_load(const char *path, lk_tiny_vae_config *c) {
    json_t *j;
    memset(c, 0, sizeof *c);
    LK_TRY(lk_config_open(path, (const char *[]){ "AutoencoderTiny", NULL }, rules, &j));
    lk_err err = read_config(j, path, c);
    json_decref(j);
    return err;
}

static lk_val conv_at(const lk_net *net, int *layer, lk_val x, int64_t in, int64_t out, int stride, bool bias) {
    lk_net layers = lk_net_sub(net, "layers");
    return lk_nn_conv2d(&layers, lk_fmt(lk_graph_arena(net->g), "%d", (*layer)++), x, in, out, 3, stride, 1, bias);
}

/* Three convolutions and the identity, then relu whatever the activation inside. */
static lk_val block_at(const lk_net *net, int *layer, const lk_tiny_vae_config *c, lk_val x, int64_t dim) {
    lk_graph *g = net->g;
    lk_net conv = lk_net_sub(net, "layers.%d.conv", (*layer)++);
    lk_val h = lk_activate(g, lk_nn_conv2d(&conv, "0", x, dim, dim, 3, 1, 1, true), c->act);
    h = lk_activate(g, lk_nn_conv2d(&conv, "2", h, dim, dim, 3, 1, 1, true), c->act);
    return lk_relu(g, lk_add(g, lk_nn_conv2d(&conv, "4", h, dim, dim, 3, 1, 1, true), x));
}

lk_val lk_tiny_vae_encode(const lk_net *net, const lk_tiny_vae_config *c, lk_val image) {
    lk_net enc = lk_net_sub(net, "encoder");
    lk_val x = lk_scale(net->g, lk_shift(net->g, image, 1), 0.5);
    int layer = 0;
    for (int i = 0; i < c->levels; i++) {
        int64_t dim = c->enc_channels[i];
        x = conv_at(&enc, &layer, x, i ? dim : c->in_channels, dim, i ? 2 : 1, !i);
        for (int64_t j = 0; j < c->enc_blocks[i]; j++) x = block_at(&enc, &layer, c, x, dim);
    }
    return conv_at(&enc, &layer, x, c->enc_channels[c->levels - 1], c->latent_channels, 1, true);
}

lk_val lk_tiny_vae_decode(const lk_net *net, const lk_tiny_vae_config *c, lk_val latent) {
    lk_graph *g = net->g;
    lk_net dec = lk_net_sub(net, "decoder");
    lk_val x = lk_scale(g, lk_tanh(g, lk_scale(g, latent, 1.0 / (double)c->latent_magnitude)), (double)c->latent_magnitude);
    int layer = 0;
    x = lk_activate(g, conv_at(&dec, &layer, x, c->latent_channels, c->dec_channels[0], 1, true), c->act);
    layer++;                                              /* the activation */
    for (int i = 0; i < c->levels; i++) {
        int64_t dim = c->dec_channels[i];
        bool last = i == c->levels - 1;
        for (int64_t j = 0; j < c->dec_blocks[i]; j++) x = block_at(&dec, &layer, c, x, dim);
        if (!last) { x = lk_upsample_nearest(g, x, 2 * (int)lk_dim(g, x, 2), 2 * (int)lk_dim(g, x, 3)); layer++; }
        x = conv_at(&dec, &layer, x, dim, last ? c->out_channels : dim, 1, last);
    }
    return lk_shift(g, lk_scale(g, x, 2), -1);
}
