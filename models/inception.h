/* inception: the Inception-v3 that FID is defined with (Szegedy et al. 2016, arXiv:1512.00567, in the TensorFlow version of 2015).
 * It differs from torchvision's: 1008 classes, batch-norm eps 1e-3, average pools inside the Mixed blocks that leave padding out
 * of their divisor, and a max pool in the branch of Mixed_7c. Parameter names are those of pytorch-fid and torch-fidelity. */
#ifndef LK_INCEPTION_H
#define LK_INCEPTION_H
#include "models/nn.h"

enum { LK_INCEPTION_SIDE = 299, LK_INCEPTION_STAGES = 19 };
typedef struct {
    lk_val features64, features192, features768, features2048;     /* [N, d]: means over space */
    lk_val logits_unbiased, logits;                                /* [N, 1008]: without and with fc.bias */
    lk_val stage[LK_INCEPTION_STAGES];                             /* [N, C, H, W] after each module, by lk_inception_stage_name */
} lk_inception_out;
const char *lk_inception_stage_name(int i);                        /* "Conv2d_1a_3x3", ..., "Mixed_7c", "AvgPool" */
/* x [N, 3, 299, 299], about [-1, 1]. */
lk_inception_out lk_inception(const lk_net *, lk_val x);
#endif
