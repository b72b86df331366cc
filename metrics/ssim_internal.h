/* Between the files of SSIM: ssim.c (variants and scales), ssim_planes.c (pixels), ssim_window.c (the maps' means), ssim_bytes.c (the uniform
 * window on bytes). */
#ifndef LK_SSIM_INTERNAL_H
#define LK_SSIM_INTERNAL_H
#include "io/io.h"

enum { LK_SSIM_CHANNELS = 8, LK_SSIM_SLACK = 32 };

/* One channel of one picture: h rows of w values, `step` apart, in one of three forms. Bytes and sums have step 1 and LK_SSIM_SLACK readable bytes
 * behind the last; sums are those of blocks of a byte picture's pixels, exact. */
typedef struct { const uint8_t *bytes; const uint16_t *sums; const double *real; int64_t step, h, w; } lk_plane;
/* Two pictures. A value of one is written as `one`: sums of 2^k x 2^k blocks are 4^k times the mean. */
typedef struct { lk_plane plane[2][LK_SSIM_CHANNELS]; int c; double one; void *own; } lk_planes;
lk_planes lk_planes_of_images(const lk_image *a, const lk_image *b, lk_pool *);
lk_planes lk_planes_of_values(const double *a, const double *b /* [h][w][c], borrowed */, int h, int w, int c);
/* Means of f x f blocks, `top` rows and `left` columns (0 or 1) put in front first, of zeros or repeating the first; what is left over at the
 * bottom and right is dropped. */
typedef struct { int64_t f; int top, left; bool repeat; } lk_blocks;
lk_planes lk_planes_shrunk(const lk_planes *, lk_blocks, lk_pool *);
void lk_planes_free(lk_planes *);

/* A map and what its mean runs over. */
typedef enum { LK_UNIFORM7, LK_GAUSS11, LK_GAUSS11_F32 } lk_window;
typedef struct {
    lk_window window;
    bool sample_covariance;      /* n/(n-1) with n = taps^2 */
    bool whole;                  /* reflect-pad by half a window (the edge itself not repeated) and average the whole map; variances clamped at 0 */
    bool scale, contrast;        /* of several scales; the contrast term alone, without the padded border */
} lk_ssim_map;
/* Mean over each channel; range: of a value of one. */
void lk_ssim_means(const lk_ssim_map *, const lk_planes *, double range, lk_pool *, double *mean /* [c] */);

/* Mean SSIM with the 7x7 uniform window of two 8-bit pictures of equal size, at least 7 x 7, data range 255; mean over channels. */
double lk_ssim_bytes7(const lk_image *a, const lk_image *b, double covariance /* n / (n - 1), or 1 */, lk_pool *);
#endif
