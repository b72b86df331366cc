/* identity: the branch of a training step that makes pictures and asks a recogniser who is on them (PuLID: Guo et al. 2024,
 * arXiv:2404.16022). It is the extra loss of a personaliser (personalise.h): one adapter, two branches, one update.
 *
 * Accurate form: pure noise, the few-step student with the person's adapter, the autoencoder's decoder, the fixed face warp, mobilefacenet,
 * 1 - cosine to the references' mean. Gradients go back through the last `through` denoising steps, decoder, warp and recogniser; what
 * came before is detached, text and references are constants. Naive form: the clean image guessed from one noised latent of the
 * diffusion branch. Frames are aligned already (the common frame), so the warp is the ground truth's in both. */
#ifndef LK_TRAIN_IDENTITY_H
#define LK_TRAIN_IDENTITY_H
#include "losses/alignment.h"
#include "losses/distillation.h"
#include "losses/identity.h"
#include "models/face.h"
#include "models/student.h"
#include "train/personalise.h"

typedef enum { LK_ID_ACCURATE, LK_ID_NAIVE } lk_id_form;
typedef struct {
    lk_id_form form;
    double weight;                    /* of the identity loss; > 0 */
    int batch;                        /* accurate: pictures drawn a step */
    int steps, through;               /* accurate: denoising steps, and through how many of the last the gradient goes */
    double semantic, layout;          /* accurate: alignment with the path without adapter; 0, 0: none. Published: .6, .1 */
    double total_variation;           /* weight; 0: none */
    double features;                  /* accurate: weight of lk_feature_loss between the picture's recogniser features and those of the path without adapter; 0: none */
    double gate;                      /* naive: only samples noised to a timestep below it count; 0: all */
    bool cut;                         /* plants a fault: the latents are detached before the decoder, so no gradient may remain */
    const char *student;              /* NULL: LK_STUDENT_PATH */
} lk_id_opts;
/* K of 0 or above the steps, weights below 0, a student that is not there: refused with what would be valid. */
lk_err lk_id_check(const lk_id_opts *);
/* Frames [n][3][64][64] are one person's by the judge: every pair within dlib's own threshold of .6 (its README); else the pair is named. */
lk_err lk_id_one_person(lk_faces *, const float *frames, int n);
/* The mean of the frames' unit-length mobilefacenet embeddings, unit length: [lk_recogniser_dim(LK_MOBILEFACENET)]. */
lk_err lk_id_reference(lk_faces *, const float *frames, int n, float *out);

typedef struct lk_id_branch lk_id_branch;
/* prompts: what the accurate form draws, one picked a sample and step by (seed, step). reference as lk_id_reference gives it. Zoo and options are
 * borrowed. */
lk_err lk_id_branch_new(const lk_zoo *, lk_id_opts, const char *const *prompts, int n_prompts, const float *reference, uint64_t seed, lk_pool *, lk_id_branch **);
/* Without weights, prompts or checks of files: only its build may be called, on models of whatever config the zoo names. */
lk_err lk_id_branch_graph_only(const lk_zoo *, lk_id_opts, const float *reference, lk_id_branch **);
void   lk_id_branch_free(lk_id_branch *);
const lk_extra_loss *lk_id_branch_loss(const lk_id_branch *);
lk_val lk_id_branch_frames(const lk_id_branch *);             /* what it draws, once built: [B, 3, 64, 64], 0..255 unclamped */
#endif
