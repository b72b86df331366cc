/* transfer: does a distilled adapter of the base keep what another adapter taught it? A person's LoRA is trained on the base as in
 * lora_rank_sweep, the student's is added beside it, and likeness is compared with the many-step personalised base. */
#ifndef LK_TRANSFER_H
#define LK_TRANSFER_H
#include "harness/experiment.h"
#include "train/person.h"

/* How pictures are made: "many" and "few": the person's adapter, guided, teacher_steps and 4 steps; "both": with the student's adapter beside
 * it, 4 steps; "student": the student's alone. Settings: transfer_people, transfer_steps (of training), transfer_prompts, rank_person. */
enum { LK_TRANSFER_HOW = 4 };
extern const char *const lk_transfer_how[LK_TRANSFER_HOW];
/* Finals "transfer.<how>.<score>.of.<person>" for id, detected, clip_t; a row a picture in /samples. */
lk_err lk_transfer_people(lk_studio *, lk_ctx *, const lk_adapter *student, lk_exec *);
#endif
