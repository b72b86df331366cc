/* Composing, drawing and counting on wide canvases. */
#include "experiments/common/two_faces.h"
#include "models/sheet.h"
#include <stdlib.h>
#include <string.h>

enum { WIDE = 2 * LK_FRAME, CANVAS = 2 * LK_FRAME_SIZE, DETECTOR = 192, MOST = 16 };   /* the detector sees a face as large as in a common frame at 96 */
static const double threshold = 0.3;

static void put(const float *frame, int side, float *canvas) {
    for (int row = 0; row < 3 * LK_FRAME; row++) memcpy(canvas + row * WIDE + side * LK_FRAME, frame + row * LK_FRAME, sizeof *canvas * LK_FRAME);
}
static void take(const float *canvas, int side, float *frame) {
    for (int row = 0; row < 3 * LK_FRAME; row++) memcpy(frame + row * LK_FRAME, canvas + row * WIDE + side * LK_FRAME, sizeof *frame * LK_FRAME);
}
static void round_to_bytes(float *v, size_t n) { for (size_t i = 0; i < n; i++) v[i] = v[i] <= 0 ? 0 : v[i] >= 255 ? 255 : (float)(uint8_t)(v[i] + 0.5f); }
/* Canvas i: the person's test photo i on the side i mod 2, the next person's first test photo on the other. */
static lk_err compose(const lk_trial *t, int n, float *canvases) {
    float *strangers = lk_xmalloc(sizeof *strangers * (size_t)n * LK_FRAME_SIZE);
    lk_err e = lk_trial_strangers(t, n, strangers);
    for (int i = 0; i < n && !e; i++) {
        put(t->person.test.frame + (size_t)(i % t->person.n_test) * LK_FRAME_SIZE, i % 2, canvases + (size_t)i * CANVAS);
        put(strangers + (size_t)i * LK_FRAME_SIZE, 1 - i % 2, canvases + (size_t)i * CANVAS);
    }
    free(strangers);
    return e;
}
typedef struct { double faces, more, fewer; } counted;
static lk_err count(const lk_trial *t, const float *canvases, int n, int expected, counted *out) {
    *out = (counted){0};
    for (int i = 0; i < n; i++) {
        lk_face found[MOST];
        int k;
        lk_image im = lk_image_from_frame(canvases + (size_t)i * CANVAS, LK_FRAME, WIDE);
        lk_err e = lk_faces_count(t->studio.faces, &im, DETECTOR, threshold, MOST, found, &k);
        lk_image_free(&im);
        if (e) return e;
        out->faces += (double)k / n;
        out->more += (double)(k > expected) / n;
        out->fewer += (double)(k < expected) / n;
    }
    return LK_OK;
}
static lk_err strangers_half(const lk_trial *t, const float *canvases, int n, double *leak) {
    float *frames = lk_xmalloc(sizeof *frames * (size_t)n * LK_FRAME_SIZE);
    lk_likeness_score *s = lk_xcalloc((size_t)n, sizeof *s);
    for (int i = 0; i < n; i++) take(canvases + (size_t)i * CANVAS, 1 - i % 2, frames + (size_t)i * LK_FRAME_SIZE);
    lk_err e = lk_likeness_of(t->person.likeness, frames, n, false, s);
    *leak = 0;
    for (int i = 0; i < n; i++) *leak += s[i].id_judge / n;
    free(frames); free(s);
    return e;
}
static lk_err note_edited(lk_trial *t, const float *canvases, int n) {
    counted c;
    double leak;
    LK_TRY(count(t, canvases, n, 2, &c));
    LK_TRY(strangers_half(t, canvases, n, &leak));
    lk_run *run = lk_ctx_run(t->c);
    lk_run_final(run, "faces_edited", c.faces);
    lk_run_final(run, "duplicates_edited", c.more);
    lk_run_final(run, "lost_edited", c.fewer);
    lk_run_final(run, "leak", leak);
    return LK_OK;
}
lk_err lk_two_faces_composed(lk_trial *t) {
    int n = (int)lk_ctx_int(t->c, "canvases");
    if (!n) return LK_OK;
    float *canvases = lk_xmalloc(sizeof *canvases * (size_t)n * CANVAS);
    lk_err e = compose(t, n, canvases);
    round_to_bytes(canvases, e ? 0 : (size_t)n * CANVAS);
    if (!e) e = note_edited(t, canvases, n);
    free(canvases);
    return e;
}
static lk_err write_sheet(const lk_trial *t, const float *edited, const float *drawn, int n) {
    lk_image sheet = lk_image_new(WIDE * n, 2 * LK_FRAME, 3);
    for (int i = 0; i < 2 * n; i++) {
        lk_image im = lk_image_from_frame((i < n ? edited : drawn) + (size_t)(i % n) * CANVAS, LK_FRAME, WIDE);
        for (int y = 0; y < LK_FRAME; y++) memcpy(sheet.px + ((y + i / n * LK_FRAME) * sheet.w + i % n * WIDE) * 3, im.px + y * WIDE * 3, WIDE * 3);
        lk_image_free(&im);
    }
    lk_err e = lk_image_write_png(lk_ctx_path(t->c, "canvases.png"), &sheet);
    lk_image_free(&sheet);
    return e;
}
lk_err lk_two_faces(lk_trial *t, lk_sampler *wide) {
    int n = (int)lk_ctx_int(t->c, "canvases");
    size_t pixels = (size_t)n * CANVAS, latents = (size_t)n * 2 * LK_ZOO_LATENT_SIZE;
    float *canvases = lk_xmalloc(sizeof *canvases * 2 * pixels), *drawn = canvases + pixels, *z = lk_xmalloc(sizeof *z * 2 * latents);
    const char **prompts = lk_xcalloc((size_t)n, sizeof *prompts);
    for (int i = 0; i < n; i++) prompts[i] = lk_person_prompt(&t->person, "", !t->tokenless);
    uint64_t seed = lk_ctx_seed(t->c);
    counted c = {0};
    lk_err e = compose(t, n, canvases);
    if (!e) e = lk_zoo_encode_sized(&t->studio.zoo, t->studio.pool, canvases, n, LK_ZOO_GRID, 2 * LK_ZOO_GRID, z);
    if (!e) e = lk_sample_from(wide, prompts, n, seed, 2000, lk_trial_sampling(t->c), 0.5, z, z);
    if (!e) e = lk_sample(wide, prompts, n, seed, 3000, lk_trial_sampling(t->c), z + latents);
    if (!e) e = lk_zoo_decode_sized(&t->studio.zoo, t->studio.pool, z, 2 * n, LK_ZOO_GRID, 2 * LK_ZOO_GRID, canvases);
    if (!e) {
        round_to_bytes(canvases, 2 * pixels);
        e = note_edited(t, canvases, n);
    }
    if (!e) e = count(t, drawn, n, 1, &c);
    if (!e) e = write_sheet(t, canvases, drawn, n);
    free(canvases); free(z); free(prompts);
    if (e) return e;
    lk_run_final(lk_ctx_run(t->c), "faces_drawn", c.faces);
    lk_run_final(lk_ctx_run(t->c), "duplicates_drawn", c.more);
    return LK_OK;
}
