/* pooled: what is measured over all pictures of an arm together: distances between distributions and identification. */
#ifndef LK_POOLED_H
#define LK_POOLED_H
#include "experiments/common/summary.h"

typedef struct lk_pooled {
    int64_t n, n_real;
    double frechet, frechet_se;       /* dlib features against the test photos; 20-group jackknife */
    bool few;
    double kid, kid_se;               /* full U-statistic */
    double rank1_judge, rank1_witness;
    double same_seed;                 /* dlib distance of two people's pictures from the same noise and prompt over that from other noise and prompts;
                                         near 0: the person is ignored. NaN for controls, which have no seed */
    int64_t stated, confirmed;        /* attributes that the captions state, and those the attribute classifier sees */
} lk_pooled;
/* Reads every run's samples.png again. The gallery of 40 people: test photos of the swept people, all photos of the base split. */
lk_err lk_pooled_of(const lk_arms *, const char *dataset, lk_pooled out[LK_MAX_ARMS]);
bool   lk_arm_has(const lk_arms *, int arm, const char *subject, int run);
/* Frames of a run's strip: [n][3][64][64]; free() them. */
lk_err lk_strip_read(const char *path, float **frames, int *n);
#endif
