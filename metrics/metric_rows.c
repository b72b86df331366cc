/* The table of metrics (metric.h): rows that score pairs, and the look-up over all tables. */
#include "metrics/linalg.h"
#include "metrics/metric.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- pairs of pictures -------------------------------------------------------------------------------------------------------------- */
static double *values_of(const lk_picture *p) {
    int64_t n = (int64_t)p->h * p->w * p->c;
    double *v = lk_xmalloc((size_t)(n + 16) * sizeof *v);
    if (p->u8) for (int64_t i = 0; i < n; i++) v[i] = p->u8->px[i];
    else memcpy(v, p->real, (size_t)n * sizeof *v);
    return v;
}
/* out: dB, the sum of squared errors (exact for 8 bits) on [0, range], number of values. */
enum { PSNR, PSNR_POOLED, PSNR_PIQ };
static lk_err psnr(int what, const lk_picture *a, const lk_picture *b, lk_pool *pool, double out[3]) {
    (void)pool;
    out[2] = (double)a->h * a->w * a->c;
    if (a->u8 && b->u8) {
        lk_psnr_sum s = { 0 };
        LK_TRY(lk_psnr_add(&s, a->u8, b->u8, NULL));
        out[1] = (double)s.sse;
    } else {
        double *x = values_of(a), *y = values_of(b);
        out[1] = lk_squared_distance(x, y, (int64_t)out[2]) * (255 / a->range) * (255 / a->range);
        free(x);
        free(y);
    }
    out[0] = (what == PSNR_PIQ ? lk_psnr_piq_db : lk_psnr_db)(out[1] / out[2], 255);
    return LK_OK;
}
static lk_err pooled(const lk_metric *m, lk_pool *pool, lk_metric_result *r) {
    int64_t n;
    const double *p = lk_metric_pooling(m, &n);
    double *sse = lk_xmalloc((size_t)(2 * n) * sizeof *sse), *values = sse + n;
    (void)pool;
    for (int64_t i = 0; i < n; i++) { sse[i] = p[2 * i]; values[i] = p[2 * i + 1]; }
    double mse = lk_chunked_sum(sse, n) / lk_chunked_sum(values, n);
    r->value = lk_psnr_db(mse, 255);
    r->units = n;
    r->unit_name = "pictures";
    for (int64_t i = 0; i < n; i++) sse[i] = sse[i] / values[i] - mse;
    if (n > 1 && mse > 0) {                            /* delta method: 10/ln 10 times the relative error of the mean squared error */
        r->se = 4.342944819032518 / mse * sqrt(lk_dot(sse, sse, n) / (double)(n - 1) / (double)n);
        double t = lk_t_quantile((1 + r->level) / 2, (double)(n - 1)) * r->se;
        r->lo = r->value - t;
        r->hi = r->value + t;
        r->interval = "delta method over pictures' squared errors";
    }
    lk_result_extra(r, "mse", mse);
    free(sse);
    return LK_OK;
}
static lk_err ssim_by(const lk_ssim_variant *v, bool multi, const lk_picture *a, const lk_picture *b, lk_pool *pool, double *out) {
    if (a->u8 && b->u8) return lk_ssim_images(v, multi, a->u8, b->u8, pool, out);
    double *x = values_of(a), *y = values_of(b);
    lk_err e = (multi ? lk_ms_ssim : lk_ssim)(v, x, y, a->h, a->w, a->c, a->range, pool, out);
    free(x);
    free(y);
    return e;
}
static const char *const ssim_names[] = { "wang04", "skimage", "skimage_gaussian", "torchmetrics", "piq", "piq_nodown", "pytorch_msssim", "pytorch_msssim_f32taps" };
static const char *const ms_names[] = { "pytorch_msssim", "pytorch_msssim_f32taps", "piq", "torchmetrics", "torchmetrics_nonorm" };
static lk_err ssim(int what, const lk_picture *a, const lk_picture *b, lk_pool *pool, double *out) { return ssim_by(lk_ssim_find(ssim_names[what]), false, a, b, pool, out); }
static lk_err ms_ssim(int what, const lk_picture *a, const lk_picture *b, lk_pool *pool, double *out) { return ssim_by(lk_ms_ssim_find(ms_names[what]), true, a, b, pool, out); }

/* ---- pairs of vectors ---------------------------------------------------------------------------------------------------------------- */
enum { COSINE, SCORE_25, SCORE_100 };
static lk_err cosine(int what, const double *a, const double *b, int64_t d, double *out) {
    double aa = lk_dot(a, a, d), bb = lk_dot(b, b, d);
    if (!(aa > 0 && bb > 0)) return lk_error(LK_ENUM, "a vector is zero and has no direction");
    double c = lk_dot(a, b, d) / sqrt(aa * bb);
    *out = what == COSINE ? c : (what == SCORE_25 ? 2.5 : 100) * (c > 0 ? c : 0);
    return LK_OK;
}
static lk_err squared_distance(int what, const double *a, const double *b, int64_t d, double *out) {
    (void)what;
    *out = lk_squared_distance(a, b, d);
    return LK_OK;
}

#define SSIM(v, i, by) { .name = "ssim", .variant = v, .peer = by, .unit = "", .goal = 1, .sides = LK_PAIRS, .what = i, .score = ssim }
#define MS_SSIM(v, i, by) { .name = "ms-ssim", .variant = v, .peer = by, .unit = "", .goal = 1, .sides = LK_PAIRS, .what = i, .score = ms_ssim }
#define LPIPS(v, by) { .name = "lpips", .variant = v, .peer = by, .unit = "", .goal = -1, .sides = LK_PAIRS, .features = "lpips/" v, .pair = squared_distance }
const lk_metric_row lk_pair_rows[] = {
    { .name = "psnr", .variant = "mean", .peer = "mean over pictures of skimage.metrics.peak_signal_noise_ratio(data_range=255)", .unit = "dB", .goal = 1, .sides = LK_PAIRS, .what = PSNR, .score = psnr },
    { .name = "psnr", .variant = "pooled", .peer = "torchmetrics PeakSignalNoiseRatio(data_range=255), one squared error over all pictures", .unit = "dB", .goal = 1, .sides = LK_PAIRS, .what = PSNR_POOLED, .score = psnr, .result = pooled },
    { .name = "psnr", .variant = "piq", .peer = "piq.psnr(data_range=255): 1e-8 added, so 80 dB for identical pictures", .unit = "dB", .goal = 1, .sides = LK_PAIRS, .what = PSNR_PIQ, .score = psnr },
    SSIM("wang04", 0, "skimage structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False)"),
    SSIM("skimage", 1, "skimage structural_similarity(channel_axis=2), 7x7 uniform window"),
    SSIM("skimage_gaussian", 2, "skimage structural_similarity(gaussian_weights=True, sigma=1.5)"),
    SSIM("torchmetrics", 3, "torchmetrics StructuralSimilarityIndexMeasure, 1.4.2 and later"),
    SSIM("piq", 4, "piq.ssim (average-pools large pictures first)"),
    SSIM("piq_nodown", 5, "piq.ssim(downsample=False)"),
    SSIM("pytorch_msssim", 6, "pytorch_msssim.ssim with binary64 taps"),
    SSIM("pytorch_msssim_f32taps", 7, "pytorch_msssim.ssim as installed: binary32 taps that do not sum to one"),
    MS_SSIM("pytorch_msssim", 0, "pytorch_msssim.ms_ssim with binary64 taps"),
    MS_SSIM("pytorch_msssim_f32taps", 1, "pytorch_msssim.ms_ssim as installed"),
    MS_SSIM("piq", 2, "piq.multi_scale_ssim"),
    MS_SSIM("torchmetrics", 3, "torchmetrics MultiScaleStructuralSimilarityIndexMeasure(normalize='relu')"),
    MS_SSIM("torchmetrics_nonorm", 4, "the same with normalize=None"),
    LPIPS("alex", "lpips.LPIPS(net='alex'), version 0.1, at the pictures' own size"),
    LPIPS("vgg", "lpips.LPIPS(net='vgg'), version 0.1"),
    LPIPS("squeeze", "lpips.LPIPS(net='squeeze'), version 0.1"),
    { .name = "clip-t", .variant = "cosine", .peer = "DreamBooth's CLIP-T: cosine of a picture and its prompt", .unit = "", .goal = 1, .sides = LK_PAIRS, .features = "clip", .what = COSINE, .pair = cosine },
    { .name = "clipscore", .variant = "hessel", .peer = "Hessel et al. 2021: 2.5 max(cosine, 0)", .unit = "", .goal = 1, .sides = LK_PAIRS, .features = "clip", .what = SCORE_25, .pair = cosine },
    { .name = "clipscore", .variant = "torchmetrics", .peer = "torchmetrics CLIPScore: 100 max(cosine, 0)", .unit = "", .goal = 1, .sides = LK_PAIRS, .features = "clip", .what = SCORE_100, .pair = cosine },
    { NULL }
};

/* ---- look-up ---------------------------------------------------------------------------------------------------------------------------- */
static const lk_metric_row *const tables[] = { lk_pair_rows, lk_set_rows, lk_likeness_rows };
const lk_metric_row *lk_metric_at(int i) {
    for (size_t t = 0; t < sizeof tables / sizeof *tables; t++)
        for (const lk_metric_row *r = tables[t]; r->name; r++) if (i-- == 0) return r;
    return NULL;
}
int lk_metric_count(void) {
    int n = 0;
    while (lk_metric_at(n)) n++;
    return n;
}
static lk_err unknown(const char *name, size_t length) {
    enum { MOST = 256 };
    const char *names[MOST];
    char asked[64];
    int n = 0;
    for (const lk_metric_row *r; n < MOST && (r = lk_metric_at(n)); n++) names[n] = r->name;
    snprintf(asked, sizeof asked, "%.*s", (int)length, name);
    return lk_error(LK_EINPUT, "no metric \"%s\"; did you mean %s? --list shows all", asked, names[lk_nearest(asked, names, n)]);
}
lk_err lk_metric_find(const char *name, const lk_metric_row **out) {
    const char *slash = strchr(name, '/');
    size_t n = slash ? (size_t)(slash - name) : strlen(name);
    lk_buf variants = { 0 };
    int found = 0;
    *out = NULL;
    const lk_metric_row *r;
    for (int i = 0; (r = lk_metric_at(i)); i++) {
        if (strlen(r->name) != n || strncmp(r->name, name, n)) continue;
        if (slash && !strcmp(slash + 1, r->variant)) { *out = r; free(variants.s); return LK_OK; }
        lk_buf_fmt(&variants, "%s%s", found++ ? " " : "", r->variant);
        if (!slash) *out = r;
    }
    lk_err e = !found ? unknown(name, n)
             : slash ? lk_error(LK_EINPUT, "%.*s has no variant \"%s\"; it has: %s", (int)n, name, slash + 1, variants.s)
             : found > 1 ? lk_error(LK_EINPUT, "%s has variants that differ by more than most effects; say which: %s", name, variants.s) : LK_OK;
    free(variants.s);
    return e;
}
