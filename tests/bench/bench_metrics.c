/* Our side of `make bench`'s metric rows: reads a row's name and sizes, runs it once more, prints seconds.
 * Inputs come from Philox or from formulas the peers' side repeats; nothing is compared here but time and, where a row says so, bytes. */
#include "metrics/lpips.h"
#include "metrics/metric.h"
#include "models/inception.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

static lk_pool *pool;
static double normal(const char *stream, int64_t i) { return lk_philox_normal(lk_stream_key(7, stream), 0, 0, (uint64_t)i); }
static double seconds(double from) { return lk_wall_s() - from; }

/* h x w x 3 bytes: a texture, and the same with noise. */
static lk_image picture(int side, bool noisy) {
    lk_image im = lk_image_new(side, side, 3);
    for (int64_t i = 0; i < 3LL * side * side; i++) {
        int v = (int)((i * 2654435761u >> 13) & 127) + (int)(i / 96 % 100);
        im.px[i] = (uint8_t)(noisy ? v + (int)(i * 40503 % 17) : v);
    }
    return im;
}
static double pixels(const lk_ssim_variant *v, bool multi, int side) {
    lk_image a = picture(side, false), b = picture(side, true);
    double out, from = lk_wall_s();
    lk_err e = lk_ssim_images(v, multi, &a, &b, pool, &out);
    double t = seconds(from);
    if (e) exit(lk_err_report(e));
    lk_image_free(&a);
    lk_image_free(&b);
    return t;
}
/* Features are kept: drawing them costs more than a row. Binary32 numbers, as a network's are. */
static double *features(int64_t n, int64_t d, int which) {
    static double *kept[2];
    static int64_t size[2];
    if (size[which] == n * d) return kept[which];
    free(kept[which]);
    kept[which] = lk_xmalloc((size_t)(n * d) * sizeof **kept);
    for (int64_t i = 0; i < n * d; i++) kept[which][i] = (float)(normal(which ? "y" : "x", i) + (which ? .05 : 0));
    size[which] = n * d;
    return kept[which];
}
static double frechet(int64_t n, int64_t d) {
    double *x = features(n, d, 0), *y = features(n, d, 1), from = lk_wall_s();
    lk_frechet f;
    lk_err e = lk_frechet_features(x, n, y, n, d, 0, &f);
    double t = seconds(from);
    return e ? exit(lk_err_report(e)), 0 : t;
}
static double kid(int64_t n, int64_t d, int64_t subsets, int64_t size) {
    double *x = features(n, d, 0), *y = features(n, d, 1), mean, sd, from = lk_wall_s();
    int64_t *ix = lk_xmalloc((size_t)(2 * subsets * size) * sizeof *ix), *iy = ix + subsets * size;
    lk_err e = lk_kid_draw(n, subsets, size, 1, "x", ix);
    if (!e) e = lk_kid_draw(n, subsets, size, 1, "y", iy);
    if (!e) e = lk_kid_subsets(x, n, y, n, d, ix, iy, subsets, size, pool, NULL, &mean, &sd);
    double t = seconds(from);
    free(ix);
    return e ? exit(lk_err_report(e)), 0 : t;
}
static double inception(int64_t batch) {
    static lk_exec *x;
    static lk_graph *g;
    static lk_val in;
    if (!g) {
        g = lk_graph_new();
        lk_net root = lk_net_root(g);
        in = lk_input(g, "x", LK_F32, LK_SHAPE(batch, 3, LK_INCEPTION_SIDE, LK_INCEPTION_SIDE));
        lk_inception_out o = lk_inception(&root, in);
        lk_err e = lk_graph_error(g);
        if (!e) e = lk_exec_new(g, &o.features2048, 1, (lk_exec_opts){ .pool = pool }, &x);
        if (!e) e = lk_weights_init(x, "", 1, NULL);
        int64_t n = batch * 3 * LK_INCEPTION_SIDE * LK_INCEPTION_SIDE;
        float *v = lk_xmalloc((size_t)n * sizeof *v);
        for (int64_t i = 0; i < n; i++) v[i] = (float)(i % 251) / 125 - 1;
        if (!e) e = lk_exec_set(x, in, v, n);
        if (!e) e = lk_exec_run(x);
        free(v);
        if (e) exit(lk_err_report(e));
    }
    double from = lk_wall_s();
    lk_err e = lk_exec_run(x);
    return e ? exit(lk_err_report(e)), 0 : seconds(from);
}
/* All pairs of n pictures: features once a picture, then distances; the trunk's weights are random. */
static double lpips_pairs(int64_t n, int64_t side) {
    static lk_exec *x;
    static lk_graph *g;
    static lk_val in, out;
    int64_t each = 3 * side * side;
    lk_err e = LK_OK;
    if (!g) {
        g = lk_graph_new();
        lk_net root = lk_net_root(g);
        in = lk_input(g, "x", LK_F32, LK_SHAPE(n, 3, side, side));
        out = lk_lpips_vector(&root, (lk_lpips_variant){ .trunk = LK_ALEXNET }, in);
        e = lk_graph_error(g);
        if (!e) e = lk_exec_new(g, &out, 1, (lk_exec_opts){ .pool = pool }, &x);
        if (!e) e = lk_weights_init(x, "", 1, (const char *const[]){ "model.1.weight", NULL });
    }
    float *v = lk_xmalloc((size_t)(n * each) * sizeof *v);
    for (int64_t i = 0; i < n * each; i++) v[i] = (float)(i * 7919 % 251) / 125 - 1;
    double from = lk_wall_s(), sum = 0;
    if (!e) e = lk_exec_set(x, in, v, n * each);
    if (!e) e = lk_exec_run(x);
    int64_t d = lk_dim(g, out, 1);
    double *f = lk_xmalloc((size_t)(n * d) * sizeof *f);
    if (!e) e = lk_exec_get_f64(x, out, f, n * d);
    for (int64_t i = 0; i < n; i++) for (int64_t j = i + 1; j < n; j++) for (int64_t k = 0; k < d; k++) sum += (f[i * d + k] - f[j * d + k]) * (f[i * d + k] - f[j * d + k]);
    double t = seconds(from);
    free(v);
    free(f);
    return e ? exit(lk_err_report(e)), 0 : sum >= 0 ? t : -1;
}
/* Peak memory in MiB after n samples of d features went into one side of a Frechet distance, a batch at a time. */
static double memory(int64_t n, int64_t d) {
    enum { BATCH = 50 };
    const lk_metric_row *row;
    lk_metric *m = NULL;
    struct rusage usage;
    double *x = lk_xmalloc((size_t)(BATCH * d) * sizeof *x);
    lk_err e = lk_metric_find("frechet/features", &row);
    if (!e) e = lk_metric_new(row, d, NULL, NULL, NULL, &m);
    for (int64_t i = 0; i < n && !e; i += BATCH) {
        for (int64_t k = 0; k < BATCH * d; k++) x[k] = (double)((i * d + k) * 2654435761u % 4093) / 4093;
        e = lk_metric_update_set(m, 0, x, BATCH, NULL);
    }
    if (e) exit(lk_err_report(e));
    getrusage(RUSAGE_SELF, &usage);
    lk_metric_free(m);
    free(x);
    return (double)usage.ru_maxrss / 1024;
}
int main(int argc, char **argv) {
    char line[256], name[64];
    pool = lk_pool_new(argc > 1 ? atoi(argv[1]) : lk_default_threads());
    setvbuf(stdout, NULL, _IOLBF, 0);
    while (fgets(line, sizeof line, stdin)) {
        long a = 0, b = 0, c = 0, d = 0;
        sscanf(line, "%63s %ld %ld %ld %ld", name, &a, &b, &c, &d);
        double t = -1;
        if (lk_starts(name, "ssim/")) t = pixels(lk_ssim_find(name + 5), false, (int)a);
        if (lk_starts(name, "ms-ssim/")) t = pixels(lk_ms_ssim_find(name + 8), true, (int)a);
        if (lk_starts(name, "frechet/")) t = frechet(a, b);
        if (!strcmp(name, "kid")) t = kid(a, b, c, d);
        if (!strcmp(name, "inception")) t = inception(a);
        if (!strcmp(name, "lpips_pairs")) t = lpips_pairs(a, b);
        if (!strcmp(name, "memory")) t = memory(a, b);
        printf("%.6f\n", t);
    }
    lk_pool_free(pool);
}
