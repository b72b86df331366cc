/* extract: from pictures (or texts) to the vectors metrics work on, by a network whose weights the user names, prepared as its owner
 * prepares them. What was done is written into a provenance: weights with their SHA-256, resize, features.
 *
 *   pixels                                   [h][w][c] on [0, 1]; all pictures of one size
 *   inception/WAY[:LAYER]                    WAY: pytorch-fid torch-fidelity torchmetrics clean-fid; LAYER: 64 192 768 2048 (default) logits
 *                                            logits_unbiased. weights: safetensors of pytorch-fid's or torch-fidelity's file (docs/metrics.md)
 *   vgg16                                    relu5_3 averaged over space; weights: torchvision's, as safetensors
 *   lpips/alex|vgg|squeeze                   squared distances of these vectors are LPIPS; weights: the trunk's, torchvision's names
 *   clip, dinov2, dino                       unit-length CLIP image embeddings; class tokens. model: a directory with config.json,
 *                                            model.safetensors, preprocessor_config.json
 *   faces/dlib|mobileface|mobilefacenet      embedding of the aligned face and a flag, 1 where one was found; model: models/faces */
#ifndef LK_EXTRACT_H
#define LK_EXTRACT_H
#include "metrics/metric.h"

typedef enum { LK_FACE_BEST, LK_FACE_LARGEST, LK_FACE_CENTRE } lk_face_rule;      /* which of several faces: score, box area, nearest to the middle */
typedef struct {
    const char *weights, *model;         /* a file; a directory */
    const char *sha256;                  /* expected of the weights; NULL: not checked, but recorded */
    bool flip;                           /* faces: average with the mirrored face's embedding */
    lk_face_rule rule;
    double threshold; int detect;        /* faces: detector's threshold (0: .5) and input side (0: 128) */
    int crop, stride;                    /* each picture becomes its crops of this side on a grid (stride 0: crop); 0: whole pictures */
} lk_extract_options;
typedef struct lk_extractor lk_extractor;
lk_err  lk_extractor_new(const char *name, const lk_extract_options *, lk_pool *, lk_extractor **);
void    lk_extractor_free(lk_extractor *);
/* Length of a vector; 0 before the first picture where it depends on the pictures' size. */
int64_t lk_extractor_dim(const lk_extractor *);
/* Vectors a picture gives: 1, or its crops. */
int64_t lk_extractor_each(const lk_extractor *, const lk_picture *);
/* n pictures -> *out [vectors][d], malloc. name(s): for messages, may be NULL. What does not fit is an error that names the picture. */
lk_err  lk_extractor_run(lk_extractor *, const lk_picture *, const char *const *names, int n, double **out, int64_t *vectors);
const lk_provenance *lk_extractor_from(const lk_extractor *);
/* Unit-length text embeddings [n][d] of a CLIP in a model directory, its tokenizer in it or beside it; malloc. */
lk_err  lk_clip_texts(const char *model, const char *const *texts, int n, lk_pool *, double **out, int64_t *d);
#endif
