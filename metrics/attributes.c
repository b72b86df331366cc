/* Features, fit and check of the caption-attribute classifier. */
#include "metrics/attributes.h"
#include "base/exact_math.h"
#include "models/sheet.h"
#include <stdlib.h>
#include <string.h>

enum { COARSE = 16, EYE_X = 10, EYE_Y = 18, EYE_W = 22, EYE_H = 9, POINTS_AT = COARSE * COARSE + EYE_W * EYE_H, FEATURES = POINTS_AT + 136 + 1, CLASSES = 6, STEPS = 400 };
static const struct { int n; const char *name[CLASSES], *word[CLASSES]; } kinds[LK_ATTRIBUTE_KINDS] = {     /* class 0 is what a caption leaves out */
    [LK_GLASSES] = {2, {"no", "yes"}, {NULL, "wearing glasses"}},
    [LK_EXPRESSION] = {5, {"neutral", "smiling", "mouth open", "eyes closed", "frowning"}, {NULL, "smiling", "mouth open", "eyes closed", "frowning"}},
    [LK_POSE] = {6, {"frontal", "turned left", "turned right", "looking up", "looking down", "tilted"}, {NULL, "turned left", "turned right", "looking up", "looking down", "head tilted"}}};
struct lk_attributes { lk_faces *faces; double mean[FEATURES], scale[FEATURES], w[LK_ATTRIBUTE_KINDS][CLASSES][FEATURES]; };

const char *lk_attribute_name(int kind, int class) { return kinds[kind].name[class]; }
int lk_attribute_stated(const char *caption, int kind) {
    for (int c = 1; c < kinds[kind].n; c++) if (strstr(caption, kinds[kind].word[c])) return c;
    return kind == LK_EXPRESSION && strstr(caption, "laughing") ? 1 : -1;
}

/* Grey means of 4x4 pixels, of 2x2 pixels around the eyes, each less its own mean, and the 68 landmarks of a fixed box of the common frame. */
static void centre(double *x, int n) {
    double sum = 0;
    for (int k = 0; k < n; k++) sum += x[k];
    for (int k = 0; k < n; k++) x[k] -= sum / n;
}
static lk_err features_of(lk_faces *f, const float *frame, double *x) {
    memset(x, 0, sizeof *x * FEATURES);
    for (int k = 0; k < COARSE * COARSE; k++) for (int i = 0; i < 16; i++) x[k] += frame[(k / COARSE * 4 + i / 4) * LK_FRAME + k % COARSE * 4 + i % 4] / 16;
    double *eyes = x + COARSE * COARSE;
    for (int k = 0; k < EYE_W * EYE_H; k++) for (int i = 0; i < 4; i++) eyes[k] += frame[(EYE_Y + k / EYE_W * 2 + i / 2) * LK_FRAME + EYE_X + k % EYE_W * 2 + i % 2] / 4;
    centre(x, COARSE * COARSE);
    centre(eyes, EYE_W * EYE_H);
    lk_face face = {.x0 = 4, .y0 = 8, .x1 = 60, .y1 = 64};
    lk_image im = lk_image_from_frame(frame, LK_FRAME, LK_FRAME);
    lk_err e = lk_faces_landmarks(f, &im, &face);
    lk_image_free(&im);
    for (int i = 0; i < 136; i++) x[POINTS_AT + i] = face.point[i / 2][i % 2];
    x[FEATURES - 1] = 1;
    return e;
}
static void standardise(lk_attributes *a, double *x, int n) {
    for (int k = 0; k < FEATURES - 1; k++) {
        double m = 0, v = 0;
        for (int i = 0; i < n; i++) m += x[(size_t)i * FEATURES + (size_t)k] / n;
        for (int i = 0; i < n; i++) { double d = x[(size_t)i * FEATURES + (size_t)k] - m; v += d * d / n; }
        a->mean[k] = m;
        a->scale[k] = 1 / __builtin_sqrt(v + 1e-6);
    }
    a->mean[FEATURES - 1] = 0;
    a->scale[FEATURES - 1] = 1;
    for (int i = 0; i < n; i++) for (int k = 0; k < FEATURES; k++) { double *p = &x[(size_t)i * FEATURES + (size_t)k]; *p = (*p - a->mean[k]) * a->scale[k]; }
}
static void softmax_row(double (*w)[FEATURES], int classes, const double *x, double *p) {
    double most = -1e300, sum = 0;
    for (int c = 0; c < classes; c++) {
        p[c] = 0;
        for (int k = 0; k < FEATURES; k++) p[c] += w[c][k] * x[k];
        if (p[c] > most) most = p[c];
    }
    for (int c = 0; c < classes; c++) { p[c] = lk_exp_d(p[c] - most); sum += p[c]; }
    for (int c = 0; c < classes; c++) p[c] /= sum;
}
/* Gradient descent with momentum, ridge .02; classes weighed by the square root of their rarity. */
static void fit(double (*w)[FEATURES], int classes, const double *x, const int *y, int n) {
    double (*g)[FEATURES] = lk_xcalloc((size_t)classes, sizeof *g), (*m)[FEATURES] = lk_xcalloc((size_t)classes, sizeof *m), weight[CLASSES] = {0}, total = 0;
    for (int i = 0; i < n; i++) weight[y[i]] += 1;
    for (int c = 0; c < classes; c++) weight[c] = weight[c] > 0 ? 1 / __builtin_sqrt(weight[c]) : 0;
    for (int i = 0; i < n; i++) total += weight[y[i]];
    for (int step = 0; step < STEPS; step++) {
        memset(g, 0, sizeof *g * (size_t)classes);
        for (int i = 0; i < n; i++) {
            double p[CLASSES];
            const double *row = x + (size_t)i * FEATURES;
            softmax_row(w, classes, row, p);
            p[y[i]] -= 1;
            for (int c = 0; c < classes; c++) for (int k = 0; k < FEATURES; k++) g[c][k] += weight[y[i]] / total * p[c] * row[k];
        }
        for (int c = 0; c < classes; c++)
            for (int k = 0; k < FEATURES; k++) {
                m[c][k] = 0.9 * m[c][k] + g[c][k] + (k < FEATURES - 1 ? 0.02 * w[c][k] : 0);
                w[c][k] -= 0.02 * m[c][k];
            }
    }
    free(g); free(m);
}
static void mirror(const float *frame, float *out) {
    for (int r = 0; r < 3 * LK_FRAME; r++) for (int x = 0; x < LK_FRAME; x++) out[r * LK_FRAME + x] = frame[r * LK_FRAME + LK_FRAME - 1 - x];
}
lk_err lk_attributes_new(lk_faces *f, const lk_dataset *d, const lk_face_set *s, lk_attributes **out) {
    lk_attributes *a = lk_xcalloc(1, sizeof *a);
    a->faces = f;
    int n = 2 * s->n;
    double *x = lk_xmalloc(sizeof(double) * (size_t)n * FEATURES);
    int *y = lk_xcalloc((size_t)n * LK_ATTRIBUTE_KINDS, sizeof *y);
    float *flipped = lk_xmalloc(sizeof(float) * LK_FRAME_SIZE);
    lk_err e = LK_OK;
    for (int i = 0; i < n && !e; i++) {
        const float *frame = s->frame + (size_t)(i / 2) * LK_FRAME_SIZE;
        const char *text = lk_dataset_at(d, s->photo[i / 2])->text;
        char *caption = i % 2 ? lk_flip_caption(text) : lk_xstrdup(text);
        if (i % 2) { mirror(frame, flipped); frame = flipped; }
        e = features_of(f, frame, x + (size_t)i * FEATURES);
        for (int kind = 0; kind < LK_ATTRIBUTE_KINDS; kind++) { int c = lk_attribute_stated(caption, kind); y[kind * n + i] = c < 0 ? 0 : c; }
        free(caption);
    }
    if (!e) standardise(a, x, n);
    for (int kind = 0; kind < LK_ATTRIBUTE_KINDS && !e; kind++) fit(a->w[kind], kinds[kind].n, x, y + kind * n, n);
    free(x); free(y); free(flipped);
    if (e) lk_attributes_free(a);
    else *out = a;
    return e;
}
void lk_attributes_free(lk_attributes *a) { free(a); }
lk_err lk_attributes_check(lk_attributes *a, const float *frames, const char *const *captions, int n, int64_t stated[LK_ATTRIBUTE_KINDS], int64_t confirmed[LK_ATTRIBUTE_KINDS]) {
    for (int i = 0; i < n; i++) {
        double x[FEATURES], p[CLASSES];
        LK_TRY(features_of(a->faces, frames + (size_t)i * LK_FRAME_SIZE, x));
        for (int k = 0; k < FEATURES; k++) x[k] = (x[k] - a->mean[k]) * a->scale[k];
        for (int kind = 0; kind < LK_ATTRIBUTE_KINDS; kind++) {
            int want = lk_attribute_stated(captions[i], kind), best = 0;
            if (want < 0) continue;
            softmax_row(a->w[kind], kinds[kind].n, x, p);
            for (int c = 1; c < kinds[kind].n; c++) if (p[c] > p[best]) best = c;
            stated[kind]++;
            confirmed[kind] += best == want;
        }
    }
    return LK_OK;
}
