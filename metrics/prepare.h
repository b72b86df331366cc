/* prepare: the preprocessor_config.json of a transformers checkpoint, done to a picture: Pillow's resize to the bit, centre crop, scale,
 * normalise. What it asks and is not known here is refused, never left out. */
#ifndef LK_PREPARE_H
#define LK_PREPARE_H
#include "io/io.h"
#include "metrics/resize.h"

typedef struct {
    bool resize, crop, normalise;
    int shortest, h, w;             /* shortest: side that the shorter edge becomes; else h x w */
    lk_filter filter;
    int crop_h, crop_w;
    double scale; float mean[3], std[3];
} lk_prepare;
lk_err lk_prepare_load(const char *path, lk_prepare *);
/* An RGB picture -> *out [3][*h][*w], malloc. */
lk_err lk_prepare_run(const lk_prepare *, const lk_image *, float **out, int *h, int *w);
/* "Pillow bicubic, shorter edge 224, centre crop 224 x 224" */
void   lk_prepare_describe(const lk_prepare *, char *to, size_t room);
#endif
