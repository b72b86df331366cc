/* models: the public model classes as graph builders. Read this header first; nn.h tells how parameters are
 * named, lora.h how adapters join in.
 *
 * A model is two things: a config, read from the checkpoint's own config.json, and a builder that adds the
 * model's nodes to a graph and returns its outputs. A builder computes nothing and reads no weights; lk_weights_bind
 * (nn.h) does. Shapes follow the config, parameter names are those of the Hub's checkpoints.
 *
 * A config value that would change the result and that the builder does not implement is refused by name, never
 * ignored; so is an unknown key of a diffusers config and an unknown class. Builders report through the graph
 * (sticky errors, lk_graph_error).
 *
 * Timesteps and guidance are F32 [B] (integers are exact), token ids I64 [B, T], images and latents [N, C, H, W],
 * token sequences [B, T, D]. Arithmetic is F32 throughout: upcast flags of the configs change nothing here. */
#ifndef LK_MODELS_H
#define LK_MODELS_H
#include "models/nn.h"
#include "models/lora.h"

enum { LK_MAX_LEVELS = 8, LK_MAX_SKIPS = 64 };
typedef enum { LK_ACT_SILU, LK_ACT_GELU, LK_ACT_GELU_TANH, LK_ACT_QUICK_GELU, LK_ACT_RELU } lk_act;
lk_val lk_activate(lk_graph *, lk_val, lk_act);

/* ---- classes ---------------------------------------------------------------------------------------------------- */
/* `_class_name` (diffusers) or the first of `architectures` (transformers); a name this library has no builder for is
 * refused with the nearest known one. The result is a static string. */
lk_err lk_model_class(const char *config_path, const char **name);

/* ---- UNet2DConditionModel: SD 1.x, SD 2.x, SDXL, the refiner, LCM (unet2d.c, unet_blocks.c) ------------------------ */
typedef struct {
    int levels;                                         /* down blocks; up blocks mirror them */
    int64_t in_channels, out_channels, sample_size;
    int64_t channels[LK_MAX_LEVELS];                    /* block_out_channels */
    int64_t layers[LK_MAX_LEVELS];                      /* layers_per_block; the up block has one more */
    int64_t heads[LK_MAX_LEVELS];                       /* attention_head_dim: in this class the NUMBER of heads */
    int64_t depth[LK_MAX_LEVELS], up_depth[LK_MAX_LEVELS];   /* transformer_layers_per_block; up_depth by up block */
    int64_t context[LK_MAX_LEVELS];                     /* cross_attention_dim */
    bool down_attn[LK_MAX_LEVELS], up_attn[LK_MAX_LEVELS];
    int64_t text_dim;                                   /* encoder_hid_dim: width of the text before encoder_hid_proj (Kolors); 0: none */
    bool mid, mid_attn;                                 /* mid_block_type: null; UNetMidBlock2D; UNetMidBlock2DCrossAttn */
    int groups; double eps;
    bool linear_proj;                                   /* use_linear_projection: proj_in, proj_out on tokens, not 1x1 convs */
    bool flip_sin_to_cos; double freq_shift;
    bool center_input;
    int64_t time_dim, time_cond_dim;                    /* time embedding width; time_cond_proj_dim (LCM), 0: none */
    bool only_cross[LK_MAX_LEVELS];                     /* only_cross_attention: attn1 looks at the text, too (the x4 upscaler) */
    enum { LK_CLASS_NONE, LK_CLASS_TABLE, LK_CLASS_TIMESTEP, LK_CLASS_IDENTITY, LK_CLASS_PROJECTION, LK_CLASS_SIMPLE } class_kind;
    int64_t classes;                                    /* num_class_embeds: rows of the table */
    bool text_time; int64_t add_time_dim, add_in_dim;   /* addition_time_embed_dim, projection_class_embeddings_input_dim */
    /* ControlNetModel only */
    int64_t cond_channels; int cond_levels; int64_t cond_widths[LK_MAX_LEVELS]; bool cond_bgr;
    bool global_pool;
} lk_unet_config;
/* What some UNets are given besides sample, timestep and context; zero-initialised by LK_UNET_PLAIN. */
typedef struct {
    lk_val text_embeds;                                 /* [B, P] pooled text (text_time) */
    lk_val time_ids;                                    /* [B, 6]: original h, w, crop top, left, target h, w (refiner: 5) */
    lk_val timestep_cond;                               /* [B, time_cond_dim] guidance embedding of LCM; LK_NONE: none */
    const lk_val *down_residuals; int n_down;           /* ControlNet: added to the skips, conv_in's first */
    lk_val mid_residual;                                /* ControlNet: added after the mid block */
    lk_val class_labels;                                /* of class_embed_type: [B] ids (I64) or timesteps, else [B, its input dim] */
} lk_unet_extra;
#define LK_UNET_PLAIN ((lk_unet_extra){LK_NONE, LK_NONE, LK_NONE, NULL, 0, LK_NONE, LK_NONE})
lk_err lk_unet_config_load(const char *path, lk_unet_config *);
/* sample [B, in, H, W], timestep [B], context [B, T, context dim] -> [B, out, H, W]. H and W need not be divisible. A context of n B rows
 * (n <= 8; guidance: 2) gives n B outputs, the samples repeated: the same bits as repeating them first, with the shared part computed once. */
lk_val lk_unet2d(const lk_net *, const lk_unet_config *, lk_val sample, lk_val timestep, lk_val encoder_hidden_states, lk_unet_extra);

/* ---- ControlNetModel (controlnet.c) --------------------------------------------------------------------------------- */
typedef struct { int n; lk_val down[LK_MAX_SKIPS], mid; } lk_control;
lk_err lk_controlnet_config_load(const char *path, lk_unet_config *);
/* cond: [B, 3, 8H, 8W] in [0, 1]. scale multiplies every residual; guess mode instead weighs them by logspace(-1, 0). */
lk_control lk_controlnet(const lk_net *, const lk_unet_config *, lk_val sample, lk_val timestep, lk_val encoder_hidden_states,
                         lk_val cond, double scale, bool guess_mode, lk_unet_extra);

/* ---- AutoencoderKL (autoencoder_kl.c) --------------------------------------------------------------------------------- */
typedef struct {
    int levels;
    int64_t in_channels, out_channels, latent_channels, channels[LK_MAX_LEVELS], layers;
    int groups; bool mid_attn, quant_conv, post_quant_conv;
    double scaling_factor, shift_factor;                /* for callers: latent = (z - shift) * scaling; never applied here */
} lk_vae_config;
lk_err lk_vae_config_load(const char *path, lk_vae_config *);
lk_val lk_vae_encode(const lk_net *, const lk_vae_config *, lk_val image);    /* [B,3,H,W] in [-1,1] -> moments [B, 2L, h, w] = [mean | logvar], unclamped */
lk_val lk_vae_decode(const lk_net *, const lk_vae_config *, lk_val latent);   /* [B,L,h,w] -> [B,3,H,W] */
lk_val lk_vae_mean(lk_graph *, lk_val moments);
lk_val lk_vae_logvar(lk_graph *, lk_val moments);                             /* clamped to [-30, 20] */
lk_val lk_vae_sample(lk_graph *, lk_val moments, lk_val noise);               /* mean + exp(logvar / 2) noise */
/* For lk_weights_bind on a graph with one half only: prefixes of what it may leave out. */
extern const char *const lk_vae_without_encoder[], *const lk_vae_without_decoder[];

/* ---- AutoencoderTiny (autoencoder_tiny.c) -------------------------------------------------------------------------------- */
typedef struct {
    int levels; int64_t in_channels, out_channels, latent_channels, latent_magnitude;
    int64_t enc_channels[LK_MAX_LEVELS], dec_channels[LK_MAX_LEVELS], enc_blocks[LK_MAX_LEVELS], dec_blocks[LK_MAX_LEVELS];
    double scaling_factor, shift_factor, latent_shift; lk_act act;
} lk_tiny_vae_config;
lk_err lk_tiny_vae_config_load(const char *path, lk_tiny_vae_config *);
lk_val lk_tiny_vae_encode(const lk_net *, const lk_tiny_vae_config *, lk_val image);   /* [-1,1] -> latents */
lk_val lk_tiny_vae_decode(const lk_net *, const lk_tiny_vae_config *, lk_val latent);

/* ---- CLIP (clip_text.c, clip_vision.c) --------------------------------------------------------------------------------- */
typedef struct {
    int64_t hidden, intermediate, layers, heads, vocab, positions, projection, eos_token_id;
    double eps; lk_act act; bool project;               /* CLIPTextModelWithProjection, CLIPModel: text_projection exists */
    char scope[32];                                     /* prefix of the encoder's keys: "text_model" */
} lk_clip_text_config;
typedef struct {
    lk_val last_hidden_state;                           /* [B, T, D]; text: after final_layer_norm; vision: before post_layernorm */
    lk_val pooled;                                      /* [B, D]; LK_NONE without a pool index */
    lk_val embeds;                                      /* [B, P] projected; LK_NONE where the class has no projection */
    int n_hidden; const lk_val *hidden;                 /* layers + 1 states: [0] embeddings, [n-1] the last layer, [n-2] penultimate */
} lk_encoder_out;
lk_err lk_clip_text_config_load(const char *path, lk_clip_text_config *);   /* also a CLIPModel's config (its text_config) */
/* ids I64 [B, T]; pool_index I64 [B] from lk_clip_pool_index, or LK_NONE (no pooled output). */
lk_encoder_out lk_clip_text(const lk_net *, const lk_clip_text_config *, lk_val ids, lk_val pool_index);
/* Row of the [B*T, D] hidden states that is pooled: b*T + position. eos_token_id 2 in the config: position of the largest id
 * (first of equals); else first position of that id, 0 if absent. */
void lk_clip_pool_index(const lk_clip_text_config *, const int64_t *ids, int64_t batch, int64_t length, int64_t *index);

typedef struct {
    int64_t hidden, intermediate, layers, heads, channels, image, patch, projection;
    double eps; lk_act act; bool project;
} lk_clip_vision_config;
lk_err lk_clip_vision_config_load(const char *path, lk_clip_vision_config *);
lk_encoder_out lk_clip_vision(const lk_net *, const lk_clip_vision_config *, lk_val pixels /* [B, C, image, image] */);

/* ---- DINOv2 (dinov2.c) --------------------------------------------------------------------------------------------------- */
typedef struct {
    int64_t hidden, layers, heads, channels, image, patch, mlp;   /* mlp: width of the feed-forward (or of each half, swiglu) */
    double eps; bool swiglu, qkv_bias, mask_token; lk_act act;
} lk_dinov2_config;
lk_err lk_dinov2_config_load(const char *path, lk_dinov2_config *);
/* Sizes other than the config's resample the position table bicubically. last_hidden_state is after the final layernorm. */
lk_encoder_out lk_dinov2(const lk_net *, const lk_dinov2_config *, lk_val pixels /* [B, C, H, W], multiples of the patch */);

/* ---- ViT: DINO (vit.c) ---------------------------------------------------------------------------------------------------- */
typedef struct { int64_t hidden, layers, heads, channels, image, patch, mlp; double eps; bool qkv_bias; lk_act act; } lk_vit_config;
lk_err lk_vit_config_load(const char *path, lk_vit_config *);
lk_encoder_out lk_vit(const lk_net *, const lk_vit_config *, lk_val pixels /* [B, C, image, image] */);      /* pooled: the class token after layernorm */

/* ---- diffusion transformers (dit_sd3.c, dit_flux.c, dit_qwenimage.c) --------------------------------------------------------- */
typedef struct {
    int64_t layers, single_layers, heads, head_dim, in_channels, out_channels, patch, joint_dim, pooled_dim, caption_dim;
    int64_t pos_embed_max, sample_size; bool rms_qk, guidance;
    bool dual[256];                                     /* SD3.5: blocks with a second, image-only attention */
    int axes; int axes_dims[4];                         /* RoPE widths per axis */
} lk_dit_config;
lk_err lk_sd3_config_load(const char *path, lk_dit_config *);
lk_err lk_flux_config_load(const char *path, lk_dit_config *);
lk_err lk_qwenimage_config_load(const char *path, lk_dit_config *);
/* latent [B,C,H,W], context [B,T,joint], pooled [B,P], timestep [B] in 0..1000 -> [B,C,H,W] */
lk_val lk_sd3_transformer(const lk_net *, const lk_dit_config *, lk_val latent, lk_val context, lk_val pooled, lk_val timestep);
/* tokens [B,T,C], timestep and guidance [B] in [0,1] and e.g. 3.5, ids [T,3] -> [B,T,C] */
lk_val lk_flux_transformer(const lk_net *, const lk_dit_config *, lk_val tokens, lk_val context, lk_val pooled, lk_val timestep,
                           lk_val img_ids, lk_val txt_ids, lk_val guidance);
/* mask: F32 [B, T] of 0/1 or LK_NONE; img_shapes: n rows (frames, h, w) in patches, whose tokens follow one another. timestep in [0,1]. */
lk_val lk_qwenimage_transformer(const lk_net *, const lk_dit_config *, lk_val tokens, lk_val context, lk_val mask, lk_val timestep,
                                const int64_t (*img_shapes)[3], int n);

/* ---- UNetSpatioTemporalConditionModel: SVD (unet_svd.c) ----------------------------------------------------------------------- */
typedef struct {
    int levels; int64_t in_channels, out_channels, channels[LK_MAX_LEVELS], layers[LK_MAX_LEVELS], heads[LK_MAX_LEVELS],
            depth[LK_MAX_LEVELS], context[LK_MAX_LEVELS], frames, add_time_dim, add_in_dim;
    bool down_attn[LK_MAX_LEVELS], up_attn[LK_MAX_LEVELS]; int groups;
} lk_svd_config;
lk_err lk_svd_config_load(const char *path, lk_svd_config *);
/* sample [B,F,C,H,W], timestep [B], image embedding [B,T,D], added_time_ids [B,3] -> [B,F,out,H,W] */
lk_val lk_unet_svd(const lk_net *, const lk_svd_config *, lk_val sample, lk_val timestep, lk_val encoder_hidden_states, lk_val added_time_ids);
#endif
