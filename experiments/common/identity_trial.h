/* identity_trial: a trial (trial.h) whose training has an identity branch in its second stage. An arm is written as a word:
 *   none          the diffusion loss alone
 *   acc0.25       accurate form, weight .25; naive1: naive form, weight 1
 *   acc1+al       with the alignment losses (.6, .1);  acc1k4: back through the last 4 steps (else 1) */
#ifndef LK_IDENTITY_TRIAL_H
#define LK_IDENTITY_TRIAL_H
#include "experiments/common/trial.h"
#include "train/identity.h"

typedef struct { bool none, aligned; lk_id_form form; double weight; int through; } lk_id_arm;
lk_err lk_id_arm_parse(const char *word, lk_id_arm *);
/* Trains rank `rank` on the references: `first` steps by the diffusion loss, the rest with the identity branch; samples with the result. Settings read
 * besides trial.h's: first, id_batch, id_prompts. Before anything is trained: the references must be one person by the judge. */
lk_err lk_identity_adapter(lk_trial *, int rank, const char *arm);
/* Damage outside the face between the pictures with and without adapter from the same noise: final "background" (mean absolute difference, share
 * of the range), outside a fixed ellipse of the common frame. After lk_trial_generated. */
lk_err lk_identity_background(lk_trial *);
/* Control: the identity loss spent on the pixels of strangers' photos, `pixel_steps` AdamW steps of `pixel_rate` grey levels; scored as pictures. */
lk_err lk_identity_pixels(lk_trial *);
/* Before a sweep: the arm's word, K, weights, that there is a student, that the stages fit. */
lk_err lk_identity_check(lk_ctx *, const char *arm);
lk_err lk_identity_memory(lk_ctx *, int rank, const char *arm);
#endif
