/* terms: what else a personalised picture may be held to. Each is a switch with a weight, a row of one table (terms.c); together they are one extra
 * loss of a personaliser (personalise.h). Those that look at a picture see the diffusion branch's guess of the clean one, decoded, beside the photo it
 * was noised from (decoded too, detached), and count samples below the gate alone: a guess from pure noise is nobody's picture.
 *
 *   perc    1 - cosine of mobilefacenet's features                      models/faces: always there
 *   vgg     VGG16's feature maps (Johnson et al. 2016)                  needs the user's weights
 *   lpips   LPIPS with the published heads (Zhang et al. 2018)          needs the user's VGG16
 *   clip    1 - cosine of CLIP's image embedding                        needs the user's CLIP: the zoo's own judges (CLIP-T)
 *   prior   DreamBooth's prior preservation (Ruiz et al. 2023, eq. 2): the diffusion loss on pictures the base drew of the class
 *   mask    the diffusion loss on the face alone, whose region is the hull of its landmarks
 *   tv      total variation */
#ifndef LK_TRAIN_TERMS_H
#define LK_TRAIN_TERMS_H
#include "train/personalise.h"

typedef enum { LK_TERM_PERCEPTUAL, LK_TERM_VGG, LK_TERM_LPIPS, LK_TERM_CLIP, LK_TERM_PRIOR, LK_TERM_MASKED, LK_TERM_VARIATION, LK_TERMS } lk_term;
const char *lk_term_word(lk_term);
typedef struct {
    double weight[LK_TERMS];          /* 0: off */
    double gate;                      /* timestep below which a guess counts; 0: all */
    const char *vgg;                  /* safetensors with torchvision's names (features.0.weight, ...); "" or NULL: none */
    const char *clip;                 /* directory of a transformers CLIP (config.json, model.safetensors); "" or NULL: none */
    int prior;                        /* pictures of the class that the base draws */
    const char *prior_prompt;         /* "a photo of a man" */
} lk_terms_opts;
/* Weights below 0, a term without the weights it needs: refused, naming the setting that gives them. Reads no tensors. */
lk_err lk_terms_check(const lk_terms_opts *);

typedef struct lk_terms lk_terms;
/* masks [refs n][16][16], the face's share of each latent cell, for LK_TERM_MASKED; else NULL. batch: of the personaliser, whose seed and number of
 * references these are, so that each sample meets its own mask. Everything is borrowed but copied masks. */
lk_err lk_terms_new(const lk_zoo *, lk_terms_opts, int batch, int n_refs, const float *masks, uint64_t seed, lk_pool *, lk_terms **);
/* Without weights, pictures or masks: only build may be called, on models of whatever config the zoo names. */
lk_err lk_terms_graph_only(const lk_zoo *, lk_terms_opts, int batch, lk_terms **);
void   lk_terms_free(lk_terms *);
const lk_extra_loss *lk_terms_loss(const lk_terms *);
#endif
