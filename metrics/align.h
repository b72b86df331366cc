/* Alignment of faces as recognition pipelines do it: five points to the ArcFace template, then a warp. "Same as cv2" needs a
 * version: OpenCV up to 4.10 rounds positions to 1/32 pixel, 5.0 does not. */
#ifndef LK_METRICS_ALIGN_H
#define LK_METRICS_ALIGN_H
#include "io/io.h"

/* The template of Deng et al. 2019 for a square of `size` pixels: a multiple of 112, or of 128 (then shifted by 8/128). */
lk_err lk_align_template(int size, double point[5][2]);
/* Least-squares similarity (Umeyama 1991), picture -> template, row-major 2x3. Coincident points are an error. */
lk_err lk_align_umeyama(const double from[5][2], int size, double m[6]);
/* dst(x, y) = src at m^-1 (x, y), taps outside = 0. Exact: binary64 bilinear, value not rounded [size][size][c]. */
lk_err lk_warp_exact(const lk_image *src, const double m[6], int size, double *dst);
lk_err lk_warp_exact_u8(const lk_image *src, const double m[6], int size, lk_image *dst);      /* floor(v + 0.5) */
lk_err lk_warp_fixed32(const lk_image *src, const double m[6], int size, lk_image *dst);       /* OpenCV 4.10's bits */
#endif
