/* losses/alignment: keeping what the model draws for a prompt while a person is inserted: the cross-attention of the path with the adapter
 * is held to that of the path without (PuLID: Guo et al. 2024, arXiv:2404.16022, equations 3 to 5). Builds graph only. */
#ifndef LK_LOSSES_ALIGNMENT_H
#define LK_LOSSES_ALIGNMENT_H
#include "graph/graph.h"

/* One cross-attention layer: queries of the picture [B, T, D], keys of the text [B, S, D]. */
typedef struct { lk_val q, k; int heads; } lk_cross_attention;
/* Semantic: what each text token gathers from the picture's queries, softmax(K Q^T / sqrt d) Q a head. Mean squared difference; `without` is
 * detached. -> [] */
lk_val lk_alignment_semantic(lk_graph *, lk_cross_attention with, lk_cross_attention without);
/* Layout: the queries themselves. -> [] */
lk_val lk_alignment_layout(lk_graph *, lk_cross_attention with, lk_cross_attention without);
/* semantic * their sum + layout * theirs over n layers, each divided by n. Published weights: .6 and .1. */
lk_val lk_alignment_loss(lk_graph *, const lk_cross_attention *with, const lk_cross_attention *without, int n, double semantic, double layout);
#endif
