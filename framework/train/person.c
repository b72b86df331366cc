/* Opening the studio and its people. */
#include "train/person.h"
#include <stdlib.h>
#include <string.h>

lk_err lk_studio_open(const char *dataset, lk_pool *pool, lk_studio *s) {
    *s = (lk_studio){.pool = pool};
    lk_err e = lk_dataset_load(dataset, &s->data);
    if (!e) e = lk_faces_new("models/faces", pool, &s->faces);
    if (!e) e = lk_zoo_open("models/zoo", "vae clip unet", &s->zoo);
    if (e) lk_studio_close(s);
    return e;
}
void lk_studio_close(lk_studio *s) {
    if (s->zoo.directory) lk_zoo_close(&s->zoo);
    lk_faces_free(s->faces);
    lk_dataset_free(s->data);
    *s = (lk_studio){0};
}
static lk_err place_of(const lk_studio *s, const char *subject, int *place) {
    const char *const *names;
    int n = lk_dataset_subjects(s->data, "personal", &names);
    for (*place = 0; *place < n; ++*place) if (!strcmp(names[*place], subject)) return LK_OK;
    return lk_error(LK_EINPUT, "'%s' is not in the split 'personal' of %s; nearest: '%s'", subject, lk_dataset_directory(s->data), n ? names[lk_nearest(subject, names, n)] : "nobody");
}
static const char *keep(lk_person *p, char *text) {
    const char *s = lk_strdup(p->memory, text);
    free(text);
    return s;
}
static lk_err load_photos(const lk_studio *s, lk_person *p) {
    const int *ref = lk_dataset_photos(s->data, p->subject, "reference", &p->n_ref), *test = lk_dataset_photos(s->data, p->subject, "test", &p->n_test);
    if (!p->n_ref || !p->n_test) return lk_error(LK_EINPUT, "%s/splits.json: '%s' needs reference and test photos, has %d and %d", lk_dataset_directory(s->data), p->subject, p->n_ref, p->n_test);
    p->noun = strcmp(lk_photo_label(lk_dataset_at(s->data, ref[0]), "person"), "woman") ? "man" : "woman";
    p->ref_captions = lk_alloc(p->memory, sizeof(char *) * 2 * (size_t)p->n_ref);
    p->test_captions = lk_alloc(p->memory, sizeof(char *) * (size_t)p->n_test);
    for (int i = 0; i < p->n_ref; i++) {
        char *plain = lk_zoo_caption_with_token(lk_dataset_at(s->data, ref[i])->text, p->token);
        p->ref_captions[p->n_ref + i] = keep(p, lk_flip_caption(plain));
        p->ref_captions[i] = keep(p, plain);
    }
    for (int i = 0; i < p->n_test; i++) p->test_captions[i] = keep(p, lk_zoo_caption_with_token(lk_dataset_at(s->data, test[i])->text, p->token));
    LK_TRY(lk_face_set_new(s->faces, s->data, ref, p->n_ref, &p->ref));
    return lk_face_set_new(s->faces, s->data, test, p->n_test, &p->test);
}
static lk_err encode_references(const lk_studio *s, lk_person *p) {
    size_t n = (size_t)p->n_ref;
    float *frames = lk_xmalloc(sizeof(float) * 2 * n * LK_FRAME_SIZE);
    memcpy(frames, p->ref.frame, sizeof(float) * n * LK_FRAME_SIZE);
    for (size_t row = 0; row < n * 3 * LK_FRAME; row++)
        for (int x = 0; x < LK_FRAME; x++) frames[n * LK_FRAME_SIZE + row * LK_FRAME + (size_t)x] = p->ref.frame[row * LK_FRAME + (size_t)(LK_FRAME - 1 - x)];
    p->ref_latents = lk_xmalloc(sizeof(float) * 2 * n * LK_ZOO_LATENT_SIZE);
    lk_err e = lk_zoo_encode(&s->zoo, s->pool, frames, 2 * p->n_ref, p->ref_latents);
    free(frames);
    return e;
}
lk_err lk_person_open(const lk_studio *s, const char *subject, lk_person *p) {
    *p = (lk_person){.memory = lk_arena_new()};
    int place;
    lk_err e = place_of(s, subject, &place);
    if (!e) {
        p->subject = lk_strdup(p->memory, subject);
        p->token = lk_fmt(p->memory, "<p%d>", place + 1);
        if (lk_word_tokenizer_id(s->zoo.tokenizer, p->token) < 0) e = lk_error(LK_EINPUT, "the zoo's tokeniser reserves no token %s: too many people in the split", p->token);
    }
    if (!e) e = load_photos(s, p);
    if (!e) e = encode_references(s, p);
    if (!e) e = lk_likeness_new(s->faces, p->ref.frame, p->n_ref, p->test.frame, p->n_test, &p->likeness);
    if (e) lk_person_close(p);
    return e;
}
void lk_person_close(lk_person *p) {
    if (!p->memory) return;
    lk_likeness_free(p->likeness);
    free(p->ref_latents);
    lk_face_set_free(&p->ref);
    lk_face_set_free(&p->test);
    lk_arena_free(p->memory);
    *p = (lk_person){0};
}
const char *lk_person_prompt(const lk_person *p, const char *rest, bool token) {
    return token ? lk_fmt(p->memory, "a photo of a %s %s%s", p->token, p->noun, rest) : lk_fmt(p->memory, "a photo of a %s%s", p->noun, rest);
}
