/* fid_input: how a picture becomes the input of FID's Inception (models/inception.h). */
#ifndef LK_FID_INPUT_H
#define LK_FID_INPUT_H
#include "io/io.h"
#include "models/inception.h"

/* The four ways pictures reach it. Each gives other features: an FID is comparable only within one way. */
typedef enum { LK_FID_PYTORCH, LK_FID_TORCH_FIDELITY, LK_FID_TORCHMETRICS, LK_FID_CLEAN, LK_FID_WAYS } lk_fid_way;
const char *lk_fid_way_name(lk_fid_way);                           /* "pytorch-fid", "torch-fidelity", "torchmetrics", "clean-fid" */
/* An RGB picture -> [3][299][299]: resized as the way does, then to its range. */
lk_err lk_fid_preprocess(lk_fid_way, const lk_image *, float *out);
#endif
