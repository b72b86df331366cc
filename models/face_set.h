/* A data set's photos as aligned common frames, with the share of each pixel that lies within the photo. */
#ifndef LK_FACE_SET_H
#define LK_FACE_SET_H
#include "datasets/datasets.h"
#include "models/face.h"

enum { LK_FRAME_SIZE = 3 * LK_FRAME * LK_FRAME };
typedef struct {
    int n;
    int     *photo;        /* index in the data set */
    lk_face *face;
    float   *frame;        /* [n][3][64][64], 0..255 */
    float   *inside;       /* [n][64][64] */
} lk_face_set;
/* photos NULL: all n of the data set. A photo without a detected face is an error that names it. */
lk_err lk_face_set_new(lk_faces *, const lk_dataset *, const int *photos, int n, lk_face_set *);
/* Every photo of a split's people ("base"), person by person. */
lk_err lk_face_set_split(lk_faces *, const lk_dataset *, const char *split, lk_face_set *);
void   lk_face_set_free(lk_face_set *);
/* The face's region of a common frame: share of each of grid x grid cells within the convex hull of its 68 landmarks, by 4 x 4 points a pixel. */
void   lk_face_mask(const lk_face *, int grid, float *mask);
#endif
