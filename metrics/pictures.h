/* pictures: where a metric's pictures come from, one at a time: a folder (its .png, .jpg, .jpeg in name order), a single picture, or a
 * stack in an HDF5 file (FILE.h5 or FILE.h5:/DATASET). */
#ifndef LK_PICTURES_H
#define LK_PICTURES_H
#include "metrics/metric.h"

typedef struct lk_pictures lk_pictures;
/* range: of the values of a real stack; 0 where none is stated, then such a stack is refused. */
lk_err  lk_pictures_open(const char *path, double range, lk_pictures **);
void    lk_pictures_close(lk_pictures *);
int64_t lk_pictures_count(const lk_pictures *);
const char *lk_pictures_path(const lk_pictures *, int64_t i);      /* for messages */
const char *lk_pictures_name(const lk_pictures *, int64_t i);      /* file name; of a stack, its index */
/* *p stays valid until lk_pictures_drop(p). */
lk_err  lk_pictures_read(lk_pictures *, int64_t i, lk_picture *p);
void    lk_pictures_drop(lk_picture *p);
/* What decoded them: "libpng 1.6.39, libjpeg API 62, islow" or "HDF5 bytes". */
const char *lk_pictures_decoder(const lk_pictures *);
/* Folders pair by name and must hold the same ones; single pictures and stacks pair by index. */
lk_err  lk_pictures_paired(const lk_pictures *, const lk_pictures *);
#endif
