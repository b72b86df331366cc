/* full: trains every weight of a model (the zoo's trainers; adapters have train.h). The step is one graph: gradients of the
 * loss, one global-norm clip, AdamW, and an exponential moving average of the weights. */
#ifndef LK_FULL_H
#define LK_FULL_H
#include "backend/backend.h"
#include "io/io.h"

typedef struct {
    lk_graph *g;
    int n;                                    /* trained params */
    lk_val *param, *m, *v, *average;          /* each [n], in order of the params' ids */
    lk_val loss, norm;                        /* outputs: [] each */
    lk_val lr, bc1, bc2, decay;               /* inputs, set by lk_full_run */
    double beta1, beta2;
} lk_full;
typedef struct { double beta1, beta2, eps, weight_decay, clip; } lk_full_opts;
/* Adds gradient, clip, AdamW and average of every WEIGHT param whose name starts with `prefix` ("" : all). */
void   lk_full_build(lk_full *, lk_graph *, lk_val loss, const char *prefix, lk_full_opts);
void   lk_full_free(lk_full *);
/* The averages start as the weights. Call after the weights are set, before the first step. */
lk_err lk_full_start(lk_full *, lk_exec *);
/* One step, numbered from 1: sets the scalars, runs, returns loss and gradient norm. NaN is an error that names the step. */
lk_err lk_full_run(lk_full *, lk_exec *, int64_t step, double lr, double average_decay, double *loss, double *norm);
/* Linear warm-up, then a cosine to zero at `steps`; binary64 with our own cosine. */
double lk_full_lr(double peak, int64_t step, int64_t warmup, int64_t steps);
/* SHA-256 over the weights and their averages in order: the trace that a replay compares. */
lk_err lk_full_digest(const lk_full *, lk_exec *, char hex[65]);
/* The averages as a checkpoint under the params' names without prefix; half: stored as F16, rounded to nearest even. */
lk_err lk_full_save_average(const lk_full *, lk_exec *, const char *prefix, const char *path, bool half, const char *const *meta);
/* Everything a resume needs (weights, moments, averages, step), atomically; load returns the step, 0 if there is no file. */
lk_err lk_full_checkpoint(const lk_full *, lk_exec *, int64_t step, const char *path);
lk_err lk_full_resume(const lk_full *, lk_exec *, const char *path, int64_t *step);
#endif
