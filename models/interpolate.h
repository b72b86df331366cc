/* interpolate: between two latents, as DiffMorpher does (Zhang et al. 2024, arXiv:2312.07409, sections 4.2, 4.4). Host side;
 * binary64 in element order, rounded once. */
#ifndef LK_INTERPOLATE_H
#define LK_INTERPOLATE_H
#include "base/base.h"

/* Spherical interpolation: one angle for the whole array, its cosine clamped to 1 - 1e-7. out may be a or b. */
void lk_slerp(const float *a, const float *b, double f, int64_t n, float *out);
/* Each of `planes` runs of `per` values of x is normalised (biased variance, eps 1e-5) and given the interpolated mean and
 * standard deviation (unbiased variance + 1e-5) of a's and b's run. out may be x. per >= 2. */
void lk_adain_between(const float *x, const float *a, const float *b, double f, int64_t planes, int64_t per, float *out);
#endif
