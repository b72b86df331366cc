/* ladder: one run of the distillation experiment, in the words of its method: train a schedule and score its students where their
 * stages end; score the base as teacher; carry a student over to other people's adapters and to other samplers. */
#ifndef LK_LADDER_H
#define LK_LADDER_H
#include "experiments/common/rungs.h"
#include "experiments/common/schedules.h"

enum { LK_RUNGS = 4, LK_TRANSFER_STEPS = 4, LK_TRANSFER_SIZES = 2 };
extern const int lk_rung_steps[LK_RUNGS];        /* 8, 4, 2, 1 */
extern const int lk_transfer_sides[LK_TRANSFER_SIZES];   /* of latents: 12, 24, a quarter of the pictures' 48 and 96 */
/* Settings read from the run's config: budget, batch, rank, lr, full_lr, adversarial_lr, critic_lr, discriminator_lr, r1, guidance, people (trained on), photos (of each), last_steps
 * (stages to fewer steps are left out). */
lk_err lk_ladder_plan(lk_ctx *, const char *schedule, lk_distil_plan *);
/* Trains, resuming where a kill left off; scores the student of 8, 4, 2 and 1 steps under the stems "s8" ... "s1" (most_steps and fewer);
 * saves the student of 4 steps, where none has so many the last: adapter.safetensors, or unet.safetensors (F32, 33 MB) where every weight was trained. */
lk_err lk_ladder_schedule(lk_rungs *, const char *schedule);
/* The base with guidance at teacher_steps ("teacher") and at the rungs ("s8" ...). */
lk_err lk_ladder_teacher(lk_rungs *);
/* The 4-step student of progressive_mse: with other samplers ("euler4", "dpm4", "lcm4"), at other sizes ("ddim4_48", "ddim4_96", and the guided base
 * there, "base4_48", "base4_96"), and beside adapters of transfer_people people of the
 * split 'personal': finals "transfer.<how>.<score>.of.<person>". */
lk_err lk_ladder_transfer(lk_rungs *);
/* For the memory callback: the training step of the last stage (stages are at work one after the other). */
lk_err lk_ladder_memory(lk_ctx *, const char *schedule);
#endif
