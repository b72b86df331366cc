/* likeness: how much generated pictures look like a person, by recognisers that served no loss, and how much they look copied.
 *
 * Scale. id = (d_imp - d) / (d_imp - d_gen), d the mean dlib distance to the photos compared with, d_gen and d_imp the genuine and impostor
 * means over the 28 base people in the common frame: 1 = as alike as another photo of the same person, 0 = a stranger. */
#ifndef LK_LIKENESS_H
#define LK_LIKENESS_H
#include "models/face_set.h"

#define LK_JUDGE_GENUINE  0.30789     /* tests/metrics/test_likeness.c measures both again */
#define LK_JUDGE_IMPOSTOR 0.75252
double lk_judge_scale(double distance);

typedef struct {
    double id_judge;          /* to the test photos: the primary score */
    double id_ref;            /* to the reference photos */
    double witness;           /* mean cosine by mobileface to the test photos */
    double loss_net;          /* mean cosine by mobilefacenet to the test photos: what an identity loss would see */
    double copy_paste;        /* (theta_gt - theta_gr) / max(theta_tr, 1e-3), mean angles of judge embeddings: generated, test, reference */
    double detected;          /* 1 where the detector (input 96, threshold .3) finds a face */
    double id_aligned;        /* id_judge of the picture aligned anew by its own landmarks; 0 where no face is found */
} lk_likeness_score;

typedef struct lk_likeness lk_likeness;
/* Frames are common frames [n][3][64][64] of 0..255. */
lk_err lk_likeness_new(lk_faces *, const float *references, int n_references, const float *tests, int n_tests, lk_likeness **);
void   lk_likeness_free(lk_likeness *);
/* leave_out: picture i is not compared with test photo i (real-vs-real, autoencoder ceiling of the tests themselves). */
lk_err lk_likeness_of(lk_likeness *, const float *frames, int n, bool leave_out, lk_likeness_score *out);
double lk_arccos(double);     /* binary64 from our own sine and cosine; clamped to [-1, 1] */
#endif
