/* zoo: the small models under models/zoo, opened together. Their trainers are experiments/zoo. */
#ifndef LK_ZOO_H
#define LK_ZOO_H
#include "models/models.h"
#include "models/word_tokenizer.h"

enum { LK_ZOO_TOKENS = 24, LK_ZOO_LATENT = 8, LK_ZOO_GRID = 16, LK_ZOO_LATENT_SIZE = LK_ZOO_LATENT * LK_ZOO_GRID * LK_ZOO_GRID };
/* The schedule the base was trained with, as a DDIMScheduler's config. */
extern const char lk_zoo_scheduler[];
/* diffusers' layout: vae/, unet/, clip/ (a transformers CLIPModel), tokenizer/. */
typedef struct {
    char *directory;
    lk_word_tokenizer *tokenizer;
    lk_vae_config vae; lk_unet_config unet; lk_clip_text_config text; lk_clip_vision_config vision;
    lk_st *vae_weights, *unet_weights, *clip_weights;
} lk_zoo;
/* parts: any of "vae", "clip", "unet" in one string ("vae clip"): trainers open what exists so far. */
lk_err lk_zoo_open(const char *directory, const char *parts, lk_zoo *);
void   lk_zoo_close(lk_zoo *);
lk_err lk_zoo_encode_text(const lk_zoo *, const char *text, int64_t ids[LK_ZOO_TOKENS]);
/* 64x64 frames [n][3][64][64] of 0..255 -> latent means [n][8][16][16], and back (clamped to 0..255, not rounded). */
lk_err lk_zoo_encode(const lk_zoo *, lk_pool *, const float *frames, int n, float *latents);
lk_err lk_zoo_decode(const lk_zoo *, lk_pool *, const float *latents, int n, float *frames);
/* Frames [n][3][4 height][4 width] of 0..255 -> latents [n][8][height][width], and back. */
lk_err lk_zoo_encode_sized(const lk_zoo *, lk_pool *, const float *frames, int n, int height, int width, float *latents);
lk_err lk_zoo_decode_sized(const lk_zoo *, lk_pool *, const float *latents, int n, int height, int width, float *frames);
/* Unit-length CLIP embeddings [n][projection] of frames and of texts. */
lk_err lk_zoo_embed_frames(const lk_zoo *, lk_pool *, const float *frames, int n, float *out);
lk_err lk_zoo_embed_texts(const lk_zoo *, lk_pool *, const char *const *texts, int n, float *out);
/* Hidden states of texts as the UNet takes them: [n][LK_ZOO_TOKENS][text.hidden]. */
lk_err lk_zoo_hidden_texts(const lk_zoo *, lk_pool *, const char *const *texts, int n, float *out);
/* The people of the base split and the tokens reserved for personalisation: "<s02>" ..., "<p1>" ... "<p16>". */
char *lk_zoo_person_token(const char *subject);       /* free() */
/* "a photo of a man, ..." -> "a photo of a <token> man, ..." (before bald, too); free(). A text without person word comes back unchanged. */
char *lk_zoo_caption_with_token(const char *text, const char *token);
#endif
