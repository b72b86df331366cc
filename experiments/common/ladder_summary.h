/* ladder_summary: tables, contrasts and pictures of the distillation experiment. An arm is a student: a schedule at a number of steps; or
 * a control. Its score is a number and a value for each prompt group: the group's own mean, or, for a distance between distributions, the
 * group's pseudo-value of the delete-one-group jackknife. Intervals and tests are over groups, seeds averaged first; contrasts are told over seeds too. */
#ifndef LK_LADDER_SUMMARY_H
#define LK_LADDER_SUMMARY_H
#include "experiments/common/ladder.h"

enum { LK_LADDER_ARMS = 128 };
typedef struct {
    const char *schedule;             /* or the control's name: "teacher", "photos", "transfer" */
    bool control;
    const char *stem;                 /* "s4": the scores' prefix in the run's finals */
    int steps;                        /* 0 for photos */
} lk_ladder_arm;
typedef struct {
    lk_sweep *sweep;
    int n; lk_ladder_arm arm[LK_LADDER_ARMS];
    int groups; const char *who[LK_MAX_GROUPS];
} lk_ladder;
typedef struct { bool there; int n; double centre, value[LK_MAX_GROUPS]; } lk_ladder_value;

lk_err lk_ladder_of(lk_sweep *, lk_ladder *);
int    lk_ladder_find(const lk_ladder *, const char *schedule, const char *stem);         /* -1: not in this sweep */
/* key: one of lk_rung_scores, "ms", or "to_teacher" (mean absolute pixel difference to the teacher's picture from the same noise, 0..1). */
lk_err lk_ladder_value_of(const lk_ladder *, int arm, const char *key, lk_ladder_value *);
/* The result table; rows of the schedules' table that this sweep does not have are marked as not run. The primary contrast is FD of a minus b at
 * `steps`. */
lk_err lk_ladder_table(const lk_ladder *, const char *a, const char *b, int steps);
/* Secondary contrasts, a family under Holm, sorted by the claim they bear on. */
lk_err lk_ladder_contrasts(const lk_ladder *);
lk_err lk_ladder_transfer_table(const lk_ladder *);
/* A figure a score, quality against steps, one line a schedule, the teacher's value as a horizontal (ladder_pictures.c); ablations of a family in
 * figures of their own. */
lk_err lk_ladder_figures(const lk_ladder *);
/* Schedules x steps from the same noise: three prompts a cell. */
lk_err lk_ladder_sheet(const lk_ladder *);
lk_err lk_ladder_to_teacher(const lk_ladder *, int arm, lk_ladder_value *);
#endif
