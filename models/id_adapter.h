/* id_adapter: a face recogniser's embedding as a second prompt. A small encoder turns it into a few tokens; new key and value projections let every
 * cross-attention layer attend to them, and what they give is added to what the text gave: IP-Adapter's decoupled cross-attention (Ye et al. 2023,
 * arXiv:2308.06721, equation 5) with the encoder of its FaceID kind (linear, GELU, linear, LayerNorm), which PuLID builds on. Trained once, used for
 * people never seen, without training a person. Builds graph only; the model's builder knows nothing of it (lk_net.guest).
 *
 * Params are named as IP-Adapter's: "image_proj.proj.0.weight", "image_proj.norm.weight", "<layer>.processor.to_k_ip.weight"; in a graph they stand
 * under LK_ID_ADAPTER_PREFIX, so lk_weights_bind loads a file and several copies of a model share one adapter. */
#ifndef LK_ID_ADAPTER_H
#define LK_ID_ADAPTER_H
#include "models/zoo.h"

#define LK_ID_ADAPTER_PREFIX "id_adapter/"
#define LK_ID_ADAPTER_PATH "models/id_adapter/adapter.safetensors"
typedef struct { int64_t embedding, hidden, width; int tokens; } lk_id_adapter_config;     /* width: the UNet's cross_attention_dim */
extern const lk_id_adapter_config lk_zoo_id_adapter;      /* 192, 160, 96, 4: 332,512 values with the zoo's layers; a LoRA of rank 4 has 332,672 */
typedef struct { lk_id_adapter_config config; lk_val tokens; lk_attention_guest guest; } lk_id_adapter;
/* Makes a's guest attend to the tokens of `embedding` [B, E] (unit length; zeros: nobody). Set net.guest = &a->guest before the model is built with a batch
 * of B; a must outlive that call. */
void   lk_id_adapter_join(lk_id_adapter *a, lk_id_adapter_config, lk_graph *, lk_val embedding);
/* Encoder by torch's defaults, stream the param's name; keys and values start as the layer's own (which must be bound already), as published. */
lk_err lk_id_adapter_init(lk_exec *, uint64_t seed);
/* Into a graph that it joined. A file trained on another base is refused by the digest in its header. */
lk_err lk_id_adapter_load(lk_exec *, const lk_zoo *, const char *path);
#endif
