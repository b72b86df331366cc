/* losses/adversarial: the generator's and the critic's side, on logits of any shape. Builds graph only. Nothing here knows whose
 * params are trained: the generator's loss is differentiated with respect to the generator's params alone, the critic's with respect
 * to the critic's, so neither's update can leak into the other. */
#ifndef LK_LOSSES_ADVERSARIAL_H
#define LK_LOSSES_ADVERSARIAL_H
#include "graph/graph.h"

typedef enum { LK_NON_SATURATING, LK_HINGE } lk_adversarial;
lk_err lk_adversarial_parse(const char *name /* "non_saturating", "hinge" */, lk_adversarial *);
lk_val lk_softplus(lk_graph *, lk_val);              /* log(1 + exp x), without overflow */
/* -log sigmoid(fake) (Goodfellow et al. 2014, arXiv:1406.2661); hinge: -fake (Lim & Ye 2017, arXiv:1705.02894). -> [] */
lk_val lk_generator_loss(lk_graph *, lk_adversarial, lk_val fake);
/* -log sigmoid(real) - log(1 - sigmoid(fake)); hinge: max(0, 1 - real) + max(0, 1 + fake). -> [] */
lk_val lk_critic_loss(lk_graph *, lk_adversarial, lk_val real, lk_val fake);
/* R1 (Mescheder et al. 2018, arXiv:1801.04406): half the mean over samples of |d logits / d input|^2, a second-order term where it
 * is trained on. input [B, ...] must reach the logits. -> [] */
lk_val lk_r1_penalty(lk_graph *, lk_val logits, lk_val input);
#endif
