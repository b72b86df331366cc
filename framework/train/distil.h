/* distil: trains a few-step student of the zoo's base. The student is a LoRA of the base, or, from the first full stage on, a UNet of its own (with
 * or without a LoRA on it); a schedule is a list of stages, each halving or more the steps of the one before. A stage's teacher is the base (with
 * classifier-free guidance baked in) or the student as an earlier stage left it. Everything a stage draws is a function of (seed, step); a
 * checkpoint holds what the stage trains, the student's weights where they are its own, teacher, critic and moments.
 *
 * One step: latents of the references are noised to one of the student's timesteps; the teacher takes its k steps to the student's
 * next timestep; the student is trained to land there in one. */
#ifndef LK_DISTIL_H
#define LK_DISTIL_H
#include "losses/adversarial.h"
#include "losses/distillation.h"
#include "train/personalise.h"

typedef enum {
    LK_DISTIL_MSE,                /* lk_distillation_loss, weighted to the error of the prediction */
    LK_DISTIL_ADVERSARIAL,        /* a discriminator tells the student's landing from the teacher's */
    LK_DISTIL_CONSISTENCY,        /* latent consistency: pseudo-Huber between f at neighbouring timesteps of the `from` chain */
    LK_DISTIL_MATCHING,           /* distribution matching: the base's score against that of a LoRA trained on the student's pictures */
    LK_DISTIL_PIXELS              /* adversarial diffusion distillation: a hinge critic on features of the frozen CLIP vision tower, of decoded
                                     landings at x0 and of real photos, and score distillation by the base (Sauer et al. 2023) */
} lk_distil_kind;
typedef struct {
    lk_distil_kind kind;
    int from, to;                 /* steps of the teacher's chain and of the student's; from is a multiple of to */
    int iterations;
    double guidance_lo, guidance_hi;  /* of the teacher, drawn uniformly a step (LCM); equal: fixed; 1: none */
    bool base_teacher;            /* the base teaches; else the student as the stage before left it */
    bool guided_student;          /* guidance above 1 from a student's own unconditional branch: twice baked in if it has it already */
    bool keep_teacher;            /* skip-level: the teacher of the stage before goes on teaching */
    bool full;                    /* trains every weight of the UNet, the LoRA of before merged into it; a LoRA stage after it starts at B = 0 */
    bool x0;                      /* the student's output is read as x0, not as the base's v (Lin et al. 2024, section 3.5): the first such stage is by MSE,
                                     its weights become the student's own and conv_out changes sign: -v is x0 up to alpha times the noise */
    bool pure_noise;              /* the first timestep starts from noise alone, as sampling does */
    bool conditional;             /* critic: sees where the step began */
    int  renoise;                 /* critic: landings at the chain's end are noised again to one of so many timesteps; 0: judged as they are */
    double mse_weight;            /* adversarial, matching: added share of the MSE */
    double score_weight;          /* pixels: of score distillation, times alpha of the timestep it is judged at; 2.5 in the paper */
} lk_distil_stage;
enum { LK_DISTIL_MAX_STAGES = 16 };
typedef struct {
    int rank, batch;
    double lr;                    /* peak of each stage: warm-up over a tenth, then cosine to a tenth of it */
    double full_lr;               /* the same of full stages */
    double adversarial_lr;        /* the same of adversarial stages of a LoRA; 0: lr */
    double critic_lr;             /* the fake score, or the head on the vision tower */
    double discriminator_lr;      /* the discriminator, all weights of it; 0: critic_lr */
    double r1;                    /* weight of R1 on the head's input */
    int fake_every;               /* matching: the student moves at every so manieth step, the fake score at each; 0, 1: both at each */
    int n; lk_distil_stage stage[LK_DISTIL_MAX_STAGES];
} lk_distil_plan;
/* Steps that do not divide, a teacher with fewer steps than the student, a stage without iterations, guidance below 1, a kept teacher where none
 * is, x0 of a flow model or without its conversion: refused, saying what would be valid. base: what the model to distil predicts. */
lk_err  lk_distil_check(const lk_distil_plan *, lk_predict base);
bool    lk_distil_own(const lk_distil_plan *, int stage);    /* by the end of a stage the student has weights of its own, not only a LoRA of the base */
int64_t lk_distil_steps(const lk_distil_plan *);             /* iterations of all stages */
lk_lora_config lk_distil_lora(int rank);                     /* every linear and convolution but conv_in, conv_out and the time embedding; alpha = rank */

typedef struct lk_distiller lk_distiller;
/* Zoo and references are borrowed. references.n = 0: only for lk_distiller_plan. */
lk_err   lk_distiller_new(const lk_zoo *, lk_distil_plan, lk_references, uint64_t seed, lk_pool *, lk_distiller **);
void     lk_distiller_free(lk_distiller *);
/* Step from 0; opens the next stage where one begins. losses: student, critic or fake score (NaN where the stage has none). A loss that is not a
 * number is an error that names stage, step and terms. */
lk_err   lk_distiller_step(lk_distiller *, int64_t step, double losses[2]);
int      lk_distiller_stage_at(const lk_distiller *, int64_t step);     /* which stage a step belongs to */
lk_err   lk_distiller_save(void *distiller, int64_t step, const char *path);   /* a checkpoint; has the shape of lk_ctx_save_fn */
lk_err   lk_distiller_load(lk_distiller *, const char *path, int64_t *step);
lk_adapter *lk_distiller_adapter(const lk_distiller *);      /* of the student, in lk_distiller_exec: both change where a stage begins; NULL: a full stage */
lk_exec    *lk_distiller_exec(const lk_distiller *);         /* the student's UNet, under the checkpoint's own names */
/* The graph of a stage's training step and its outputs, for plans; the distiller owns it. */
lk_err   lk_distiller_graph(lk_distiller *, int stage, lk_graph **, const lk_val **outputs, int *n);
#endif
