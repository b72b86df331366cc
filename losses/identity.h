/* losses/identity: likeness to a person as a loss, on embeddings of a face recogniser; smoothness of pictures. Builds graph only. The
 * recogniser that serves here must not be the one that judges. */
#ifndef LK_LOSSES_IDENTITY_H
#define LK_LOSSES_IDENTITY_H
#include "graph/graph.h"

/* 1 - cosine to the reference embedding, mean over samples whose gate is open. embeddings [B, D], reference [1, D] (detached), gate [B] of 0 and
 * 1 or LK_NONE; closed for all: 0. PuLID (Guo et al. 2024, arXiv:2404.16022, equation 6). -> [] */
lk_val lk_identity_loss(lk_graph *, lk_val embeddings, lk_val reference, lk_val gate);
/* Total variation: mean absolute difference of neighbouring pixels, along x and along y, summed. x [B, C, H, W] -> [] */
lk_val lk_total_variation(lk_graph *, lk_val x);
/* Features of a frozen network kept near those of another picture: mean squared difference of unit-length features; b detached. -> [] */
lk_val lk_feature_loss(lk_graph *, lk_val a /* [B, D] */, lk_val b);
#endif
