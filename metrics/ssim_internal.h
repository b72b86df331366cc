/* Between ssim.c and ssim_bytes.c. */
#ifndef LK_SSIM_INTERNAL_H
#define LK_SSIM_INTERNAL_H
#include "io/io.h"

enum { LK_SSIM_CHANNELS = 8 };
/* Mean SSIM with the 7x7 uniform window of two 8-bit pictures of equal size, at least 7 x 7, data range 255; mean over channels. */
double lk_ssim_bytes7(const lk_image *a, const lk_image *b, double covariance /* n / (n - 1), or 1 */, lk_pool *);
#endif
