/* Rows that ask how like a set is to another by directions of vectors (metric.h): CLIP-I, DINO, faces, and the copy-paste index.
 * A face vector ends with a flag: 1 where a face was found. */
#include "base/exact_math.h"
#include "metrics/likeness.h"
#include "metrics/linalg.h"
#include "metrics/metric.h"
#include <math.h>
#include <stdlib.h>

static double cosine(const double *a, const double *b, int64_t d) {
    double aa = lk_dot(a, a, d), bb = lk_dot(b, b, d);
    return aa > 0 && bb > 0 ? lk_dot(a, b, d) / sqrt(aa * bb) : NAN;
}
/* ---- CLIP-I, DINO: mean cosine over all pairs of the two sets ------------------------------------------------------------------------ */
static lk_err mean_cosine(const lk_metric *m, lk_pool *pool, lk_metric_result *r) {
    lk_metric_side a = lk_metric_side_of(m, 0), b = lk_metric_side_of(m, 1);
    int64_t d = lk_metric_dim(m);
    double *each = lk_metric_room(m), *row = lk_xmalloc((size_t)(a.n > b.n ? a.n : b.n) * sizeof *row), own = 0;
    (void)pool;
    for (int64_t i = 0; i < a.n; i++) {
        for (int64_t j = 0; j < b.n; j++) row[j] = cosine(a.x + i * d, b.x + j * d, d);
        each[i] = lk_chunked_sum(row, b.n) / (double)b.n;
        if (isnan(each[i])) { free(row); return lk_error(LK_ENUM, "picture %lld has a zero vector, or one of the second set has", (long long)i); }
    }
    for (int64_t i = 0; i < b.n; i++) for (int64_t j = i + 1; j < b.n; j++) own += cosine(b.x + i * d, b.x + j * d, d);
    free(row);
    lk_result_mean(r, each, a.n, "pictures, the second set as it is");
    if (b.n > 1) lk_result_extra(r, "real_real", own / ((double)b.n * (double)(b.n - 1) / 2));
    return LK_OK;
}

/* ---- faces ---------------------------------------------------------------------------------------------------------------------------------- */
enum { BY_COSINE, BY_DISTANCE };      /* dlib: minus the Euclidean distance */
static double alike(int how, const double *a, const double *b, int64_t d) { return how == BY_COSINE ? cosine(a, b, d) : -sqrt(lk_squared_distance(a, b, d)); }
/* The vectors that have a face, packed without their flag. */
static double *found(lk_metric_side s, int64_t d, int64_t *n) {
    double *x = lk_xmalloc((size_t)(s.n * (d - 1) + 1) * sizeof *x);
    *n = 0;
    for (int64_t i = 0; i < s.n; i++) {
        if (s.x[i * d + d - 1] != 1) continue;
        for (int64_t k = 0; k < d - 1; k++) x[*n * (d - 1) + k] = s.x[i * d + k];
        ++*n;
    }
    return x;
}
/* Share of values[n] at or below v. */
static double percentile(const double *values, int64_t n, double v) {
    int64_t below = 0;
    for (int64_t i = 0; i < n; i++) below += values[i] <= v;
    return n ? 100.0 * (double)below / (double)n : NAN;
}
/* A baseline: similarities of the pairs of x and y (of x with itself: each pair once); mean, and where `v` stands among them. */
static void baseline(lk_metric_result *r, int how, const char *name, const double *x, int64_t n, const double *y, int64_t m, int64_t d, double v) {
    char label[40];
    bool self = x == y;
    double *all = lk_xmalloc((size_t)(n * m + 1) * sizeof *all);
    int64_t k = 0;
    for (int64_t i = 0; i < n; i++) for (int64_t j = self ? i + 1 : 0; j < m; j++) all[k++] = alike(how, x + i * d, y + j * d, d);
    if (k) {
        lk_result_extra(r, name, lk_chunked_sum(all, k) / (double)k);
        snprintf(label, sizeof label, "percentile_of_%s", name);
        lk_result_extra(r, label, percentile(all, k, v));
    }
    free(all);
}
static lk_err id_score(const lk_metric *m, lk_pool *pool, lk_metric_result *r) {
    lk_metric_side a = lk_metric_side_of(m, 0), b = lk_metric_side_of(m, 1), c = lk_metric_side_of(m, 2);
    int64_t d = lk_metric_dim(m), n, real, strangers, with = 0;
    int how = lk_metric_row_of(m)->what;
    double *x = found(a, d, &n), *y = found(b, d, &real), *z = found(c, d, &strangers), *each = lk_metric_room(m), *row = lk_xmalloc((size_t)(real + 1) * sizeof *row);
    double *some = lk_xmalloc((size_t)(n + 1) * sizeof *some);
    (void)pool;
    lk_err e = real ? LK_OK : lk_error(LK_EINPUT, "no face was found in any of the %lld pictures compared with", (long long)b.n);
    for (int64_t i = 0; i < a.n && !e; i++) {
        bool face = a.x[i * d + d - 1] == 1;
        for (int64_t j = 0; face && j < real; j++) row[j] = alike(how, a.x + i * d, y + j * (d - 1), d - 1);
        each[i] = face ? lk_chunked_sum(row, real) / (double)real : how == BY_COSINE ? 0 : -LK_JUDGE_IMPOSTOR;
        if (face) some[with++] = each[i];
    }
    if (!e) {
        double conditional = with ? lk_chunked_sum(some, with) / (double)with : NAN;
        lk_result_mean(r, each, a.n, "pictures");
        lk_result_extra(r, "detection_rate", (double)with / (double)a.n);
        lk_result_extra(r, "conditional_mean", conditional);
        lk_result_extra(r, "reference_faces", (double)real);
        if (real < b.n) lk_result_warn(r, "no face in %lld of the %lld pictures compared with: they were left out", (long long)(b.n - real), (long long)b.n);
        if (with < a.n) lk_result_warn(r, "no face in %lld of %lld pictures: each counts as %s", (long long)(a.n - with), (long long)a.n,
                                       how == BY_COSINE ? "0" : "minus the mean impostor distance");
        baseline(r, how, "real_real", y, real, y, real, d - 1, conditional);
        baseline(r, how, "impostor", z, strangers, y, real, d - 1, conditional);
        if (!strangers) lk_result_warn(r, "no impostors (--others FOLDER): the score has no floor to stand on");
    }
    free(x);
    free(y);
    free(z);
    free(row);
    free(some);
    return e;
}
static double mean_angle(const double *v, const double *x, int64_t n, int64_t d) {
    double s = 0;
    for (int64_t i = 0; i < n; i++) s += lk_arccos(cosine(v, x + i * d, d));
    return s / (double)n;
}
/* (angle to the test photos - angle to the references) / angle between tests and references: 0 is no nearer to the references, 1 copies them. */
static lk_err copy_paste(const lk_metric *m, lk_pool *pool, lk_metric_result *r) {
    lk_metric_side a = lk_metric_side_of(m, 0), b = lk_metric_side_of(m, 1), c = lk_metric_side_of(m, 2);
    bool faces = lk_metric_row_of(m)->what;
    int64_t d = lk_metric_dim(m), tests = b.n, references = c.n, with = 0;
    double between = 0, *each = lk_metric_room(m), *some = lk_xmalloc((size_t)(a.n + 1) * sizeof *some), *t = NULL, *ref = NULL;
    (void)pool;
    const double *y = faces ? (t = found(b, d, &tests)) : b.x, *z = faces ? (ref = found(c, d, &references)) : c.x;
    int64_t length = faces ? d - 1 : d;
    lk_err e = tests && references ? LK_OK : lk_error(LK_EINPUT, "copy-paste index: %lld test and %lld reference %s; at least one of each (--others gives the references)", (long long)tests,
                                                      (long long)references, faces ? "faces" : "pictures");
    for (int64_t i = 0; i < tests && !e; i++) between += mean_angle(y + i * length, z, references, length) / (double)tests;
    for (int64_t i = 0; i < a.n && !e; i++) {
        each[i] = NAN;
        if (faces && a.x[i * d + d - 1] != 1) continue;
        const double *v = a.x + i * d;
        some[with++] = each[i] = (mean_angle(v, y, tests, length) - mean_angle(v, z, references, length)) / (between > 1e-3 ? between : 1e-3);
    }
    if (!e && !with) e = lk_error(LK_EINPUT, "copy-paste index: no face in any picture");
    if (!e) {
        lk_result_mean(r, some, with, "pictures with a face");
        lk_result_extra(r, "test_reference_angle", between);
        lk_result_extra(r, "detection_rate", (double)with / (double)a.n);
    }
    free(some);
    free(t);
    free(ref);
    return e;
}

#define ID(v, how, by) { .name = "id", .variant = v, .peer = by, .unit = "", .goal = 1, .sides = LK_THREE_SETS, .features = "faces/" v, .what = how, .result = id_score }
#define COPY(v) { .name = "copy-paste", .variant = v, .peer = "angles of face embeddings: generated, test photos, references (--others)", .unit = "", .goal = -1, .sides = LK_THREE_SETS, .features = "faces/" v, .what = 1, .result = copy_paste }
const lk_metric_row lk_likeness_rows[] = {
    { .name = "clip-i", .variant = "cosine", .peer = "DreamBooth's CLIP-I: mean cosine of all pairs, generated with real", .unit = "", .goal = 1, .sides = LK_SETS, .features = "clip", .result = mean_cosine },
    { .name = "dino", .variant = "dinov2", .peer = "mean cosine of DINOv2 class tokens, all pairs", .unit = "", .goal = 1, .sides = LK_SETS, .features = "dinov2", .result = mean_cosine },
    { .name = "dino", .variant = "dino", .peer = "DreamBooth's DINO: ViT class tokens (ViTModel), all pairs", .unit = "", .goal = 1, .sides = LK_SETS, .features = "dino", .result = mean_cosine },
    ID("dlib", BY_DISTANCE, "minus the Euclidean distance of dlib's face embedding; the judge, in no loss"),
    ID("mobileface", BY_COSINE, "cosine of mobileface embeddings; the witness"),
    ID("mobilefacenet", BY_COSINE, "cosine of mobilefacenet embeddings; it serves as a loss, so it judges nothing trained with it"),
    COPY("dlib"), COPY("mobileface"), COPY("mobilefacenet"),
    { .name = "copy-paste", .variant = "features", .peer = "the same with --features", .unit = "", .goal = -1, .sides = LK_THREE_SETS, .features = "", .result = copy_paste },
    { NULL }
};
