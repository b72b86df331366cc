/* Face networks as graph builders: three recognisers, landmarks, detector. Weights and their sources: models/faces/README.md.
 * Inputs are pixels 0..255, RGB, [N,3,S,S]; each builder does its network's own preprocessing, so gradients are with respect to pixels. */
#ifndef LK_FACE_NETS_H
#define LK_FACE_NETS_H
#include "models/nn.h"

typedef enum { LK_MOBILEFACENET, LK_MOBILEFACE, LK_DLIB, LK_RECOGNISERS } lk_recogniser;   /* loss, witness, judge */
const char *lk_recogniser_name(lk_recogniser);     /* also the stem of its file in models/faces */
int    lk_recogniser_size(lk_recogniser);          /* S: 112, 112, 150 */
int    lk_recogniser_dim(lk_recogniser);           /* 192, 256, 128 */
lk_val lk_recogniser_embed(const lk_net *, lk_recogniser, lk_val pixels);   /* -> [N, dim]; mobilefacenet: unit length */
lk_val lk_face_landmarks(const lk_net *, lk_val pixels /* S = 112 */);      /* -> [N, 136]: x0, y0, x1, ... fractions of the square */
lk_val lk_face_detector(const lk_net *, lk_val pixels /* S a multiple of 32 */); /* -> [N, 25, G, G], G = S/32 */
/* As lk_weights_bind, for files with U8 tensors: every param under param_prefix is set from the file, U8 as T*scale + min. */
lk_err lk_face_weights(lk_exec *, const lk_st *, const char *param_prefix);
#endif
