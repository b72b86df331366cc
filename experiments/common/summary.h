/* summary: tables, tests and figures of a personalisation sweep. An arm is one value of the swept axis or one control; the unit is the
 * person, seeds being averaged within a person first. */
#ifndef LK_SUMMARY_H
#define LK_SUMMARY_H
#include "harness/experiment.h"

enum { LK_MAX_ARMS = 32, LK_MAX_PEOPLE = 64 };
typedef struct { const char *value; bool control; const char *label; } lk_arm;        /* "16" or "copy"; label: "rank 16" */
typedef struct {
    lk_sweep *sweep;
    const char *axis;                 /* "rank" */
    int n_arms, n_grid;               /* grid arms first, in the sweep's order, then the controls */
    lk_arm arm[LK_MAX_ARMS];
    int n_people; const char *const *people;
    const struct lk_pooled *pooled;   /* [n_arms] (pooled.h), once lk_summary_table computed them; NULL: not in the profile tiny */
} lk_arms;
lk_err lk_arms_of(lk_sweep *, const char *axis, lk_arms *);
/* Final `key` of every person in an arm, mean over the seeds that are there; NaN where none is. */
void   lk_arm_values(const lk_arms *, int arm, const char *key, double values[LK_MAX_PEOPLE]);
int    lk_arm_find(const lk_arms *, const char *value);
/* The result table (likeness, copying, CLIP, reconstruction, diversity, Frechet and KID in the judge's feature space, rank-1
 * identification), its figures and the sample sheet. Pooled figures are added to the sweep's summary. */
lk_err lk_summary_table(lk_arms *, const char *dataset, const char *const *notes, int n_notes);
lk_err lk_summary_figures(const lk_arms *, const char *x_label, bool log2_x);
lk_err lk_summary_sheet(const lk_arms *, const char *dataset);
/* Paired differences of id_judge between pairs of arms: exact sign-flip, Holm over all pairs, effect size. A row a pair in secondary.*. */
lk_err lk_summary_pairs(const lk_arms *, const int (*pairs)[2], int n);
#endif
