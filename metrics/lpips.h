/* lpips: the learned perceptual distance (Zhang et al. 2018, arXiv:1801.03924) as a graph, so that it has a gradient. The lin
 * heads are the published ones of version 0.1 (metrics/lpips/lpips_{alex,vgg,squeeze}.safetensors); the trunk's weights are the caller's. */
#ifndef LK_METRICS_LPIPS_H
#define LK_METRICS_LPIPS_H
#include "models/trunks.h"

/* How a feature vector is made unit length: lpips adds 1e-10 to the root, torchmetrics 1e-8 under it. */
typedef enum { LK_UNIT_LPIPS, LK_UNIT_TORCHMETRICS } lk_unit;
/* Over axis 1. lpips' gradient is 0/0 where a whole vector is zero; here it is 0. */
lk_val lk_unit_channels(lk_graph *, lk_val x, lk_unit);

typedef struct { lk_trunk trunk; lk_unit unit; bool plain; /* no lin heads: squared differences add over channels as they are */ } lk_lpips_variant;
const char *lk_lpips_heads(lk_trunk);                  /* "metrics/lpips/lpips_alex.safetensors" */
/* a, b [N, 3, H, W] in [-1, 1] -> [N]. The trunk's params have net's names; the heads' are "lin/lin0.model.1.weight", ... (bind them with
 * prefix "lin/"). per_layer (or NULL) receives lk_trunk_taps values of shape [N], which the result adds first to last. */
lk_val lk_lpips(const lk_net *, lk_lpips_variant, lk_val a, lk_val b, lk_val *per_layer);
/* One picture's half of it: x [N, 3, H, W] -> [N, D] such that the squared distance of two vectors is their LPIPS (to rounding), so that all
 * pairs of n pictures need n passes. The heads' weights must not be negative (the published ones are not). */
lk_val lk_lpips_vector(const lk_net *, lk_lpips_variant, lk_val x);
#endif
