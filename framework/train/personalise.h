/* personalise: trains a LoRA of the zoo's base on a few latents of one person with the diffusion loss. One graph a step; the frozen
 * text model is part of it. Where the graph stands after a step is all in the executor: checkpoint and resume through train.h. */
#ifndef LK_PERSONALISE_H
#define LK_PERSONALISE_H
#include "models/zoo.h"
#include "train/train.h"

/* A second term of the objective, on the same adapter: build returns its loss ([], weighted) for the adapter that has met the UNet's modules
 * in this graph; bind gives weights to the params it added; set fills its inputs before step `step` (from 0). */
typedef struct {
    lk_val (*build)(void *ctx, lk_graph *, lk_adapter *, const lk_micro *diffusion);
    lk_err (*bind)(void *ctx, lk_exec *);
    lk_err (*set)(void *ctx, lk_exec *, int64_t step);
    void *ctx;
} lk_extra_loss;
/* Two of them, added; either may be NULL. The pair holds what the result points to. */
typedef struct { const lk_extra_loss *part[2]; lk_extra_loss loss; } lk_extra_pair;
const lk_extra_loss *lk_extra_both(lk_extra_pair *, const lk_extra_loss *, const lk_extra_loss *);
typedef struct {
    int steps, batch;
    double lr;                    /* peak; warm-up, then cosine to zero */
    int warmup;
    double caption_dropout;       /* chance of the empty caption: keeps guidance usable */
    double weight_decay, clip;
    const lk_extra_loss *extra;   /* NULL: the diffusion loss alone */
} lk_personalise_opts;
typedef struct { int n; const float *latents; /* [n][8][16][16] */ const char *const *captions; /* n, with the instance token */ } lk_references;
typedef struct lk_personaliser lk_personaliser;
/* References, zoo and adapter config are borrowed until the free. Adapter weights start from `seed`. Without references (n = 0)
 * only the graph is built, for planning. */
lk_err lk_personaliser_new(const lk_zoo *, lk_lora_config, lk_personalise_opts, lk_references, uint64_t seed, lk_pool *, lk_personaliser **);
void   lk_personaliser_free(lk_personaliser *);
/* Step from 0; which reference, timestep, noise and dropout it sees depends on (seed, step) alone. */
lk_err lk_personaliser_step(lk_personaliser *, int64_t step, double *loss, double *norm);
int    lk_personalise_pick(uint64_t seed, int64_t step, int i, int n_references);   /* which reference sample i of a step sees */
double lk_personaliser_extra(const lk_personaliser *);       /* the extra term of the last step; NaN without one */
lk_graph   *lk_personaliser_graph(const lk_personaliser *, const lk_val **outputs /* 2; 3 with an extra loss */);
lk_exec    *lk_personaliser_exec(const lk_personaliser *);
lk_adapter *lk_personaliser_adapter(const lk_personaliser *);
/* |scale B A| (other kinds: what merging changes) / |W| in Frobenius norms over all adapted modules: under 1e-3 the adapter counts as untrained. */
lk_err lk_personaliser_update_norm(const lk_personaliser *, double *ratio);
/* Copies the adapter's values into another adapter of the same config built in another executor (a sampler's). */
lk_err lk_adapter_copy(lk_adapter *to, lk_exec *to_exec, const lk_adapter *from, lk_exec *from_exec);
#endif
