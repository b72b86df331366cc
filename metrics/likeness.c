/* Likeness scores from embeddings of common frames. */
#include "metrics/likeness.h"
#include "base/exact_math.h"
#include "models/sheet.h"
#include <stdlib.h>
#include <string.h>

struct lk_likeness {
    lk_faces *faces;
    int n_ref, n_test;
    float *ref[LK_RECOGNISERS], *test[LK_RECOGNISERS];
    double test_ref_angle;
};

double lk_judge_scale(double d) { return (LK_JUDGE_IMPOSTOR - d) / (LK_JUDGE_IMPOSTOR - LK_JUDGE_GENUINE); }

static double arcsin(double s) {                    /* 0 <= s <= .75: Newton on sin, quadratic from a cubic start */
    double x = s + s * s * s / 6;
    for (int i = 0; i < 5; i++) x -= (lk_sin_d(x) - s) / lk_cos_d(x);
    return x;
}
double lk_arccos(double c) {
    static const double pi = 3.14159265358979324;
    c = c < -1 ? -1 : c > 1 ? 1 : c;
    return c >= 0 ? 2 * arcsin(__builtin_sqrt((1 - c) / 2)) : pi - 2 * arcsin(__builtin_sqrt((1 + c) / 2));
}
/* Mean over the rows of `others` (leaving out row `skip`). */
typedef double (*pair_fn)(lk_recogniser, const float *, const float *);
static double angle(lk_recogniser r, const float *a, const float *b) { return lk_arccos(lk_embedding_cosine(a, b, lk_recogniser_dim(r))); }
static double mean_to(pair_fn f, lk_recogniser r, const float *e, const float *others, int n, int skip) {
    double sum = 0;
    int count = 0, dim = lk_recogniser_dim(r);
    for (int i = 0; i < n; i++) {
        if (i == skip) continue;
        sum += f(r, e, others + i * dim);
        count++;
    }
    return sum / count;
}
static lk_err embed(lk_faces *f, lk_recogniser r, const float *frames, int n, float **out) {
    *out = lk_xmalloc(sizeof(float) * (size_t)(n * lk_recogniser_dim(r)));
    return lk_faces_embed_frames(f, r, frames, n, *out);
}
lk_err lk_likeness_new(lk_faces *f, const float *references, int n_ref, const float *tests, int n_test, lk_likeness **out) {
    lk_likeness *l = lk_xcalloc(1, sizeof *l);
    *l = (lk_likeness){.faces = f, .n_ref = n_ref, .n_test = n_test};
    lk_err e = n_ref > 0 && n_test > 0 ? LK_OK : lk_error(LK_EINPUT, "likeness needs reference and test photos, got %d and %d", n_ref, n_test);
    for (int r = 0; r < LK_RECOGNISERS && !e; r++) {
        e = embed(f, (lk_recogniser)r, references, n_ref, &l->ref[r]);
        if (!e) e = embed(f, (lk_recogniser)r, tests, n_test, &l->test[r]);
    }
    if (e) { lk_likeness_free(l); return e; }
    for (int i = 0; i < n_test; i++) l->test_ref_angle += mean_to(angle, LK_DLIB, l->test[LK_DLIB] + i * lk_recogniser_dim(LK_DLIB), l->ref[LK_DLIB], n_ref, -1) / n_test;
    *out = l;
    return LK_OK;
}
void lk_likeness_free(lk_likeness *l) {
    if (!l) return;
    for (int r = 0; r < LK_RECOGNISERS; r++) { free(l->ref[r]); free(l->test[r]); }
    free(l);
}
static lk_err aligned_score(lk_likeness *l, const float *frame, int skip, lk_likeness_score *s) {
    lk_image im = lk_image_from_frame(frame, LK_FRAME, LK_FRAME);
    lk_face face;
    bool found;
    lk_err e = lk_faces_find(l->faces, &im, 96, 0.3, &face, &found);
    if (!e && found) {
        double to[6], from[6];
        float *chip = lk_xmalloc(sizeof(float) * 3 * 150 * 150), embedding[128];
        lk_face_to_dlib(&face, to);
        lk_affine_invert(to, from);
        lk_warp_image(&im, from, 150, 150, chip);
        e = lk_faces_embed(l->faces, LK_DLIB, chip, 1, embedding);
        free(chip);
        s->detected = 1;
        if (!e) s->id_aligned = lk_judge_scale(-mean_to(lk_recogniser_similarity, LK_DLIB, embedding, l->test[LK_DLIB], l->n_test, skip));
    }
    lk_image_free(&im);
    return e;
}
lk_err lk_likeness_of(lk_likeness *l, const float *frames, int n, bool leave_out, lk_likeness_score *out) {
    float *e[LK_RECOGNISERS] = {0};
    lk_err err = LK_OK;
    for (int r = 0; r < LK_RECOGNISERS && !err; r++) err = embed(l->faces, (lk_recogniser)r, frames, n, &e[r]);
    for (int i = 0; i < n && !err; i++) {
        int skip = leave_out ? i : -1;
        const float *judge = e[LK_DLIB] + i * lk_recogniser_dim(LK_DLIB);
        double gt = mean_to(angle, LK_DLIB, judge, l->test[LK_DLIB], l->n_test, skip), gr = mean_to(angle, LK_DLIB, judge, l->ref[LK_DLIB], l->n_ref, -1);
        out[i] = (lk_likeness_score){
            .id_judge = lk_judge_scale(-mean_to(lk_recogniser_similarity, LK_DLIB, judge, l->test[LK_DLIB], l->n_test, skip)),
            .id_ref = lk_judge_scale(-mean_to(lk_recogniser_similarity, LK_DLIB, judge, l->ref[LK_DLIB], l->n_ref, -1)),
            .witness = mean_to(lk_recogniser_similarity, LK_MOBILEFACE, e[LK_MOBILEFACE] + i * lk_recogniser_dim(LK_MOBILEFACE), l->test[LK_MOBILEFACE], l->n_test, skip),
            .loss_net = mean_to(lk_recogniser_similarity, LK_MOBILEFACENET, e[LK_MOBILEFACENET] + i * lk_recogniser_dim(LK_MOBILEFACENET), l->test[LK_MOBILEFACENET], l->n_test, skip),
            .copy_paste = (gt - gr) / (l->test_ref_angle > 1e-3 ? l->test_ref_angle : 1e-3)};
        err = aligned_score(l, frames + (size_t)i * LK_FRAME_SIZE, skip, &out[i]);
    }
    for (int r = 0; r < LK_RECOGNISERS; r++) free(e[r]);
    return err;
}
