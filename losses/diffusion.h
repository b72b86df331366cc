/* losses/diffusion: what a diffusion or flow-matching model is asked to predict, and how wrong it is. Builds graph only.
 *
 * x_t = alpha x0 + sigma noise, with alpha and sigma of each sample's timestep ([B], from lk_scheduler_marginal). */
#ifndef LK_LOSSES_DIFFUSION_H
#define LK_LOSSES_DIFFUSION_H
#include "graph/graph.h"

typedef enum { LK_PREDICT_EPSILON, LK_PREDICT_V, LK_PREDICT_X0, LK_PREDICT_FLOW } lk_predict;
/* "epsilon", "v_prediction", "sample", "flow_prediction" (also "flow"). */
lk_err lk_predict_parse(const char *name, lk_predict *out);

/* x [B, ...] times s [B], sample by sample. */
lk_val lk_per_sample(lk_graph *, lk_val x, lk_val s);
lk_val lk_noised(lk_graph *, lk_val x0, lk_val noise, lk_val alpha, lk_val sigma);
/* noise + strength * draw, draw [B, C, 1, 1]: the offset is part of the target too. */
lk_val lk_noise_offset(lk_graph *, lk_val noise, lk_val draw, double strength);
/* epsilon: noise; v: alpha noise - sigma x0 (Salimans & Ho 2022, arXiv:2202.00512); x0; flow: noise - x0. */
lk_val lk_diffusion_target(lk_graph *, lk_predict, lk_val x0, lk_val noise, lk_val alpha, lk_val sigma);
/* x0 from a prediction: for losses on the clean image. Flow: alpha = 1 - sigma. */
lk_val lk_diffusion_x0(lk_graph *, lk_predict, lk_val x_t, lk_val prediction, lk_val alpha, lk_val sigma);
/* Mean over everything of (prediction - target)^2; weight [B] (or LK_NONE) multiplies each sample's own mean. -> [] */
lk_val lk_diffusion_loss(lk_graph *, lk_val prediction, lk_val target, lk_val weight);
/* The same with pseudo-Huber sqrt(d^2 + c^2) - c in place of d^2 (Song & Dhariwal 2023, arXiv:2310.14189). c > 0 */
lk_val lk_diffusion_huber(lk_graph *, lk_val prediction, lk_val target, double c, lk_val weight);
/* Squared error where mask (broadcasts to the prediction, >= 0, not all 0) counts: sum of mask d^2 over sum of mask, a sample. */
lk_val lk_diffusion_masked(lk_graph *, lk_val prediction, lk_val target, lk_val mask, lk_val weight);
#endif
