/* Encoding the base people's photos and writing out their captions. */
#include "train/cohort.h"
#include <stdlib.h>
#include <string.h>

static const char *keep(lk_cohort *c, char *text) {
    const char *s = lk_strdup(c->memory, text);
    free(text);
    return s;
}
static void mirror(const float *from, float *to) {
    for (int row = 0; row < 3 * LK_FRAME; row++) for (int x = 0; x < LK_FRAME; x++) to[row * LK_FRAME + x] = from[row * LK_FRAME + LK_FRAME - 1 - x];
}
/* Rows 4 i .. 4 i + 3 of a photo: plain, plain with token, mirrored, mirrored with token. */
static lk_err fill(const lk_studio *s, lk_cohort *c, const lk_face_set *set) {
    size_t n = (size_t)set->n, size = sizeof(float) * LK_ZOO_LATENT_SIZE;
    float *frames = lk_xmalloc(sizeof(float) * 2 * n * LK_FRAME_SIZE), *latents = lk_xmalloc(2 * n * size);
    for (size_t i = 0; i < n; i++) {
        memcpy(frames + 2 * i * LK_FRAME_SIZE, set->frame + i * LK_FRAME_SIZE, sizeof(float) * LK_FRAME_SIZE);
        mirror(set->frame + i * LK_FRAME_SIZE, frames + (2 * i + 1) * LK_FRAME_SIZE);
    }
    lk_err e = lk_zoo_encode(&s->zoo, s->pool, frames, 2 * set->n, latents);
    c->latents = lk_xmalloc(4 * n * size);
    c->captions = lk_alloc(c->memory, sizeof *c->captions * 4 * n);
    for (size_t i = 0; i < 4 * n && !e; i++) {
        const lk_photo *p = lk_dataset_at(s->data, set->photo[i / 4]);
        char *token = lk_zoo_person_token(p->subject), *text = i % 4 >= 2 ? lk_flip_caption(p->text) : lk_xstrdup(p->text);
        memcpy(c->latents + i * LK_ZOO_LATENT_SIZE, latents + i / 2 * LK_ZOO_LATENT_SIZE, size);
        c->captions[i] = i % 2 ? keep(c, lk_zoo_caption_with_token(text, token)) : lk_strdup(c->memory, text);
        free(token); free(text);
    }
    free(frames); free(latents);
    c->refs = (lk_references){4 * set->n, c->latents, c->captions};
    return e;
}
lk_err lk_cohort_open(const lk_studio *s, int people, int photos, lk_cohort *c) {
    *c = (lk_cohort){.memory = lk_arena_new()};
    const char *const *names;
    int all = lk_dataset_subjects(s->data, "base", &names), n = 0, *chosen = lk_xcalloc((size_t)lk_dataset_count(s->data), sizeof *chosen);
    for (int p = 0; p < all && (!people || p < people); p++) {
        int k;
        const int *of = lk_dataset_photos(s->data, names[p], NULL, &k);
        for (int i = 0; i < k && (!photos || i < photos); i++) chosen[n++] = of[i];
    }
    lk_face_set set;
    lk_err e = n ? lk_face_set_new(s->faces, s->data, chosen, n, &set) : lk_error(LK_EINPUT, "%s: nobody in the split 'base'", lk_dataset_directory(s->data));
    free(chosen);
    if (!e) {
        e = fill(s, c, &set);
        lk_face_set_free(&set);
    }
    if (e) lk_cohort_close(c);
    return e;
}
void lk_cohort_close(lk_cohort *c) {
    free(c->latents);
    if (c->memory) lk_arena_free(c->memory);
    *c = (lk_cohort){0};
}
