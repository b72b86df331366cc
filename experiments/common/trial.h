/* trial: what the personalisation experiments do in one run, in the words of their method: open the person, train an adapter,
 * sample prompts, score; or score a control. Scores go to the run file; means of the per-picture columns become finals. */
#ifndef LK_TRIAL_H
#define LK_TRIAL_H
#include "harness/experiment.h"
#include "train/person.h"

enum { LK_TRIAL_PROMPTS = 16 };
extern const char *const lk_trial_prompts[LK_TRIAL_PROMPTS];       /* what follows "a photo of a <p1> man" */
/* Settings read from the run's config: steps, batch, lr, prompts, sample_steps, guidance; axis subject. */
typedef struct {
    lk_ctx *c;
    lk_studio studio;
    lk_person person;
    lk_sampler *sampler;              /* after lk_trial_adapter */
    lk_adapter *sampling_adapter;
    bool tokenless;                   /* the person's token means nothing to this method: prompts go without it */
    float *latents;                   /* of the pictures that lk_trial_generated drew, prompt by prompt */
} lk_trial;
lk_err lk_trial_open(lk_ctx *, const char *dataset, lk_trial *);
void   lk_trial_close(lk_trial *);
/* Attention, feed-forward, transformer projections and the resnets' convolutions; alpha = rank. Attention alone, which this small base
 * has only at 8x8 and 4x4, carried little likeness (docs/experiments/lora_rank_sweep.md). */
lk_lora_config lk_trial_lora(int rank);
lk_personalise_opts lk_trial_training(lk_ctx *);
/* Trains (resuming where a kill left off), saves adapter.safetensors, hands the adapter to the sampler. rank 0: the base alone. */
lk_err lk_trial_adapter(lk_trial *, int rank);
/* Samples the prompts and scores them; reconstruction of the test photos from half way. */
lk_err lk_trial_generated(lk_trial *);
/* Scores a control named "copy", "real", "impostor" or "ceiling" in place of generated pictures. */
lk_err lk_trial_control(lk_trial *, const char *control);
/* Scores n frames (0..255, whole numbers) whose captions (without token) are given, writes samples.png. leave_out: picture i is test photo i. */
lk_err lk_trial_score(lk_trial *, const float *frames, int n, const char *const *captions, bool leave_out);
/* The first test photo of each of the next n people of the split. */
lk_err lk_trial_strangers(const lk_trial *, int n, float *frames);
lk_sampling lk_trial_sampling(lk_ctx *);
/* For the memory callback: the graphs of one run. */
lk_err lk_trial_memory(lk_ctx *, int rank);
#endif
