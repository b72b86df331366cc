/* Metrics against closed forms and invariances; planted errors must be seen. Oracles: algebra, not our own code. */
#include "metrics/linalg.h"
#include "metrics/metrics.h"
#include "tests/lib/lk_test.h"

enum { D = 6, N = 700 };
static double value(int64_t i, int64_t j) {                 /* irregular, never 0 or 1 */
    return lk_philox_normal(lk_stream_key(7, "metrics"), 0, (uint32_t)i, (uint64_t)j);
}
static double *samples(int64_t n, int64_t d, double shift) {
    double *x = lk_xmalloc((size_t)(n * d) * sizeof *x);
    for (int64_t i = 0; i < n * d; i++) x[i] = value(i / d, i % d) + shift;
    return x;
}
static lk_image picture(int w, int h, int c, uint32_t salt) {
    lk_image im = lk_image_new(w, h, c);
    for (int64_t i = 0; i < (int64_t)w * h * c; i++) im.px[i] = (uint8_t)lk_philox_below(lk_stream_key(1, "picture"), salt, 0, (uint64_t)i, 256);
    return im;
}

/* ---- statistics ------------------------------------------------------------------------------------------------------------- */
TEST(sign_flip_of_all_positive_differences_is_the_least_p) {
    double d[] = { .1, .2, .3, .4, .5, .6 };
    lk_sign_flips f;
    CHECK_OK(lk_sign_flip(d, 6, &f));
    CHECK(f.at_least == 1 && f.at_least_abs == 2);
    CHECK_CLOSE(f.two_sided, f.least, 0);
    CHECK_CLOSE(f.least, 1.0 / 32, 0);
    CHECK_FAILS(lk_sign_flip_reaches(5, .05), "at least 6");
    CHECK_OK(lk_sign_flip_reaches(6, .05));
    CHECK_FAILS(lk_sign_flip(d, 21, &f), "1 to 20");
}
TEST(sign_flip_counts_rounded_ties_as_ties) {
    double d[] = { .1 + .2, -.3, .3 };                      /* .1 + .2 is not .3 in binary64 */
    lk_sign_flips f;
    CHECK_OK(lk_sign_flip(d, 3, &f));
    CHECK(f.at_least_abs == 8);
}
TEST(intervals_refuse_what_they_cannot_say) {
    double x[] = { 1, NAN, 2 };
    lk_interval v;
    CHECK_FAILS(lk_mean_t(x, 1, .95, &v), "at least 2");
    CHECK_FAILS(lk_mean_t(x, 3, .95, &v), "value 1");
    int64_t one[] = { 4, 4, 4 };
    double y[] = { 1, 2, 3 };
    CHECK_FAILS(lk_cluster_t(y, one, 3, .95, &v), "one cluster");
    double lo, hi;
    CHECK_FAILS(lk_bca(y, 3, NULL, NULL, .95, 999, 1, &lo, &hi), "20");
}
static double plain_mean(const double *x, int64_t n, void *ctx) {
    double s = 0;
    (void)ctx;
    for (int64_t i = 0; i < n; i++) s += x[i];
    return s / (double)n;
}
TEST(bca_of_a_mean_is_near_the_t_interval_and_repeats) {
    double *x = samples(200, 1, 3), lo, hi, lo2, hi2;
    lk_interval t;
    CHECK_OK(lk_mean_t(x, 200, .95, &t));
    CHECK_OK(lk_bca(x, 200, plain_mean, NULL, .95, 1999, 5, &lo, &hi));
    CHECK_OK(lk_bca(x, 200, plain_mean, NULL, .95, 1999, 5, &lo2, &hi2));
    CHECK(lo == lo2 && hi == hi2);
    CHECK_CLOSE(lo, t.lo, .15 * (t.hi - t.lo));             /* ends of 2000 resamples scatter by a few percent of the width */
    CHECK_CLOSE(hi, t.hi, .15 * (t.hi - t.lo));
    free(x);
}
static double nan_for_few(const double *x, int64_t n, void *ctx) { return plain_mean(x, n, ctx) > 3.2 ? NAN : 1; }
TEST(bca_refuses_a_statistic_that_is_sometimes_no_number) {
    double *x = samples(40, 1, 3), lo, hi;
    CHECK_FAILS(lk_bca(x, 40, nan_for_few, NULL, .95, 999, 5, &lo, &hi), "is not a number on");
    CHECK_FAILS(lk_bca(x, 19, plain_mean, NULL, .95, 999, 5, &lo, &hi), "n = 19");
    free(x);
}
/* Two raters who agree but for a constant: consistency is whole, agreement is not. The table is Shrout and Fleiss's own (1979, table 2). */
TEST(icc_of_the_original_table) {
    const double x[24] = {9, 2, 5, 8, 6, 1, 3, 2, 8, 4, 6, 8, 7, 1, 2, 6, 10, 5, 6, 9, 6, 2, 4, 7}, want[6] = {.17, .29, .71, .44, .62, .91};
    lk_icc_table t;
    CHECK_OK(lk_icc(x, 6, 4, .95, &t));
    for (int i = 0; i < 6; i++) CHECK_CLOSE(t.row[i].icc, want[i], .005);   /* printed with two digits */
    CHECK_FAILS(lk_icc(x, 1, 4, .95, &t), "at least 2 by 2");
    const double same[6] = {1, 1, 2, 2, 3, 3};
    CHECK_FAILS(lk_icc(same, 3, 2, .95, &t), "no variation within targets");
}
TEST(no_exact_p_is_below_what_n_allows) {
    for (int n = 1; n <= 12; n++) {
        double d[12], zero[12] = {0};
        lk_sign_flips f;
        lk_signed_ranks w;
        for (int i = 0; i < n; i++) d[i] = 10 + i * i;          /* as far from nothing as can be */
        CHECK_OK(lk_sign_flip(d, n, &f));
        CHECK_OK(lk_wilcoxon(d, zero, n, &w));
        CHECK(f.two_sided == f.least && f.least == ldexp(1, 1 - n) && w.exact && w.p >= f.least);
    }
}
/* d_z and d_av by hand: differences 1, 2, 3 (mean 2, sd 1); arms of variance 4 and 1. */
TEST(effect_sizes_of_a_pair) {
    const double x[3] = {2, 4, 6}, y[3] = {1, 2, 3};
    lk_paired p;
    CHECK_OK(lk_paired_t(x, y, 3, .95, &p));
    CHECK_CLOSE(p.d_z, 2, 1e-15);
    CHECK_CLOSE(p.d_av, 2 / sqrt(2.5), 1e-15);
}
TEST(families_keep_order_and_never_shrink_p) {
    double p[] = { .04, .01, .03, .9 }, h[4], m[4], b[4], f[4];
    lk_holm(p, 4, h);
    lk_hommel(p, 4, m);
    lk_bonferroni(p, 4, b);
    lk_benjamini_hochberg(p, 4, f);
    for (int i = 0; i < 4; i++) CHECK(p[i] <= f[i] && f[i] <= m[i] && m[i] <= h[i] && h[i] <= b[i]);
}

/* ---- pixels -------------------------------------------------------------------------------------------------------------------- */
TEST(identical_pictures_score_one_and_infinity) {
    lk_image a = picture(181, 190, 3, 1);
    lk_psnr_sum s = { 0 };
    double v;
    CHECK_OK(lk_psnr_add(&s, &a, &a, &v));
    CHECK(isinf(v) && v > 0);
    for (int i = 0; lk_ssim_name(i); i++) {
        CHECK_OK(lk_ssim_images(lk_ssim_find(lk_ssim_name(i)), false, &a, &a, NULL, &v));
        CHECK_CLOSE(v, 1, 1e-12);
    }
    for (int i = 0; lk_ms_ssim_name(i); i++) {
        CHECK_OK(lk_ssim_images(lk_ms_ssim_find(lk_ms_ssim_name(i)), true, &a, &a, NULL, &v));
        CHECK_CLOSE(v, 1, 1e-12);
    }
    lk_image_free(&a);
}
TEST(ssim_has_the_same_bits_for_any_number_of_threads) {
    lk_image a = picture(300, 211, 3, 1), b = picture(300, 211, 3, 2);
    lk_pool *pool = lk_pool_new(3);
    for (int i = 0; lk_ssim_name(i); i++) {
        double one, three;
        CHECK_OK(lk_ssim_images(lk_ssim_find(lk_ssim_name(i)), false, &a, &b, NULL, &one));
        CHECK_OK(lk_ssim_images(lk_ssim_find(lk_ssim_name(i)), false, &a, &b, pool, &three));
        CHECK(one == three);
    }
    lk_pool_free(pool);
    lk_image_free(&a);
    lk_image_free(&b);
}
TEST(ssim_of_constant_pictures_is_the_luminance_term) {
    enum { S = 32 };
    double a[S * S], b[S * S], v, c1 = (.01 * 255) * (.01 * 255);
    for (int i = 0; i < S * S; i++) { a[i] = 100; b[i] = 120; }
    for (int i = 0; lk_ssim_name(i); i++) {
        bool binary32 = strstr(lk_ssim_name(i), "f32taps") != NULL;       /* taps that do not sum to one see a variance in a constant */
        CHECK_OK(lk_ssim(lk_ssim_find(lk_ssim_name(i)), a, b, S, S, 1, 255, NULL, &v));
        CHECK_CLOSE(v, (2 * 100 * 120 + c1) / (100 * 100 + 120 * 120 + c1), binary32 ? 1e-3 : 1e-9);
    }
}
TEST(pixel_metrics_say_what_does_not_fit) {
    lk_image a = picture(20, 20, 3, 1), b = picture(20, 20, 1, 1), tiny = picture(5, 5, 3, 1);
    double v;
    CHECK_FAILS(lk_ssim_images(lk_ssim_find("wang04"), false, &a, &b, NULL, &v), "both must be equal");
    CHECK_FAILS(lk_ssim_images(lk_ssim_find("wang04"), false, &tiny, &tiny, NULL, &v), "least side is 11");
    CHECK_FAILS(lk_ssim_images(lk_ms_ssim_find("piq"), true, &a, &a, NULL, &v), "161");
    CHECK_FAILS(lk_ssim_images(lk_ssim_find("nonesuch"), false, &a, &a, NULL, &v), "no such variant");
    double x[400], y[400];
    for (int i = 0; i < 400; i++) x[i] = y[i] = i;
    x[7] = NAN;
    CHECK_FAILS(lk_ssim(lk_ssim_find("skimage"), x, y, 20, 20, 1, 255, NULL, &v), "NaN");
    lk_image_free(&a);
    lk_image_free(&b);
    lk_image_free(&tiny);
}

/* ---- Frechet and moments ----------------------------------------------------------------------------------------------------------- */
TEST(frechet_of_commuting_gaussians_is_the_sum_over_axes) {
    double m1[D] = { 0 }, m2[D], c1[D * D] = { 0 }, c2[D * D] = { 0 }, want = 0;
    for (int i = 0; i < D; i++) {
        double s = .5 + i, t = 2.3 / (1 + i);
        m2[i] = .25 * i;
        c1[i * D + i] = s * s;
        c2[i * D + i] = t * t;
        want += m2[i] * m2[i] + (s - t) * (s - t);
    }
    lk_frechet f;
    CHECK_OK(lk_frechet_moments(m1, c1, m2, c2, D, &f));
    CHECK_CLOSE(f.value, want, 1e-12 * want);
    c2[0] *= 1.01;                                          /* a planted error of 1 % in one variance is seen */
    CHECK_OK(lk_frechet_moments(m1, c1, m2, c2, D, &f));
    CHECK(fabs(f.value - want) > 1e-4);
}
TEST(frechet_of_features_and_of_their_moments_agree_and_see_a_shift) {
    double *x = samples(N, D, 0), *y = samples(N, D, .5), m1[D], m2[D], c1[D * D], c2[D * D];
    int64_t n;
    lk_frechet a, b;
    lk_moments *p = lk_moments_new(D, 0), *q = lk_moments_new(D, 0);
    CHECK_OK(lk_frechet_features(x, N, y, N, D, 20, &a));
    CHECK_OK(lk_moments_add(p, x, N));
    CHECK_OK(lk_moments_add(q, y, N));
    CHECK_OK(lk_moments_get(p, &n, m1, c1));
    CHECK_OK(lk_moments_get(q, &n, m2, c2));
    CHECK_OK(lk_frechet_moments(m1, c1, m2, c2, D, &b));
    CHECK_CLOSE(a.value, D * .25, 1e-11);                   /* equal covariances: |shift|^2 */
    CHECK_CLOSE(b.value, a.value, 1e-11);
    CHECK(a.groups == 20 && a.rank[0] == D && a.exact);
    CHECK_FAILS(lk_frechet_features(x, 30, y, 30, D, 20, &a), "at least 40");
    CHECK_OK(lk_frechet_features(x, 5, y, 5, D, 0, &a));
    CHECK(a.few && a.rank[0] == 4 && strstr(a.warning, "rank 4"));
    x[9] = NAN;
    CHECK_FAILS(lk_frechet_features(x, N, y, N, D, 0, &a), "sample 1 of the first set");
    lk_moments_free(p);
    lk_moments_free(q);
    free(x);
    free(y);
}
TEST(moments_are_the_same_bits_however_they_are_fed_split_or_stored) {
    double *x = samples(N, D, 0), mean[4][D], cov[4][D * D];
    char path[512];
    int64_t n;
    lk_moments *whole = lk_moments_new(D, 0), *pieces = lk_moments_new(D, 0), *first = lk_moments_new(D, 0), *rest = lk_moments_new(D, 256), *back;
    CHECK_OK(lk_moments_add(whole, x, N));
    for (int64_t i = 0; i < N; i += 7) CHECK_OK(lk_moments_add(pieces, x + i * D, i + 7 <= N ? 7 : N - i));
    CHECK_OK(lk_moments_add(first, x, 256));
    CHECK_OK(lk_moments_add(rest, x + 256 * D, N - 256));
    CHECK_OK(lk_moments_merge(first, rest));
    snprintf(path, sizeof path, "%s/moments.safetensors", lk_test_dir());
    CHECK_OK(lk_moments_save(whole, path));
    CHECK_OK(lk_moments_load(path, &back));
    const lk_moments *all[] = { whole, pieces, first, back };
    for (int i = 0; i < 4; i++) {
        CHECK_OK(lk_moments_get(all[i], &n, mean[i], cov[i]));
        CHECK(n == N && !memcmp(mean[i], mean[0], sizeof *mean) && !memcmp(cov[i], cov[0], sizeof *cov));
    }
    CHECK_FAILS(lk_moments_merge(whole, rest), "states join");
    lk_moments_free(whole);
    lk_moments_free(pieces);
    lk_moments_free(first);
    lk_moments_free(rest);
    lk_moments_free(back);
    free(x);
}

/* ---- kernels, manifolds, diversity ---------------------------------------------------------------------------------------------------- */
TEST(kid_of_one_set_against_itself_and_against_a_shift) {
    double *x = samples(90, D, 0), *y = samples(120, D, .8), same, sd;
    lk_mmd far, equal;
    int64_t ix[2 * 40], iy[2 * 40];
    CHECK_OK(lk_kid_full(x, 90, y, 120, D, NULL, &far));
    CHECK(far.value > .1 && far.variance > 0);
    CHECK_OK(lk_kid_sutherland(x, x, 90, D, NULL, &equal));
    CHECK(equal.value < 0);                                 /* the cross diagonal of equal sets counts against */
    CHECK_OK(lk_kid_draw(90, 2, 40, 3, "a", ix));
    CHECK_OK(lk_kid_draw(120, 2, 40, 3, "b", iy));
    for (int i = 0; i < 40; i++) for (int j = 0; j < i; j++) CHECK(ix[i] != ix[j]);
    CHECK_OK(lk_kid_subsets(x, 90, y, 120, D, ix, iy, 2, 40, NULL, NULL, &same, &sd));
    CHECK_CLOSE(same, far.value, 6 * sqrt(far.variance) * 2);
    iy[3] = 120;
    CHECK_FAILS(lk_kid_subsets(x, 90, y, 120, D, ix, iy, 2, 40, NULL, NULL, &same, &sd), "120");
    free(x);
    free(y);
}
TEST(kid_subsets_by_shared_pairs_and_one_by_one_agree_for_any_threads) {
    enum { S = 12, M = 60 };                                /* 12 subsets of 60 of 90 and 120: every pair once is cheaper; a repeated entry forbids it */
    double *x = samples(90, D, 0), *y = samples(120, D, .8), shared[S], alone[S], again[S], mean, sd;
    int64_t ix[S * M], iy[S * M];
    lk_pool *pool = lk_pool_new(3);
    CHECK_OK(lk_kid_draw(90, S, M, 3, "a", ix));
    CHECK_OK(lk_kid_draw(120, S, M, 3, "b", iy));
    CHECK_OK(lk_kid_subsets(x, 90, y, 120, D, ix, iy, S, M, NULL, shared, &mean, &sd));
    CHECK_OK(lk_kid_subsets(x, 90, y, 120, D, ix, iy, S, M, pool, again, &mean, &sd));
    CHECK(!memcmp(shared, again, sizeof shared));
    for (int k = 0; k < S; k++) {
        CHECK_OK(lk_kid_subsets(x, 90, y, 120, D, ix + k * M, iy + k * M, 1, M, pool, alone + k, &mean, &sd));
        CHECK_CLOSE(shared[k], alone[k], 1e-12 * fabs(alone[k]));
        lk_mmd full;
        double *a = lk_xmalloc(M * D * sizeof *a), *b = lk_xmalloc(M * D * sizeof *b);
        for (int i = 0; i < M; i++) { memcpy(a + i * D, x + ix[k * M + i] * D, D * sizeof *a); memcpy(b + i * D, y + iy[k * M + i] * D, D * sizeof *b); }
        CHECK_OK(lk_kid_full(a, M, b, M, D, NULL, &full));  /* of a subset, the U-statistic of its samples */
        CHECK_CLOSE(alone[k], full.value, 1e-12 * fabs(full.value));
        free(a);
        free(b);
    }
    lk_pool_free(pool);
    free(x);
    free(y);
}
/* Features that are binary32 numbers: an entry is off by at most (sums in a lane + 2) 2^-24 sum |x||y| / d, its cube three times that. */
TEST(kid_subsets_of_binary32_features_are_near_those_in_binary64) {
    enum { S = 12, M = 60, W = 333 };
    double *x = samples(90, W, 1), *y = samples(120, W, 1.3), exact[S], single[S], again[S], mean, sd;
    int64_t ix[S * M], iy[S * M];
    lk_pool *pool = lk_pool_new(3);
    for (int64_t i = 0; i < 90 * W; i++) x[i] = (float)x[i];
    for (int64_t i = 0; i < 120 * W; i++) y[i] = (float)y[i];
    CHECK_OK(lk_kid_draw(90, S, M, 3, "a", ix));
    CHECK_OK(lk_kid_draw(120, S, M, 3, "b", iy));
    CHECK_OK(lk_kid_subsets(x, 90, y, 120, W, ix, iy, S, M, NULL, single, &mean, &sd));
    CHECK_OK(lk_kid_subsets(x, 90, y, 120, W, ix, iy, S, M, pool, again, &mean, &sd));
    CHECK(!memcmp(single, again, sizeof single));
    int other = 0;
    for (int k = 0; k < S; k++) {
        CHECK_OK(lk_kid_subsets(x, 90, y, 120, W, ix + k * M, iy + k * M, 1, M, NULL, exact + k, &mean, &sd));
        double size = 2.69, bound = 3 * pow(1 + size, 2) * (W / 16 + 3) * ldexp(size, -24) * 4;     /* 1.3^2 + 1: mean of |x||y| at most; four sums of the kernel */
        CHECK_CLOSE(single[k], exact[k], bound);
        other += single[k] != exact[k];
    }
    CHECK(other);                                           /* it was binary32 */
    x[5] += ldexp(x[5], -30);                               /* one value of more digits: all in binary64 */
    CHECK_OK(lk_kid_subsets(x, 90, y, 120, W, ix, iy, S, M, NULL, single, &mean, &sd));
    for (int k = 0; k < S; k++) CHECK_CLOSE(single[k], exact[k], 1e-9);
    lk_pool_free(pool);
    free(x);
    free(y);
}
TEST(gram_matrices_have_the_bits_of_dot_products_and_mirror) {
    enum { A = 75, B = 301, W = 203 };
    double *x = samples(A, W, .1), *y = samples(B, W, -.2), *g = lk_xmalloc(A * B * sizeof *g), *own = lk_xmalloc(B * B * sizeof *own);
    lk_pool *pool = lk_pool_new(3);
    int64_t wrong = 0;
    lk_gram(x, A, y, B, W, pool, g);
    lk_gram(y, B, y, B, W, pool, own);
    for (int64_t i = 0; i < A; i++) for (int64_t j = 0; j < B; j++) wrong += g[i * B + j] != lk_dot(x + i * W, y + j * W, W);
    for (int64_t i = 0; i < B; i++) for (int64_t j = 0; j < B; j++) wrong += own[i * B + j] != lk_dot(y + i * W, y + j * W, W);
    CHECK_MSG(wrong == 0, "%lld entries differ", (long long)wrong);
    lk_pool_free(pool);
    free(x);
    free(y);
    free(g);
    free(own);
}
TEST(ssim_of_bytes_is_that_of_their_values) {
    for (int c = 1; c <= 3; c += 2) for (int w = 7; w < 60; w += 13) {
        lk_image a = picture(w, 41 - w / 3, c, 1), b = picture(w, 41 - w / 3, c, 1);
        int64_t n = (int64_t)a.w * a.h * c;
        double *x = lk_xmalloc((size_t)n * sizeof *x), *y = lk_xmalloc((size_t)n * sizeof *y), v, d;
        for (int64_t i = 0; i < n; i++) { b.px[i] = (uint8_t)(b.px[i] / 2 + i % 90); x[i] = a.px[i]; y[i] = b.px[i]; }
        CHECK_OK(lk_ssim_images(lk_ssim_find("skimage"), false, &a, &b, NULL, &v));
        CHECK_OK(lk_ssim(lk_ssim_find("skimage"), x, y, a.h, a.w, c, 255, NULL, &d));
        CHECK_CLOSE(v, d, 1e-12);
        free(x);
        free(y);
        lk_image_free(&a);
        lk_image_free(&b);
    }
}
TEST(precision_and_recall_are_not_swapped) {
    double real[40], fake[40];                              /* the fakes cover one of two clusters: precise, half recalled */
    for (int i = 0; i < 40; i++) {
        real[i] = (i < 20 ? 0 : 100) + .01 * i;
        fake[i] = .005 + .005 * i;
    }
    lk_prdc p;
    CHECK_OK(lk_prdc_of(real, 40, fake, 40, 1, 3, true, NULL, &p));
    CHECK_CLOSE(p.precision, 1, 0);
    CHECK_CLOSE(p.recall, .5, 1e-12);
    CHECK_FAILS(lk_prdc_of(real, 3, fake, 40, 1, 3, true, NULL, &p), "more than k");
}
TEST(vendi_counts_orthogonal_and_equal_samples) {
    double x[16] = { 0 }, y[16], v;
    for (int i = 0; i < 4; i++) x[i * 5] = 1 + i;
    for (int i = 0; i < 16; i++) y[i] = 1 + i % 4;
    for (double q = .5; q < 3; q += .5) {
        CHECK_OK(lk_vendi_cosine(x, 4, 4, q, &v));
        CHECK_CLOSE(v, 4, 1e-12);
        CHECK_OK(lk_vendi_cosine(y, 4, 4, q, &v));
        CHECK_CLOSE(v, 1, 1e-7);
    }
    memset(x, 0, 4 * sizeof *x);
    CHECK_FAILS(lk_vendi_cosine(x, 4, 4, 1, &v), "sample 0");
}
TEST(collapse_is_seen_and_diversity_counts_directions) {
    double x[3 * 4] = { 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0 }, far[3], same;
    lk_diversity d;
    CHECK_OK(lk_diversity_values(x, 3, 4, &d));
    CHECK_CLOSE(d.min_l1, .25, 1e-15);
    CHECK_CLOSE(d.mean_l1, (.25 + .25 + .5) / 3, 1e-15);
    CHECK(!d.legacy_collapsed);
    for (int i = 0; i < 12; i++) x[i] = .5 + .001 * (i == 3);
    CHECK_OK(lk_diversity_values(x, 3, 4, &d));
    CHECK(d.legacy_collapsed && d.min_l1 == 0);
    CHECK_OK(lk_nearest_distance(x, 3, x + 4, 1, 4, far, NULL));
    CHECK(far[1] == 0 && far[0] > 0);
    double a[8] = { 0, 0, 1, 1, 0, 0, 0, 0 }, b[8] = { 0, 0, 1, 1, 0, 0, 0, 0 };
    CHECK_OK(lk_same_seed_ratio(a, b, 2, 4, &same));
    CHECK_CLOSE(same, 0, 0);                                /* the reference changed, the output did not */
}
TEST(inception_score_of_certain_and_uniform_classes) {
    double sure[16] = { 0 }, flat[16] = { 0 }, mean, sd;
    for (int i = 0; i < 4; i++) sure[i * 5] = 700;
    CHECK_OK(lk_inception_score(sure, 4, 4, 1, false, NULL, &mean, &sd));
    CHECK_CLOSE(mean, 4, 1e-12);
    CHECK_OK(lk_inception_score(flat, 4, 4, 1, false, NULL, &mean, &sd));
    CHECK_CLOSE(mean, 1, 1e-12);
}
/* The mistakes that move published numbers, each with a closed form that it would miss. */
TEST(divisor_channel_order_and_crop_are_seen) {
    double near[2] = { -1, 1 }, far[2] = { -2, 2 }, logits[8 * 4] = { 0 }, mean, sd0, sd1;
    lk_frechet f;
    CHECK_OK(lk_frechet_features(near, 2, far, 2, 1, 0, &f));
    CHECK_CLOSE(f.value, 2, 1e-12);                         /* variances 2 and 8; divided by n it would be 1 */
    for (int i = 0; i < 4; i++) logits[i * 5] = 700;        /* the first half is certain of four classes, the second of none: scores 4 and 1 */
    CHECK_OK(lk_inception_score(logits, 8, 4, 2, false, NULL, &mean, &sd0));
    CHECK_OK(lk_inception_score(logits, 8, 4, 2, true, NULL, &mean, &sd1));
    CHECK_CLOSE(mean, 2.5, 1e-12);
    CHECK_CLOSE(sd0, 1.5, 1e-12);
    CHECK_CLOSE(sd1, sqrt(4.5), 1e-12);

    lk_image a = picture(32, 32, 3, 1), b = picture(32, 32, 3, 1);
    lk_psnr_sum s = { 0 };
    double v, cropped, whole;
    for (int i = 0; i < 32 * 32; i++) { b.px[3 * i] = a.px[3 * i + 2]; b.px[3 * i + 2] = a.px[3 * i]; }
    CHECK_OK(lk_psnr_add(&s, &a, &b, &v));
    CHECK(isfinite(v));
    CHECK_OK(lk_ssim_images(lk_ssim_find("skimage"), false, &a, &b, NULL, &v));
    CHECK(v < .5);                                          /* unrelated noise in two of three channels */
    memcpy(b.px, a.px, 32 * 32 * 3);
    b.px[0] ^= 0x80;                                        /* a corner: one window of the cropped map sees it, many of the reflected one */
    CHECK_OK(lk_ssim_images(lk_ssim_find("wang04"), false, &a, &b, NULL, &cropped));
    CHECK_OK(lk_ssim_images(lk_ssim_find("torchmetrics"), false, &a, &b, NULL, &whole));
    CHECK(cropped < 1 && 1 - whole > 10 * (1 - cropped));
    lk_image_free(&a);
    lk_image_free(&b);
}
