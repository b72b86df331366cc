/* loop: the training loop of the zoo's trainers: schedule, trace of weight digests, log, checkpoints, resume. */
#ifndef LK_LOOP_H
#define LK_LOOP_H
#include "train/full.h"

typedef struct {
    const char *name;                 /* "autoencoder": names its files */
    int64_t steps, warmup;
    double peak_lr, average_decay;    /* cosine to zero after the warm-up; the average starts fast (lk_average_set) */
    /* Sets the graph's inputs for a step (from 1). */
    lk_err (*batch)(void *ctx, lk_exec *, int64_t step);
    void *ctx;
} lk_loop;
typedef struct {
    const char *out;                  /* directory: NAME.log, trace.json (of all models), NAME.checkpoint.safetensors (removed when done) */
    int64_t until;                    /* stop after this step; 0: all */
    const char *compare;              /* a trace.json whose digests must come out; the first that differs is an error. NULL: none */
} lk_loop_opts;
/* Digests are taken at steps 1, 2, 5, 10, 20, 50 and every 100. */
lk_err lk_loop_run(const lk_loop *, lk_full *, lk_exec *, lk_loop_opts);
/* out=DIR until=N compare=FILE from a main's arguments; anything else is refused with the nearest. */
lk_err lk_loop_args(int argc, char **argv, lk_loop_opts *);
#endif
