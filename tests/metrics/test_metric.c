/* The one interface to metrics: every row found by its name, states merged, stored and fed in any way to the same bits, numbers made
 * differently kept apart, and results whose value is known without our code. */
#include "metrics/metric.h"
#include "tests/lib/lk_test.h"

enum { D = 12, N = 700 };
static double *samples(const char *stream, int64_t n, double shift) {
    double *x = lk_xmalloc((size_t)(n * D) * sizeof *x);
    for (int64_t i = 0; i < n * D; i++) x[i] = lk_philox_normal(lk_stream_key(3, stream), 0, 0, (uint64_t)i) + shift;
    return x;
}
static lk_image picture(int side, uint32_t salt) {
    lk_image im = lk_image_new(side, side, 3);
    for (int64_t i = 0; i < 3LL * side * side; i++) im.px[i] = (uint8_t)lk_philox_below(lk_stream_key(1, "picture"), salt, 0, (uint64_t)i, 256);
    return im;
}
static const lk_metric_row *row(const char *name) {
    const lk_metric_row *r = NULL;
    CHECK_OK(lk_metric_find(name, &r));
    return r;
}
static lk_metric *state(const char *name, const lk_metric_options *o, int64_t first) {
    lk_metric *m = NULL;
    const lk_metric_row *r = row(name);
    int64_t at[LK_METRIC_SIDES] = { first, first, first };
    CHECK_OK(lk_metric_new(r, r->features ? D : 0, o, NULL, at, &m));
    return m;
}
static bool same_result(const lk_metric_result *a, const lk_metric_result *b) {
    bool ok = !memcmp(&a->value, &b->value, sizeof a->value) && !memcmp(&a->se, &b->se, sizeof a->se) && a->extras == b->extras && !memcmp(a->n, b->n, sizeof a->n);
    for (int i = 0; i < a->extras; i++) ok = ok && !memcmp(&a->extra[i].value, &b->extra[i].value, sizeof(double));
    return ok;
}

TEST(every_row_has_a_name_of_its_own_and_a_peer) {
    for (int i = 0; i < lk_metric_count(); i++) {
        const lk_metric_row *r = lk_metric_at(i), *back = NULL;
        char name[96];
        snprintf(name, sizeof name, "%s/%s", r->name, r->variant);
        CHECK_OK(lk_metric_find(name, &back));
        CHECK_MSG(back == r, "%s is there twice", name);
        CHECK(r->peer && *r->peer && r->unit);
        CHECK_MSG((r->score != NULL) + (r->pair != NULL) + (r->sides != LK_PAIRS) == 1, "%s: one way in", name);
        CHECK_MSG(r->sides == LK_PAIRS || r->result, "%s: no result", name);
    }
    const lk_metric_row *r;
    CHECK_FAILS(lk_metric_find("ssim", &r), "skimage_gaussian");
    CHECK_FAILS(lk_metric_find("sim/skimage", &r), "ssim");
    CHECK_FAILS(lk_metric_find("ssim/nonesuch", &r), "wang04");
    CHECK_OK(lk_metric_find("cmmd", &r));
}
/* Samples in one go; in sevens; in two states that split at a chunk and merge, one of them through a file. */
static void merged_equals_whole(const char *name, lk_metric_options o, bool vectors_pair) {
    double *x = samples("x", N, 0), *y = samples("y", N, .3);
    char path[600];
    snprintf(path, sizeof path, "%s/state.safetensors", lk_test_dir());
    lk_metric *whole = state(name, &o, 0), *sevens = state(name, &o, 0), *early = state(name, &o, 0), *late = state(name, &o, 512), *back = NULL;
    bool two = lk_metric_row_of(whole)->sides != LK_ONE_SET;
    for (int side = 0; side < 1 + two && !vectors_pair; side++) {
        const double *v = side ? y : x;
        CHECK_OK(lk_metric_update_set(whole, side, v, N, NULL));
        for (int64_t i = 0; i < N; i += 7) CHECK_OK(lk_metric_update_set(sevens, side, v + i * D, i + 7 < N ? 7 : N - i, NULL));
        CHECK_OK(lk_metric_update_set(early, side, v, 512, NULL));
        CHECK_OK(lk_metric_update_set(late, side, v + 512 * D, N - 512, NULL));
    }
    for (int64_t i = 0; i < N && vectors_pair; i++) {
        CHECK_OK(lk_metric_update_vectors(whole, x + i * D, y + i * D, "one"));
        CHECK_OK(lk_metric_update_vectors(sevens, x + i * D, y + i * D, "one"));
        CHECK_OK(lk_metric_update_vectors(i < 512 ? early : late, x + i * D, y + i * D, "one"));
    }
    CHECK_OK(lk_metric_save(late, path));
    CHECK_OK(lk_metric_load(path, &back));
    CHECK_OK(lk_metric_merge(early, back));
    lk_metric_result a, b, c;
    lk_pool *pool = lk_pool_new(3);
    CHECK_OK(lk_metric_result_of(whole, NULL, &a));
    CHECK_OK(lk_metric_result_of(sevens, pool, &b));
    CHECK_OK(lk_metric_result_of(early, pool, &c));
    CHECK_MSG(same_result(&a, &b) && same_result(&a, &c), "%s: %.17g, %.17g, %.17g", name, a.value, b.value, c.value);
    CHECK(isfinite(a.value) && a.n[0] == N);
    lk_pool_free(pool);
    lk_metric *states[] = { whole, sevens, early, late, back };
    for (int i = 0; i < 5; i++) lk_metric_free(states[i]);
    free(x);
    free(y);
}
TEST(merged_states_have_the_bits_of_one) {
    merged_equals_whole("frechet/features", (lk_metric_options){ 0 }, false);
    merged_equals_whole("kid/features", (lk_metric_options){ 0 }, false);
    merged_equals_whole("kid/features", (lk_metric_options){ .subsets = 5, .subset_size = 100 }, false);
    merged_equals_whole("precision/prdc", (lk_metric_options){ .neighbours = 4 }, false);
    merged_equals_whole("nearest/features", (lk_metric_options){ 0 }, false);
    merged_equals_whole("is/torchmetrics", (lk_metric_options){ .splits = 7 }, false);
    merged_equals_whole("clip-i", (lk_metric_options){ 0 }, false);
    merged_equals_whole("clip-t", (lk_metric_options){ 0 }, true);
    merged_equals_whole("lpips/alex", (lk_metric_options){ 0 }, true);
}
TEST(moments_take_over_and_change_nothing_but_the_jackknife) {
    enum { MANY = LK_METRIC_KEEP + 300 };
    double *x = samples("x", MANY, 0), *y = samples("y", MANY, .3);
    lk_metric *whole = state("frechet/features", NULL, 0), *early = state("frechet/features", NULL, 0), *late = state("frechet/features", NULL, 4096), *back;
    char path[600];
    snprintf(path, sizeof path, "%s/moments.safetensors", lk_test_dir());
    for (int side = 0; side < 2; side++) {
        const double *v = side ? y : x;
        CHECK_OK(lk_metric_update_set(whole, side, v, MANY, NULL));
        CHECK_OK(lk_metric_update_set(early, side, v, 4096, NULL));
        CHECK_OK(lk_metric_update_set(late, side, v + 4096 * D, MANY - 4096, NULL));
    }
    CHECK_OK(lk_metric_merge(early, late));
    CHECK_OK(lk_metric_save(early, path));
    CHECK_OK(lk_metric_load(path, &back));
    lk_metric_result a, b, c;
    lk_frechet f;
    CHECK_OK(lk_metric_result_of(whole, NULL, &a));
    CHECK_OK(lk_metric_result_of(early, NULL, &b));
    CHECK_OK(lk_metric_result_of(back, NULL, &c));
    CHECK(same_result(&a, &b) && same_result(&a, &c));
    CHECK(a.warnings && strstr(a.warning[0], "moments alone") && isnan(a.se));
    CHECK_OK(lk_frechet_features(x, MANY, y, MANY, D, 0, &f));
    CHECK_CLOSE(a.value, f.value, 1e-11 * f.value);
    lk_metric_free(whole); lk_metric_free(early); lk_metric_free(late); lk_metric_free(back);
    free(x);
    free(y);
}
TEST(what_was_made_differently_does_not_mix) {
    double *x = samples("x", 256, 0);
    lk_metric *a = state("kid/features", NULL, 0), *gap = state("kid/features", NULL, 512), *other = state("frechet/features", NULL, 256);
    lk_metric *subsets = state("kid/features", &(lk_metric_options){ .subsets = 5, .subset_size = 10 }, 256), *weights = NULL, *bad = NULL;
    lk_provenance from = { .sha256 = "aa" };
    int64_t first[3] = { 256, 256, 256 }, odd[3] = { 100, 0, 0 };
    CHECK_OK(lk_metric_new(row("kid/features"), D, NULL, &from, first, &weights));
    lk_metric *all[] = { a, gap, other, subsets, weights };
    for (int i = 0; i < 5; i++) CHECK_OK(lk_metric_update_set(all[i], 0, x, 256, NULL));
    CHECK_FAILS(lk_metric_merge(a, gap), "begins at 512");
    CHECK_FAILS(lk_metric_merge(a, other), "metric differs");
    CHECK_FAILS(lk_metric_merge(a, subsets), "options differ");
    CHECK_FAILS(lk_metric_merge(a, weights), "SHA-256");
    CHECK_FAILS(lk_metric_new(row("kid/features"), D, NULL, NULL, odd, &bad), "multiple of 256");
    CHECK_FAILS(lk_metric_update_set(a, 2, x, 1, NULL), "no side 3");
    x[5] = NAN;
    CHECK_FAILS(lk_metric_update_set(a, 0, x, 1, NULL), "sample 256 of side 1");
    for (int i = 0; i < 5; i++) lk_metric_free(all[i]);
    free(x);

    lk_metric_result r[2] = { { .metric = "fid", .variant = "clean", .n = { 100, 100 } }, { .metric = "fid", .variant = "clean", .n = { 100, 100 } } };
    CHECK_OK(lk_result_comparable(&r[0], &r[1]));
    r[1].n[0] = 200;
    CHECK_FAILS(lk_result_comparable(&r[0], &r[1]), "number of samples");
    r[1] = r[0];
    snprintf(r[1].from.resize, sizeof r[1].from.resize, "other");
    CHECK_FAILS(lk_result_comparable(&r[0], &r[1]), "resize");
    r[1].variant = "tf";
    CHECK_FAILS(lk_result_comparable(&r[0], &r[1]), "\"clean\" in one and \"tf\"");
}
TEST(pictures_that_do_not_fit_are_refused_and_leave_the_state_alone) {
    lk_image a = picture(24, 1), b = picture(25, 1), g = lk_image_new(24, 24, 1);
    lk_picture pa = lk_picture_of(&a), pb = lk_picture_of(&b), pg = lk_picture_of(&g);
    lk_metric *m = state("ssim/skimage", NULL, 0);
    lk_metric_result r;
    CHECK_FAILS(lk_metric_result_of(m, NULL, &r), "no samples");
    CHECK_FAILS(lk_metric_update_pair(m, &pa, &pb, "x", NULL), "25 x 25");
    CHECK_FAILS(lk_metric_update_pair(m, &pa, &pg, "x", NULL), "grey and colour");
    double v[24 * 24] = { 0 };
    lk_picture real = { NULL, v, 24, 24, 1, 1 }, wide = { NULL, v, 24, 24, 1, 255 };
    CHECK_FAILS(lk_metric_update_pair(m, &real, &wide, "x", NULL), "0..1 beside");
    v[24 * 3 + 5] = NAN;
    CHECK_FAILS(lk_metric_update_pair(m, &real, &real, "x", NULL), "x 5, y 3");
    v[24 * 3 + 5] = 1.5;
    CHECK_FAILS(lk_metric_update_pair(m, &real, &real, "x", NULL), "0..1");
    CHECK_OK(lk_metric_update_pair(m, &pa, &pa, "only", NULL));
    CHECK_OK(lk_metric_result_of(m, NULL, &r));
    CHECK(r.n[0] == 1 && isnan(r.se) && r.warnings == 1 && strstr(r.warning[0], "no interval"));
    CHECK_CLOSE(r.value, 1, 1e-12);
    int64_t n;
    CHECK(lk_metric_scores(m, &n) && n == 1 && !strcmp(lk_metric_sample_name(m, 0), "only"));
    lk_metric_free(m);
    lk_image_free(&a); lk_image_free(&b); lk_image_free(&g);
}
TEST(identical_inverted_and_single_pixel_pictures) {
    lk_image a = picture(32, 1), inverted = picture(32, 1), dot = picture(32, 1);
    for (int i = 0; i < 32 * 32 * 3; i++) inverted.px[i] = (uint8_t)(255 - a.px[i]);
    dot.px[100] = (uint8_t)(a.px[100] ^ 0x10);               /* 16 levels in one value */
    lk_picture p = lk_picture_of(&a), q = lk_picture_of(&inverted), d = lk_picture_of(&dot);
    lk_metric *m = state("psnr/mean", NULL, 0), *pooled = state("psnr/pooled", NULL, 0), *s = state("ssim/wang04", NULL, 0);
    lk_metric_result r;
    CHECK_OK(lk_metric_update_pair(m, &p, &p, "same", NULL));
    CHECK_OK(lk_metric_update_pair(m, &p, &d, "dot", NULL));
    CHECK_OK(lk_metric_result_of(m, NULL, &r));
    CHECK(isinf(r.value) && strstr(r.warning[0], "1 of 2 scores are infinite"));
    CHECK_OK(lk_metric_update_pair(pooled, &p, &p, "same", NULL));
    CHECK_OK(lk_metric_update_pair(pooled, &p, &d, "dot", NULL));
    CHECK_OK(lk_metric_result_of(pooled, NULL, &r));
    CHECK_CLOSE(r.value, 10 * log10(255. * 255 / (256. / (2 * 32 * 32 * 3))), 1e-11);
    CHECK_OK(lk_metric_update_pair(s, &p, &q, "inverted", NULL));
    CHECK_OK(lk_metric_result_of(s, NULL, &r));
    CHECK(r.value < 0);                                      /* the structure is the opposite */
    lk_metric_free(m); lk_metric_free(pooled); lk_metric_free(s);
    lk_image_free(&a); lk_image_free(&inverted); lk_image_free(&dot);
}
TEST(sets_with_a_known_answer) {
    double x[4 * D] = { 0 }, far[4 * D] = { 0 };
    lk_metric_result r;
    for (int i = 0; i < 4; i++) { x[i * D + i] = 2; far[i * D + i] = 2; far[i * D + 11] = 9; }
    lk_metric *m = state("vendi", NULL, 0), *k = state("precision/prdc", &(lk_metric_options){ .neighbours = 2 }, 0), *n = state("nearest/features", NULL, 0), *c = state("intra/features", NULL, 0);
    CHECK_OK(lk_metric_update_set(m, 0, x, 4, NULL));
    CHECK_OK(lk_metric_result_of(m, NULL, &r));
    CHECK_CLOSE(r.value, 4, 1e-12);                          /* orthogonal: as many as there are */
    lk_metric *two[] = { k, n, c };
    for (int i = 0; i < 3; i++) { CHECK_OK(lk_metric_update_set(two[i], 0, x, 4, NULL)); CHECK_OK(lk_metric_update_set(two[i], 1, i ? x : far, i == 2 ? 2 : 4, NULL)); }
    CHECK_OK(lk_metric_result_of(k, NULL, &r));
    CHECK(r.value == 0 && !strcmp(r.options, "k = 2"));
    CHECK_OK(lk_metric_result_of(n, NULL, &r));
    CHECK(r.value == 0);
    CHECK_OK(lk_metric_result_of(c, NULL, &r));              /* samples 0, 2, 3 go to the first (ties), 1 to the second: three pairs, all sqrt(8) apart */
    CHECK_CLOSE(r.value, sqrt(8), 1e-12);
    lk_metric_free(m); lk_metric_free(k); lk_metric_free(n); lk_metric_free(c);
}
TEST(faces_that_are_missing_count_as_zero_and_are_told) {
    double a[3 * D] = { 0 }, b[2 * D] = { 0 }, c[D] = { 0 };  /* the last value says that there is a face */
    a[0] = 1; a[D - 1] = 1;                                   /* like both references */
    a[D + 1] = 1; a[2 * D - 1] = 1;                           /* like none; the third has no face */
    b[0] = b[D] = 3; b[D - 1] = b[2 * D - 1] = 1;
    c[2] = 1; c[D - 1] = 1;
    lk_metric *m = state("id/mobileface", NULL, 0);
    lk_metric_result r;
    CHECK_OK(lk_metric_update_set(m, 0, a, 3, NULL));
    CHECK_OK(lk_metric_update_set(m, 1, b, 2, NULL));
    CHECK_OK(lk_metric_update_set(m, 2, c, 1, NULL));
    CHECK_OK(lk_metric_result_of(m, NULL, &r));
    CHECK_CLOSE(r.value, 1. / 3, 1e-15);
    double want[] = { 2. / 3, .5, 2, 1, 0, 0, 100 };          /* rate, conditional mean, references, real-real and percentile, impostor and percentile */
    CHECK(r.extras == 7);
    for (int i = 0; i < 7; i++) CHECK_CLOSE(r.extra[i].value, want[i], 1e-12);
    CHECK(r.warnings == 1 && strstr(r.warning[0], "no face in 1 of 3"));
    lk_metric_free(m);
}

/* Standard errors by leaving out: the statistic of smaller states, put together here by the formula (Efron & Tibshirani 1993, 11.5). leave(i) says in which
 * of `groups` parts sample i is left out. Tolerance: sums of another order. */
static double value_without(const char *name, const double *x, const double *y, int64_t n, int groups, int g) {
    const lk_metric_options none = { .groups = -1 };
    lk_metric *m = state(name, &none, 0);
    lk_metric_result r;
    for (int64_t i = 0; i < n; i++) {
        if (i % groups == g) continue;
        CHECK_OK(lk_metric_update_set(m, 0, x + i * D, 1, NULL));
        if (y) CHECK_OK(lk_metric_update_set(m, 1, y + i * D, 1, NULL));
    }
    CHECK_OK(lk_metric_result_of(m, NULL, &r));
    CHECK(isnan(r.se) || !strncmp(name, "same-seed", 9));
    lk_metric_free(m);
    return r.value;
}
static double error_by_hand(const char *name, const double *x, const double *y, int64_t n, int groups) {
    double part[64], mean = 0, squares = 0;
    for (int g = 0; g < groups; g++) { part[g] = value_without(name, x, y, n, groups, g); mean += part[g] / groups; }
    for (int g = 0; g < groups; g++) squares += (part[g] - mean) * (part[g] - mean);
    return sqrt((groups - 1.0) / groups * squares);
}
TEST(errors_of_set_statistics_are_jackknives) {
    static const struct { const char *name; int64_t n; int groups; bool two; } rows[] = {
        { "cmmd/clip", 60, 20, true }, { "precision/prdc", 90, 20, true }, { "recall/torch-fidelity", 90, 20, true }, { "density/prdc", 90, 20, true },
        { "coverage/prdc", 90, 20, true }, { "vendi/cosine", 50, 20, false }, { "is/torch-fidelity", 240, 20, false }, { "same-seed/features", 30, 30, true } };
    double *x = samples("x", 240, 0), *y = samples("y", 240, .5);
    lk_pool *pool = lk_pool_new(3);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        lk_metric *m = state(rows[i].name, NULL, 0);
        lk_metric_result r, again;
        CHECK_OK(lk_metric_update_set(m, 0, x, rows[i].n, NULL));
        if (rows[i].two) CHECK_OK(lk_metric_update_set(m, 1, y, rows[i].n, NULL));
        CHECK_OK(lk_metric_result_of(m, NULL, &r));
        CHECK_OK(lk_metric_result_of(m, pool, &again));
        double want = error_by_hand(rows[i].name, x, rows[i].two ? y : NULL, rows[i].n, rows[i].groups);
        CHECK_MSG(fabs(r.se - want) <= 1e-9 * want && want > 0, "%s: error %.12g, %.12g by hand", rows[i].name, r.se, want);
        CHECK(!(fabs(1.01 * r.se - want) <= 1e-9 * want));                               /* planted */
        CHECK_MSG(r.units == rows[i].groups && r.lo < r.value && r.value < r.hi && strstr(r.interval, "jackknife"), "%s: %g [%g, %g], %s", rows[i].name, r.value, r.lo, r.hi, r.interval);
        CHECK_MSG(same_result(&r, &again), "%s: other bits with three threads", rows[i].name);
        lk_metric_free(m);
    }
    lk_metric *few = state("coverage/prdc", NULL, 0);
    lk_metric_result r;
    for (int side = 0; side < 2; side++) CHECK_OK(lk_metric_update_set(few, side, side ? y : x, 30, NULL));
    CHECK_OK(lk_metric_result_of(few, NULL, &r));
    CHECK(isnan(r.se) && r.warnings == 1 && strstr(r.warning[0], "fewer than 40"));
    lk_metric_free(few);
    lk_pool_free(pool);
    free(x); free(y);
}
