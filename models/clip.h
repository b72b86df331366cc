/* The transformer both CLIP towers share (clip_text.c, clip_vision.c). Private to models/. */
#ifndef LK_MODELS_CLIP_H
#define LK_MODELS_CLIP_H
#include "models/config.h"

typedef struct { int64_t hidden, intermediate, layers, heads; double eps; lk_act act; bool causal; } lk_clip_tower;
/* Reads hidden_size, intermediate_size, layers, heads, activation, epsilon; defaults are transformers' for this tower. */
lk_err lk_clip_tower_read(const json_t *, const char *path, lk_clip_tower dflt, lk_clip_tower *);
/* x [B, T, D] -> the output of the last layer; states: layers + 1 values in the graph's arena. net: scoped to "...encoder.". */
lk_val lk_clip_encoder(const lk_net *, const lk_clip_tower *, lk_val x, const lk_val **states);
#endif
