/* cohort: the people a generator is trained on, as references for training: every photo of the split 'base' and its mirror image, each
 * under its caption and under the caption that names the person by a token. */
#ifndef LK_COHORT_H
#define LK_COHORT_H
#include "train/person.h"

typedef struct { lk_references refs; float *latents; const char **captions; lk_arena *memory; } lk_cohort;
/* The first `people` of the split (0: all), their first `photos` each (0: all). */
lk_err lk_cohort_open(const lk_studio *, int people, int photos, lk_cohort *);
void   lk_cohort_close(lk_cohort *);
#endif
