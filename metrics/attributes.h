/* attributes: does a picture show what its caption says (glasses, expression, pose)? Judged by a classifier that shares nothing with
 * the generator, the CLIP pair or the recognisers' embeddings: multinomial logistic regression on landmarks and coarse pixels, fitted in a
 * second to the captioned base photos and their mirror images. Binary64, fixed order: the same bits everywhere. */
#ifndef LK_ATTRIBUTES_H
#define LK_ATTRIBUTES_H
#include "models/face_set.h"

enum { LK_GLASSES, LK_EXPRESSION, LK_POSE, LK_ATTRIBUTE_KINDS };
typedef struct lk_attributes lk_attributes;
/* Fits to the photos of a set by their labels in the data set. */
lk_err lk_attributes_new(lk_faces *, const lk_dataset *, const lk_face_set *, lk_attributes **);
void   lk_attributes_free(lk_attributes *);
/* What a caption states of a kind: its class, or -1 where it says nothing ("smiling" and "laughing" are one class). */
int    lk_attribute_stated(const char *caption, int kind);
const char *lk_attribute_name(int kind, int class);
/* Stated attributes of n frames' captions: how many there are and how many the classifier confirms. */
lk_err lk_attributes_check(lk_attributes *, const float *frames, const char *const *captions, int n, int64_t stated[LK_ATTRIBUTE_KINDS], int64_t confirmed[LK_ATTRIBUTE_KINDS]);
#endif
