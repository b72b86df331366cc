/* full: trains every weight of a model (the zoo's trainers): the optimiser and the moving average of train.h over all params
 * under a prefix, and what a trained model leaves behind: its averages as a checkpoint, digests as a trace. */
#ifndef LK_FULL_H
#define LK_FULL_H
#include "train/train.h"

typedef struct {
    lk_graph *g;
    int n; lk_val *param;                     /* trained params, in order of their ids; in the graph's arena */
    lk_optimiser *optimiser; lk_average *average;
    lk_val loss, norm;                        /* outputs: [] each */
} lk_full;
/* Adds gradient, clip, AdamW and average of every WEIGHT param whose name starts with `prefix`. */
void   lk_full_build(lk_full *, lk_graph *, lk_val loss, const char *prefix, lk_adamw_attr, double clip);
/* One step, from 0: sets the scalars, runs, returns loss and gradient norm. NaN is an error that names the step. */
lk_err lk_full_run(const lk_full *, lk_exec *, int64_t step, double lr, double average_decay, double *loss, double *norm);
/* SHA-256 over the weights and their averages in order: the trace that a replay compares. */
lk_err lk_full_digest(const lk_full *, lk_exec *, char hex[65]);
/* The averages as a checkpoint under the params' names without prefix; half: stored as F16, rounded to nearest even. */
lk_err lk_full_save_average(const lk_full *, lk_exec *, const char *prefix, const char *path, bool half, const char *const *meta);
#endif
