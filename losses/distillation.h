/* losses/distillation: how a student learns from a teacher's chain. Builds graph only; coefficients of a sample's timesteps are
 * computed by the host in binary64 and given as [B] inputs. Teacher sides are detached: they receive no gradient. */
#ifndef LK_LOSSES_DISTILLATION_H
#define LK_LOSSES_DISTILLATION_H
#include "losses/diffusion.h"

/* A deterministic solver step is affine in the sample and the prediction: x' = on_x x + on_prediction m, from (alpha, sigma) to
 * (alpha2, sigma2), by DDIM (Song et al. 2021, arXiv:2010.02502, equation 12, eta 0), for flow by Euler. sigma and, for epsilon, alpha
 * of the start must not be 0. */
typedef struct { double on_x, on_prediction; } lk_jump;
lk_jump lk_jump_between(lk_predict, double alpha, double sigma, double alpha2, double sigma2);
/* x, m [B, ...]; on_x, on_prediction [B] -> [B, ...] */
lk_val lk_jump_to(lk_graph *, lk_val x, lk_val m, lk_val on_x, lk_val on_prediction);

/* Progressive distillation (Salimans & Ho 2022, arXiv:2202.00512; Lin et al. 2024, arXiv:2402.13929, equation 2): where the student's one
 * step lands against where the teacher's k steps land. weight [B] multiplies each sample's mean square; 1/on_prediction^2 makes it the
 * error of the prediction. -> [] */
lk_val lk_distillation_loss(lk_graph *, lk_val student, lk_val teacher, lk_val weight);
/* The same over several points of a trajectory, the mean of their losses. n >= 1 */
lk_val lk_trajectory_loss(lk_graph *, const lk_val *student, const lk_val *teacher, const lk_val *weight /* NULL: none */, int n);

/* Consistency models: f = skip x + out x0 with skip = s^2/(u^2 + s^2), out = u/sqrt(u^2 + s^2), u = timestep * scaling: f is x itself at
 * timestep 0 (Luo et al. 2023, arXiv:2310.04378; s = .5, scaling 10). */
typedef struct { double skip, out; } lk_boundary;
lk_boundary lk_consistency_boundary(double timestep, double sigma_data, double scaling);
lk_val lk_consistency_output(lk_graph *, lk_val x, lk_val x0, lk_val skip /* [B] */, lk_val out);
/* mean of sqrt((a - b)^2 + c^2) - c, elementwise; c = .001 (Song & Dhariwal 2023, arXiv:2310.14189). b is detached. -> [] */
lk_val lk_pseudo_huber(lk_graph *, lk_val a, lk_val b, double c);

/* Distribution matching (Yin et al. 2024, arXiv:2311.18828, equations 7 and 8): its gradient with respect to x is
 * (fake - real) / mean|x - real| of the sample, both scores given as x0 of the noised x, divided by the count. -> [] */
lk_val lk_distribution_matching(lk_graph *, lk_val x, lk_val x0_real, lk_val x0_fake);
/* Score distillation of adversarial diffusion distillation (Sauer et al. 2023, arXiv:2311.17042): weight [B] times the squared distance
 * to the teacher's x0 of the noised sample, detached. -> [] */
lk_val lk_score_distillation(lk_graph *, lk_val x, lk_val x0_teacher, lk_val weight);
#endif
