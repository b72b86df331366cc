/* Distribution distances and rank-1 identification over the pictures of an arm. */
#include "experiments/common/pooled.h"
#include "metrics/attributes.h"
#include "metrics/metrics.h"
#include "models/face_set.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

lk_err lk_strip_read(const char *path, float **frames, int *n) {
    lk_image im;
    LK_TRY(lk_image_read(path, &im));
    *n = im.w / LK_FRAME;
    *frames = lk_xmalloc(sizeof(float) * (size_t)*n * LK_FRAME_SIZE);
    for (int i = 0; i < *n; i++)
        for (int k = 0; k < LK_FRAME_SIZE; k++) {
            int c = k / (LK_FRAME * LK_FRAME), y = k / LK_FRAME % LK_FRAME, x = k % LK_FRAME;
            (*frames)[(size_t)i * LK_FRAME_SIZE + (size_t)k] = im.px[(y * im.w + i * LK_FRAME + x) * im.c + (im.c == 3 ? c : 0)];
        }
    lk_image_free(&im);
    return LK_OK;
}
typedef struct { int n, real; const char **who; float *e[LK_RECOGNISERS]; } gallery;      /* first `real` rows: test photos of the swept people */
static lk_err embed(lk_faces *f, const float *frames, int n, float *e[LK_RECOGNISERS]) {
    static const lk_recogniser used[] = {LK_DLIB, LK_MOBILEFACE};
    for (int k = 0; k < 2; k++) {
        e[used[k]] = lk_xmalloc(sizeof(float) * (size_t)(n * lk_recogniser_dim(used[k])));
        LK_TRY(lk_faces_embed_frames(f, used[k], frames, n, e[used[k]]));
    }
    return LK_OK;
}
/* Base photos also fit the attribute classifier. */
static lk_err open_gallery(const lk_arms *a, const lk_dataset *d, lk_faces *f, gallery *g, lk_attributes **attributes) {
    int *photos = lk_xcalloc((size_t)lk_dataset_count(d), sizeof *photos), k;
    const char *const *base;
    int n_base = lk_dataset_subjects(d, "base", &base);
    g->who = lk_xcalloc((size_t)lk_dataset_count(d), sizeof *g->who);
    for (int p = 0; p < a->n_people + n_base; p++) {
        bool swept = p < a->n_people;
        const char *who = swept ? a->people[p] : base[p - a->n_people];
        const int *of = lk_dataset_photos(d, who, swept ? "test" : NULL, &k);
        for (int i = 0; i < k; i++) { g->who[g->n] = who; photos[g->n++] = of[i]; }
        if (swept) g->real = g->n;
    }
    lk_face_set set;
    lk_err e = lk_face_set_new(f, d, photos, g->n, &set);
    free(photos);
    if (e) return e;
    e = embed(f, set.frame, g->n, g->e);
    lk_face_set base_set = {set.n - g->real, set.photo + g->real, set.face + g->real, set.frame + (size_t)g->real * LK_FRAME_SIZE, set.inside + (size_t)g->real * LK_FRAME * LK_FRAME};
    if (!e) e = lk_attributes_new(f, d, &base_set, attributes);
    lk_face_set_free(&set);
    return e;
}
static bool right_person(const gallery *g, lk_recogniser r, const float *e, const char *who) {
    int dim = lk_recogniser_dim(r), best = 0;
    double most = -1e300;
    for (int i = 0; i < g->n; i++) {
        double s = lk_recogniser_similarity(r, e, g->e[r] + i * dim);
        if (s > most) { most = s; best = i; }
    }
    return !strcmp(g->who[best], who);
}
static lk_err check_captions(lk_sweep *s, int run, lk_attributes *attributes, const float *frames, int n, lk_pooled *out) {
    int64_t stated[LK_ATTRIBUTE_KINDS] = {0}, confirmed[LK_ATTRIBUTE_KINDS] = {0};
    const char **captions = lk_xcalloc((size_t)n, sizeof *captions);
    for (int i = 0; i < n; i++) { captions[i] = lk_run_get_sample_text(lk_sweep_run(s, run), "prompt", i); if (!captions[i]) captions[i] = ""; }
    lk_err e = lk_attributes_check(attributes, frames, captions, n, stated, confirmed);
    for (int k = 0; k < LK_ATTRIBUTE_KINDS; k++) { out->stated += stated[k]; out->confirmed += confirmed[k]; }
    free(captions);
    return e;
}
/* Mean over pairs of people of the same-seed ratio: pictures of two people from the same noise and prompt against those from other noise. */
static lk_err same_seed(const double *features, int dim, const int64_t *first, const int64_t *count, int people, double *mean) {
    double sum = 0;
    int n = 0;
    for (int p = 0; p < people; p++) for (int q = p + 1; q < people; q++) {
        double ratio;
        if (count[p] != count[q] || count[p] < 2) continue;
        LK_TRY(lk_same_seed_ratio(features + first[p] * dim, features + first[q] * dim, count[p], dim, &ratio));
        sum += ratio;
        n++;
    }
    *mean = n ? sum / n : NAN;
    return LK_OK;
}
static lk_err pool_arm(const lk_arms *a, int arm, lk_faces *f, const gallery *g, lk_attributes *attributes, lk_pooled *out) {
    int dim = lk_recogniser_dim(LK_DLIB), most = 0;
    double *features = NULL, *real = lk_xmalloc(sizeof(double) * (size_t)(g->real * dim)), judge = 0, witness = 0;
    lk_err e = LK_OK;
    int64_t first[LK_MAX_PEOPLE], count[LK_MAX_PEOPLE] = {0};           /* of each person's first run */
    *out = (lk_pooled){.n_real = g->real, .frechet_se = NAN, .kid_se = NAN, .same_seed = NAN};
    for (int run = 0; run < lk_sweep_count(a->sweep) && !e; run++)
        for (int p = 0; p < a->n_people && !e; p++) {
            if (!lk_arm_has(a, arm, a->people[p], run)) continue;
            float *frames, *emb[LK_RECOGNISERS] = {0};
            int n;
            e = lk_strip_read(lk_sweep_run_path(a->sweep, run, "samples.png"), &frames, &n);
            if (e) break;
            e = embed(f, frames, n, emb);
            if (!e) e = check_captions(a->sweep, run, attributes, frames, n, out);
            free(frames);
            if (out->n + n > most) { most = (int)(out->n + n) * 2; features = lk_xrealloc(features, sizeof(double) * (size_t)(most * dim)); }
            for (int i = 0; i < n && !e; i++) {
                for (int k = 0; k < dim; k++) features[(out->n + i) * dim + k] = emb[LK_DLIB][i * dim + k];
                judge += right_person(g, LK_DLIB, emb[LK_DLIB] + i * dim, a->people[p]);
                witness += right_person(g, LK_MOBILEFACE, emb[LK_MOBILEFACE] + i * lk_recogniser_dim(LK_MOBILEFACE), a->people[p]);
            }
            if (!count[p]) { first[p] = out->n; count[p] = n; }
            out->n += n;
            free(emb[LK_DLIB]); free(emb[LK_MOBILEFACE]);
        }
    for (int i = 0; i < g->real * dim; i++) real[i] = g->e[LK_DLIB][i];
    if (!e && out->n >= 2 && g->real >= 2) {
        lk_frechet fd;
        lk_mmd kid;
        bool enough = out->n >= 40 && g->real >= 40;
        e = lk_frechet_features(features, out->n, real, g->real, dim, enough ? 20 : 0, &fd);
        if (!e) e = lk_kid_full(features, out->n, real, g->real, dim, NULL, &kid);
        if (!e) {
            out->frechet = fd.value; out->frechet_se = enough ? fd.se : NAN; out->few = fd.few;
            out->kid = kid.value; out->kid_se = kid.variance > 0 ? __builtin_sqrt(kid.variance) : NAN;
            out->rank1_judge = judge / (double)out->n; out->rank1_witness = witness / (double)out->n;
        }
    }
    if (!e && !a->arm[arm].control) e = same_seed(features, dim, first, count, a->n_people, &out->same_seed);
    free(features); free(real);
    return e;
}
lk_err lk_pooled_of(const lk_arms *a, const char *dataset, lk_pooled out[LK_MAX_ARMS]) {
    lk_dataset *d = NULL;
    lk_faces *f = NULL;
    gallery g = {0};
    lk_attributes *attributes = NULL;
    lk_err e = lk_dataset_load(dataset, &d);
    if (!e) e = lk_faces_new("models/faces", lk_sweep_pool(a->sweep), &f);
    if (!e) e = open_gallery(a, d, f, &g, &attributes);
    for (int i = 0; i < a->n_arms && !e; i++) e = pool_arm(a, i, f, &g, attributes, &out[i]);
    for (int r = 0; r < LK_RECOGNISERS; r++) free(g.e[r]);
    free(g.who);
    lk_attributes_free(attributes);
    lk_faces_free(f);
    lk_dataset_free(d);
    return e;
}
