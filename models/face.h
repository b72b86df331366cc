/* Faces in pictures: find, align, embed. One aligned frame serves everything: the common 64x64 frame, in which the zoo's
 * pictures live and from which each recogniser takes its fixed warp.
 *
 * Coordinates are pixel indices (the first pixel's centre is 0), x right, y down. "ArcFace" is the 112x112 template of
 * Deng et al. 2019; the common frame sits at ArcFace = 2*x64 - 7.5, 2*y64 - 1.5. All host arithmetic is binary64 without
 * libm, rounded to binary32 once per pixel: the same bits everywhere. */
#ifndef LK_FACE_H
#define LK_FACE_H
#include "models/face_nets.h"

enum { LK_FRAME = 64, LK_ARCFACE = 112 };
typedef struct {
    double score, x0, y0, x1, y1;      /* detector's box in picture pixels (edge coordinates) */
    double point[68][2];               /* landmarks, picture pixels */
} lk_face;
typedef struct lk_faces lk_faces;      /* detector, landmarks, recognisers: weights loaded once, executors kept */
lk_err lk_faces_new(const char *directory /* models/faces */, lk_pool *, lk_faces **);
void   lk_faces_free(lk_faces *);

/* The best-scoring face; *found is false (and no error) when none reaches the threshold. The picture is zero-padded at the
 * bottom and right to a square and resized to size x size (a multiple of 32): ORL photos 128, the common frame 96 with threshold .3. */
lk_err lk_faces_find(lk_faces *, const lk_image *, int size, double threshold, lk_face *, bool *found);
/* All boxes above the threshold after non-maximum suppression (IoU .4), best first; no landmarks. *n of at most `most`. */
lk_err lk_faces_count(lk_faces *, const lk_image *, int size, double threshold, int most, lk_face *, int *n);

/* The 68 points of a face whose box is given. */
lk_err lk_faces_landmarks(lk_faces *, const lk_image *, lk_face *);

/* Similarity (a, -b, tx; b, a, ty) that carries n source points to destination points with the least squared error (Umeyama 1991;
 * in the plane a complex division). */
void lk_similarity(const double (*from)[2], const double (*to)[2], int n, double m[6]);
void lk_affine_compose(const double outer[6], const double inner[6], double out[6]);   /* outer(inner(p)) */
void lk_affine_invert(const double m[6], double out[6]);
void lk_face_to_arcface(const lk_face *, double m[6]);        /* picture -> ArcFace: from five points of the 68 */
void lk_face_to_dlib(const lk_face *, double m[6]);           /* picture -> dlib's 150x150 chip */
/* out[c][y][x] = picture at m(x, y), bilinear, edge-clamped; 3 channels (a grey picture thrice). */
void lk_warp_image(const lk_image *, const double m[6], int h, int w, float *out);
/* The aligned common frame: [3][64][64] pixels 0..255, not rounded, mean of 2x2 samples; inside[64][64] = the share of each pixel
 * that lies within the photo (the rest is a clamped edge: mask it out of losses and pixel metrics). inside may be NULL. */
void lk_face_frame(const lk_image *, const lk_face *, float *frame, float *inside);

/* Embeddings of n chips at the network's own size [n][3][S][S] -> [n][dim]; and of n common frames [n][3][64][64]. */
lk_err lk_faces_embed(lk_faces *, lk_recogniser, const float *chips, int n, float *out);
lk_err lk_faces_embed_frames(lk_faces *, lk_recogniser, const float *frames, int n, float *out);
/* The same inside a graph: frames [N,3,64,64] of pixels 0..255 through the fixed warp into the network. */
lk_val lk_face_embed_frames(const lk_net *, lk_recogniser, lk_val frames);
double lk_embedding_cosine(const float *a, const float *b, int dim), lk_embedding_distance(const float *a, const float *b, int dim);
/* As each recogniser is compared: cosine, or for dlib minus the Euclidean distance. Higher is more alike. */
double lk_recogniser_similarity(lk_recogniser, const float *a, const float *b);
#endif
