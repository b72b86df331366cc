/* Pictures of images.json by "id:A" and "id:B": the formula, or the stored file for a photograph. */
#ifndef LK_GOLDEN_PICTURES_H
#define LK_GOLDEN_PICTURES_H
#include "cli/golden/metrics_table.h"

lk_err lk_pictures_pair(lk_metric_table *, const char *id, lk_image *a, lk_image *b);
lk_err lk_pictures_one(lk_metric_table *, const char *id_and_side, lk_image *);
#endif
