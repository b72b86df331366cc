/* What distil.c (the steps), distil_graph.c (a stage's training step) and distil_teacher.c (chains) share. Private to train/. */
#ifndef LK_DISTIL_INTERNAL_H
#define LK_DISTIL_INTERNAL_H
#include "train/distil.h"

/* The UNet by itself, guided (twice the batch goes through) or with the teacher's adapter. */
typedef struct {
    lk_graph *g; lk_exec *x; lk_adapter *adapter; int batch; bool guided;
    lk_val sample, timestep, context, guidance, out;
} lk_distil_teacher;
lk_err lk_distil_teacher_new(const lk_zoo *, int rank /* of the student's adapter; 0: none */, int batch, bool guided, lk_pool *, lk_distil_teacher *);
void   lk_distil_teacher_free(lk_distil_teacher *);
/* context [batch, T, W]; empty [T, W] (guided only). */
lk_err lk_distil_teacher_context(lk_distil_teacher *, const float *context, const float *empty, double guidance);
/* The prediction for each sample at its own timestep. */
lk_err lk_distil_teacher_predict(lk_distil_teacher *, const float *x, const float *t, float *out);

/* Whether a stage's teacher answers with x0. */
bool   lk_distil_x0_teacher(const lk_distil_plan *, int stage);

/* A stage's training step. Leaves are LK_NONE where the kind has none. */
typedef struct {
    lk_graph *g; lk_exec *x;
    lk_adapter *student, *fake;                                                /* student NULL: a full stage */
    lk_optimiser *optimiser, *critic;
    lk_val x_t, t, context, on_x, on_m, landing, weight;                       /* [B, ...]; the jump to the student's next timestep */
    lk_val judge_t, judge_alpha, judge_sigma, judge_noise;                     /* critic, matching: where landings are judged */
    lk_val x_near, t_near, near_on_x, near_on_m, skip, out, near_skip, near_out, x0_on_x, x0_on_m;  /* consistency; x0: also matching */
    lk_val empty, guidance;                                                    /* matching, pixels */
    lk_val clean;                                                              /* pixels: latents of real photos */
    int n_teacher; lk_val *teacher;                                            /* the teacher as state: "teacher/<name>" of the adapter's params, or */
    int n_weights; lk_val *weights;                                            /* of the student's own weights, which are state too; 0: the base's */
    lk_val outputs[4]; int n_outputs;                                          /* loss, norm[, critic's loss, norm] */
} lk_distil_step;
lk_err lk_distil_step_build(const lk_zoo *, const lk_distil_plan *, int stage, lk_distil_step *);
void   lk_distil_step_free(lk_distil_step *);
#endif
