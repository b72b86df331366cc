/* train: from a loss to updated parameters, as nodes of the same graph.
 *
 * A training step is one graph: forward, loss, gradients, clipping, AdamW, moving averages. It is built and planned
 * once and executed every step; the host only sets inputs (batch, timesteps, learning rate) before each run.
 *     lk_optimiser *o = lk_optimiser_new(g, params, n, (lk_optimiser_config){ ... });
 *     for each micro-batch: lk_optimiser_add_loss(o, loss);       its gradients join the sum
 *     lk_optimiser_finish(o);                                     clip, then AdamW effects
 *     ... lk_exec_new(g, { loss, lk_optimiser_grad_norm(o) }, ...)
 *     each step: lk_optimiser_set(o, exec, step, lr); lk_exec_run(exec);
 * Nothing here holds hidden state: a checkpoint is every param an effect writes, plus the step. */
#ifndef LK_TRAIN_H
#define LK_TRAIN_H
#include "backend/backend.h"
#include "io/io.h"
#include "losses/diffusion.h"
#include "models/schedulers.h"

/* ---- learning rate (lr.c): diffusers' get_scheduler ------------------------------------------------------------- */
typedef struct {
    const char *name;             /* constant, constant_with_warmup, linear, cosine, cosine_with_restarts, polynomial */
    double  base;                 /* peak learning rate */
    int64_t warmup, total;        /* steps; with warm-up the first step has rate 0 */
    double  cycles;               /* cosine: 0 means 0.5; restarts: 0 means 1 */
    double  power, end;           /* polynomial: 0 means 1; 0 means 1e-7 */
} lk_lr;
lk_err lk_lr_at(const lk_lr *, int64_t step /* from 0 */, double *rate);

/* ---- optimiser (optimiser.c): sum of micro-batch gradients, global-norm clip, AdamW ------------------------------- */
typedef struct {
    lk_adamw_attr adamw;          /* zero: betas .9, .999, eps 1e-8, weight_decay 0 */
    double clip;                  /* max global norm; 0: none. Coefficient min(1, clip / (norm + 1e-6)) */
    int    micro_batches;         /* losses to come; each is divided by it; 0 means 1 */
    bool   sum;                   /* losses are terms of one objective: added, not divided */
    const char *name;             /* distinguishes several optimisers of one graph: "" or "critic" */
} lk_optimiser_config;
typedef struct lk_optimiser lk_optimiser;
/* States "<param>.adamw_m", ".adamw_v" of class OPTIMISER, inputs "<name>lr", "<name>bc1", "<name>bc2". Freed with the graph's arena. */
lk_optimiser *lk_optimiser_new(lk_graph *, const lk_val *params, int n, lk_optimiser_config);
/* Params known only once the model is built (an adapter's): n = 0 above, this before the first loss. */
void   lk_optimiser_params(lk_optimiser *, const lk_val *params, int n);
void   lk_optimiser_add_loss(lk_optimiser *, lk_val loss /* [] */);
void   lk_optimiser_finish(lk_optimiser *);
lk_val lk_optimiser_grad_norm(const lk_optimiser *);          /* before clipping; [] */
lk_val lk_optimiser_loss(const lk_optimiser *);               /* mean over micro-batches; [] */
lk_val lk_optimiser_grad(const lk_optimiser *, int i);        /* before clipping */
/* Before each run: step counts from 0, so bias corrections are 1 - beta^(step + 1). */
lk_err lk_optimiser_set(const lk_optimiser *, lk_exec *, int64_t step, double lr);

/* ---- moving average of params (ema.c) ------------------------------------------------------------------------------ */
typedef struct lk_average lk_average;
/* States "<param>.ema"; runs after the updates built before it. Input "ema.decay". */
lk_average *lk_average_new(lk_graph *, const lk_val *params, int n);
lk_val lk_average_of(const lk_average *, int i);
/* Decay of this step: min(decay, (1 + step) / (10 + step)); step 0 copies the params (decay 0). */
lk_err lk_average_set(const lk_average *, lk_exec *, int64_t step, double decay);
/* Copies averages into the params (to sample or save with them): host side, one executor. */
lk_err lk_average_apply(const lk_average *, lk_exec *);

/* ---- the diffusion step (diffusion_step.c) ------------------------------------------------------------------------ */
/* The model under training: adds its nodes and returns the prediction for micro-batch `micro`. */
typedef lk_val (*lk_predict_fn)(void *ctx, lk_graph *, int micro, lk_val noisy, lk_val timestep);
typedef struct {
    lk_predict prediction;
    lk_shape   latent;            /* [B, C, H, W] (or tokens [B, T, D]) of one micro-batch */
    int        micro_batches;     /* 0 means 1 */
    double     snr_gamma;         /* min-SNR weights; 0: none */
    double     noise_offset;      /* 0: none; needs a [B, C, H, W] latent */
    bool       noise_given;       /* noise and offset draws are inputs; else Philox nodes, streams "noise", "noise_offset" */
} lk_diffusion_config;
typedef struct {                  /* leaves of one micro-batch; LK_NONE where the config has none */
    lk_val x0, timestep, alpha, sigma, weight, noise, offset_draw;
    lk_val seed, step, samples;   /* I64 [], [], [B]: keys of the Philox nodes */
    lk_val noisy, target, predicted, loss;
} lk_micro;
typedef struct { lk_diffusion_config config; int n; lk_micro *micro; } lk_diffusion_step;
/* Builds every micro-batch's forward pass and adds its loss to the optimiser (call lk_optimiser_finish after). x0: LK_NONE
 * makes an input "x0.<micro>"; else a value of the latent's shape is taken for every micro-batch from x0[micro]. */
lk_diffusion_step *lk_diffusion_step_new(lk_graph *, lk_diffusion_config, lk_predict_fn, void *ctx, const lk_val *x0, lk_optimiser *);
/* Sets timestep, alpha, sigma and weight of a micro-batch: t[B] on the scheduler. model_t: what the model receives if it is not t (or NULL). */
lk_err lk_diffusion_set_timesteps(const lk_diffusion_step *, lk_exec *, int micro, const lk_scheduler *, const double *t, const double *model_t);
/* Flow matching without a schedule: sigma[B] in (0, 1); the model receives sigma * scale. */
lk_err lk_diffusion_set_sigmas(const lk_diffusion_step *, lk_exec *, int micro, const double *sigma, double scale);
/* Keys of the Philox noise: sample ids are global (unique within the step, whatever the micro-batch). */
lk_err lk_diffusion_set_noise_key(const lk_diffusion_step *, lk_exec *, int micro, int64_t seed, int64_t step, const int64_t *samples);
/* The host's own draws, keyed like the noise: a uniform timestep 0 .. T-1; sigma = sigmoid(mean + std z) shifted (Esser et al. 2024, section 3.1). */
int    lk_draw_timestep(uint64_t key, int64_t step, int64_t sample, int T);
double lk_draw_logit_normal(uint64_t key, int64_t step, int64_t sample, double mean, double std, double shift);

/* ---- checkpoints (checkpoint.c) ------------------------------------------------------------------------------------- */
/* Every param that an effect of the graph writes, and the step: one safetensors file, old or new, never a part. */
lk_err lk_checkpoint_save(lk_exec *, int64_t step, const char *path);
/* Refuses a file whose names or shapes differ from the graph's, naming the first. */
lk_err lk_checkpoint_load(lk_exec *, const char *path, int64_t *step);
#endif
