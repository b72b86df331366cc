/* person: the embedded task's cast. A studio holds what every run needs (photos, zoo, recognisers), opened once a process; a person
 * is one of its people: reference and test photos as common frames, latents and captions of the references for training, the
 * likeness scorer. */
#ifndef LK_PERSON_H
#define LK_PERSON_H
#include "metrics/likeness.h"
#include "models/sampler.h"
#include "train/personalise.h"

typedef struct { lk_pool *pool; lk_dataset *data; lk_zoo zoo; lk_faces *faces; } lk_studio;
lk_err lk_studio_open(const char *dataset, lk_pool *, lk_studio *);
void   lk_studio_close(lk_studio *);

typedef struct {
    const char *subject, *noun;       /* "s10"; "man" or "woman" from the captions */
    const char *token;                /* "<p3>": the reserved token of the person's place in the personal split */
    int n_ref, n_test;
    lk_face_set ref, test;
    float *ref_latents;               /* [2 n_ref][8][16][16]: the references, then their mirror images */
    const char **ref_captions;        /* 2 n_ref, with the token; left and right swapped in the mirrored half */
    const char **test_captions;       /* n_test, with the token */
    lk_likeness *likeness;
    lk_arena *memory;
} lk_person;
lk_err lk_person_open(const lk_studio *, const char *subject, lk_person *);
void   lk_person_close(lk_person *);
/* "a photo of a %s" + rest, e.g. ", smiling": with the token for sampling, without for CLIP scores. In the person's arena. */
const char *lk_person_prompt(const lk_person *, const char *rest, bool token);
#endif
