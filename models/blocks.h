/* blocks: what several models are built of. Private to models/. Every function takes the net already scoped to
 * the block ("down_blocks.0.resnets.1."), so that inner names are the checkpoint's own. */
#ifndef LK_MODELS_BLOCKS_H
#define LK_MODELS_BLOCKS_H
#include "models/models.h"

/* linear_1, silu, linear_2 (TimestepEmbedding, PixArt-style text projections: other names). */
lk_val lk_block_time_embedding(const lk_net *, lk_val x, int64_t in, int64_t dim);
/* ResnetBlock2D. temb [B, time_dim] or LK_NONE (autoencoders). */
lk_val lk_block_resnet(const lk_net *, lk_val x, lk_val temb, int64_t time_dim, int64_t in, int64_t out, int groups, double eps);
lk_val lk_block_downsample(const lk_net *, lk_val x, int64_t channels);                    /* stride 2, padded by 1 on all sides */
lk_val lk_block_downsample_bottom_right(const lk_net *, lk_val x, int64_t channels);       /* stride 2, padded right and bottom (autoencoder) */
lk_val lk_block_upsample(const lk_net *, lk_val x, int64_t channels, int64_t h, int64_t w);/* nearest to h x w, then 3x3 */
/* v, or v once more for every further group of rows that `other` has: what guidance's halves share is computed once, up to the first
 * layer that sees their texts. */
lk_val lk_rows_for(lk_graph *, lk_val v, lk_val other);
/* Attention of [B, T, dim] to context [B, S, context_dim]; to_q, to_k, to_v (without bias unless qkv_bias), to_out.0. */
lk_val lk_block_attention(const lk_net *, lk_val x, lk_val context, int64_t dim, int64_t context_dim, int64_t heads, bool qkv_bias);
lk_val lk_block_geglu(const lk_net *, lk_val x, int64_t in, int64_t out);                  /* "ff": net.0.proj, net.2, four times wide */
lk_val lk_block_transformer(const lk_net *, lk_val x, lk_val context, int64_t dim, int64_t context_dim, int64_t heads, bool only_cross);  /* BasicTransformerBlock; only_cross: attn1 attends to the context, too */
/* Transformer2DModel: norm, proj_in, blocks, proj_out, residual. */
lk_val lk_block_transformer2d(const lk_net *, lk_val x, lk_val context, int64_t channels, int64_t context_dim, int64_t heads, int64_t depth, int groups, bool linear_proj, bool only_cross);
lk_val lk_tokens_of(lk_graph *, lk_val image);                                             /* [B,C,H,W] -> [B,HW,C] */
lk_val lk_image_of(lk_graph *, lk_val tokens, int64_t h, int64_t w);                       /* back */
lk_val lk_add_channels(lk_graph *, lk_val image, lk_val v);                                /* [B,C,H,W] + [B,C] */

/* The half of a UNet that a ControlNet shares: time embedding, conv_in, down blocks, mid block. */
typedef struct { lk_val x, temb; int n; lk_val skip[LK_MAX_SKIPS]; } lk_unet_down;
lk_val       lk_unet_time(const lk_net *, const lk_unet_config *, lk_val timestep, lk_unet_extra);
void         lk_unet_run_down(const lk_net *, const lk_unet_config *, lk_unet_down *, lk_val context);
lk_val       lk_unet_run_mid(const lk_net *, const lk_unet_config *, lk_val x, lk_val temb, lk_val context);
#endif
