/* What the diffusion transformers (SD3, FLUX, Qwen-Image) share. Private to models/. LayerNorms here have no parameters and epsilon 1e-6,
 * sinusoids have 256 channels whatever the width. */
#ifndef LK_MODELS_DIT_H
#define LK_MODELS_DIT_H
#include "models/config.h"

enum { LK_DIT_SINUSOID = 256 };
lk_val lk_dit_time(const lk_net *, const char *name, lk_val t, double scale, int64_t dim);   /* "<name>.linear_1/2" of the sinusoid of scale * t */
lk_val lk_dit_text(const lk_net *, const char *name, lk_val pooled, int64_t in, int64_t dim);
/* n vectors [B, dim] from linear(silu(temb)); `name` is the linear's. */
void   lk_dit_chunks(const lk_net *, const char *name, lk_val temb, int64_t dim, int n, lk_val *out);
lk_val lk_dit_norm(lk_graph *, lk_val x, lk_val shift, lk_val scale);                         /* LayerNorm(x) (1 + scale) + shift */
lk_val lk_dit_gate(lk_graph *, lk_val x, lk_val gate, lk_val branch);                         /* x + gate * branch */
lk_val lk_dit_norm_out(const lk_net *, const char *name, lk_val x, lk_val temb, int64_t dim); /* AdaLayerNormContinuous: (scale, shift) */
lk_val lk_dit_mlp(const lk_net *, lk_val x, int64_t dim);                                     /* "net.0.proj", tanh gelu, "net.2" */
/* One stream's queries, keys and values [B, T, H*D], by four names (q, k, v and the two RMS norms, NULL: none). */
typedef struct { const char *q, *k, *v, *norm_q, *norm_k; } lk_dit_names;
typedef struct { lk_val q, k, v; } lk_qkv;
extern const lk_dit_names lk_dit_image_names, lk_dit_text_names;
lk_qkv lk_dit_qkv(const lk_net *, const lk_dit_names *, lk_val x, int64_t in, int64_t heads, int64_t width, bool rms);
lk_qkv lk_dit_join(lk_graph *, lk_qkv first, lk_qkv second);                                  /* along tokens */
#endif
