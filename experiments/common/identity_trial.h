/* identity_trial: a trial (trial.h) whose training may have an identity branch and other terms in its second stage. An arm is written as a word,
 *     [adapter kind ":"] form [weight] ["+al"] ["+" term weight]... ["k" steps]
 *   none              the diffusion loss alone
 *   acc0.25           identity loss in its accurate form, weight .25; naive1: naive form, weight 1
 *   acc1+al           with the alignment losses (.6, .1);  acc1k4: back through the last 4 steps (else 1)
 *   none+mask1+tv0.1  other terms (train/terms.h), with or without identity loss
 *   dora:acc1         another adapter kind: lora (if nothing is said), dora, full (every linear layer and convolution of the UNet), and
 *   id:none           the ID adapter, trained once on the base people (models/id_adapter): no training here, so no losses either */
#ifndef LK_IDENTITY_TRIAL_H
#define LK_IDENTITY_TRIAL_H
#include "experiments/common/trial.h"
#include "train/identity.h"
#include "train/terms.h"

typedef enum { LK_KIND_LORA, LK_KIND_DORA, LK_KIND_FULL, LK_KIND_ID, LK_KINDS } lk_adapter_kind;
typedef struct { lk_adapter_kind kind; bool none, aligned; lk_id_form form; double weight; int through; double term[LK_TERMS]; } lk_id_arm;      /* none: no identity loss */
lk_err lk_id_arm_parse(const char *word, lk_id_arm *);
const char *lk_adapter_kind_word(lk_adapter_kind);
bool   lk_id_arm_plain(const lk_id_arm *);                /* the diffusion loss alone */
bool   lk_id_arm_terms(const lk_id_arm *);                /* any of terms.h */
/* Trains rank `rank` on the references: `first` steps by the diffusion loss, the rest with the identity branch; samples with the result. Settings read
 * besides trial.h's: first, id_batch, id_prompts, gate, full_lr, vgg, clip. Before anything is trained: the references must be one person by the judge. */
lk_err lk_identity_adapter(lk_trial *, int rank, const char *arm);
/* Damage outside the face between the pictures with and without adapter from the same noise: final "background" (mean absolute difference, share
 * of the range), outside a fixed ellipse of the common frame. After lk_trial_generated. */
lk_err lk_identity_background(lk_trial *);
/* Wide canvases (two_faces.h) with what was trained: the adapter's values, or the ID adapter, in a sampler of two frames across. Setting canvases 0: nothing. */
lk_err lk_identity_canvases(lk_trial *);
/* Control: the identity loss spent on the pixels of strangers' photos, `pixel_steps` AdamW steps of `pixel_rate` grey levels; scored as pictures. */
lk_err lk_identity_pixels(lk_trial *);
/* Before a sweep: the arm's word, K, weights, that there is a student, that the stages fit. */
lk_err lk_identity_check(lk_ctx *, const char *arm);
lk_err lk_identity_memory(lk_ctx *, int rank, const char *arm);
#endif
