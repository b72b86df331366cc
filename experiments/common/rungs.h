/* rungs: a generator scored at several step counts. Pictures of the same prompts from the same noise whatever the schedule and the step
 * count; the prompts come in groups, one a base person, and the group is the unit of every interval. */
#ifndef LK_RUNGS_H
#define LK_RUNGS_H
#include "harness/experiment.h"
#include "train/cohort.h"

enum { LK_MAX_GROUPS = 28, LK_MAX_PER_GROUP = 16, LK_CROP_AT = 16, LK_CROP = 32 };     /* the crop: pixels 16..47 both ways, eyes to mouth */
typedef struct lk_rungs lk_rungs;
/* Settings read from the run's config: groups, prompts. Photos of the groups' people are the real side of every distance. */
lk_err lk_rungs_open(lk_ctx *, lk_rungs **);
void   lk_rungs_close(lk_rungs *);
lk_studio *lk_rungs_studio(lk_rungs *);
lk_ctx *lk_rungs_ctx(lk_rungs *);
/* Samples every prompt, writes `stem`.png and a row a picture to /samples; finals "<stem>.<score>", and "<stem>.<distance>.without.<person>"
 * for the jackknife over groups; milliseconds a picture to /inexact. */
lk_err lk_rungs_score(lk_rungs *, const char *stem, lk_sampler *, lk_sampling);
/* The same from a sampler of latents of side x side, 16 being what the base was trained at: pictures are brought to 64 x 64 by areas, rounded. */
lk_err lk_rungs_score_sized(lk_rungs *, const char *stem, lk_sampler *, lk_sampling, int side);
/* The photos themselves, and the photos through the autoencoder, under the stems "photo" and "ceiling". */
lk_err lk_rungs_score_photos(lk_rungs *);

/* What is scored, in the table's order. */
typedef struct { const char *key, *head, *about, *goal; int digits; bool pooled; /* over all groups, with a jackknife; else a mean over groups */ } lk_rung_score;
int lk_rung_scores(const lk_rung_score **);
#endif
