/* schedules: how a many-step model becomes a few-step one, as rows of a table. A row is a list of stages for train/distil.h; options are
 * fields of a stage, so an ablation is a row that differs in one of them. All rows cost the same: iterations are what a budget of
 * network evaluations buys. */
#ifndef LK_SCHEDULES_H
#define LK_SCHEDULES_H
#include "train/distil.h"

typedef struct {
    const char *name, *about;
    const char *of;                   /* the row it is an ablation of; NULL */
    bool every;                       /* its last student is scored at every step count; else each count has a student of its own */
    int n;
    struct { int share; lk_distil_stage stage; } row[LK_DISTIL_MAX_STAGES];    /* share of the budget; iterations are filled in by lk_schedule_plan */
    double rate;                      /* times the common rate of LoRA stages; 0: 1 */
} lk_schedule;
int lk_schedules(const lk_schedule **);
/* An unknown name is an error that names the nearest. */
lk_err lk_schedule_find(const char *name, const lk_schedule **);

typedef struct { double budget; /* evaluations of the network for one latent */ int rank, batch; double lr, full_lr, adversarial_lr, critic_lr, discriminator_lr, r1, guidance; } lk_schedule_opts;
/* Guidance above 1 in the table stands for the option's; every stage gets at least one iteration. The plan is checked. */
lk_err lk_schedule_plan(const lk_schedule *, lk_schedule_opts, lk_distil_plan *);
/* Evaluations one iteration costs for one latent: a forward pass counts 1, a gradient 2 more, the critic's trunk half of the network. */
double lk_schedule_cost(const lk_distil_stage *, double r1);
#endif
