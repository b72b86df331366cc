/* resize.json (each resizer's bits or values) and align.json (five-point fits, warps). */
#include "cli/golden/metrics_pictures.h"
#include "metrics/align.h"
#include "metrics/resize.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *text(const json_t *j, const char *key) {
    const char *s = json_string_value(json_object_get(j, key));
    return s ? s : "";
}
static uint32_t hex(const char *s) { return (uint32_t)strtoul(s, NULL, 16); }

/* ---- resize ---------------------------------------------------------------------------------------------------------------- */
typedef enum { PILLOW_U8, PILLOW_F, CLEAN, TF1, TORCH_F32, TORCH, TORCH_AA, TORCH_AA_U8 } kind;
static const struct { const char *op; kind kind; lk_filter filter; } ops[] = {
    { "pillow_u8_bicubic", PILLOW_U8, LK_BICUBIC }, { "pillow_u8_bilinear", PILLOW_U8, LK_BILINEAR }, { "pillow_u8_lanczos", PILLOW_U8, LK_LANCZOS },
    { "pillow_f_bicubic", PILLOW_F, LK_BICUBIC },   { "pillow_f_bilinear", PILLOW_F, LK_BILINEAR },   { "pillow_f_lanczos", PILLOW_F, LK_LANCZOS },
    { "cleanfid_clean", CLEAN, LK_BICUBIC },        { "tf1_bilinear", TF1, LK_BILINEAR },
    { "torch_bilinear", TORCH_F32, LK_BILINEAR },       { "torch_bilinear_f64", TORCH, LK_BILINEAR },
    { "torch_bilinear_aa", TORCH_AA, LK_BILINEAR }, { "torch_bilinear_aa_f64", TORCH_AA, LK_BILINEAR }, { "torch_bicubic_aa_f64", TORCH_AA, LK_BICUBIC },
    { "torch_bilinear_aa_u8", TORCH_AA_U8, LK_BILINEAR }, { "torch_bicubic_aa_u8", TORCH_AA_U8, LK_BICUBIC },
};
typedef struct { void *raw; size_t bytes; double *v; int64_t n; } resized;     /* the bytes in the peer's format, and the values */
static void run_op(kind k, lk_filter f, const lk_image *im, int h, int w, resized *out) {
    int64_t in = (int64_t)im->w * im->h * im->c, n = out->n = (int64_t)h * w * im->c;
    bool bytes = k == PILLOW_U8 || k == TORCH_AA_U8, wide = k == TORCH || k == TORCH_AA;
    size_t each = bytes ? 1 : wide ? 8 : 4;
    float *f32 = lk_xmalloc((size_t)in * sizeof *f32);
    double *f64 = lk_xmalloc((size_t)in * sizeof *f64);
    for (int64_t i = 0; i < in; i++) f64[i] = f32[i] = im->px[i];
    out->raw = lk_xmalloc((size_t)n * each);
    out->bytes = (size_t)n * each;
    out->v = lk_xmalloc((size_t)n * sizeof *out->v);
    if (k == PILLOW_U8) lk_pillow_u8(f, im->px, im->h, im->w, im->c, out->raw, h, w);
    if (k == PILLOW_F) lk_pillow_f32(f, f32, im->h, im->w, im->c, out->raw, h, w);
    if (k == CLEAN) lk_cleanfid_f32(f32, im->h, im->w, im->c, out->raw, h, w);
    if (k == TF1) lk_tf1_bilinear(f32, im->h, im->w, im->c, out->raw, h, w);
    if (k == TORCH_F32) lk_torch_bilinear_f32(f32, im->h, im->w, im->c, out->raw, h, w);
    if (k == TORCH) lk_torch_bilinear(f64, im->h, im->w, im->c, out->raw, h, w);
    if (k == TORCH_AA) lk_torch_antialias(f, f64, im->h, im->w, im->c, out->raw, h, w);
    if (k == TORCH_AA_U8) lk_torch_antialias_u8(f, im->px, im->h, im->w, im->c, out->raw, h, w);
    for (int64_t i = 0; i < n; i++) out->v[i] = bytes ? ((uint8_t *)out->raw)[i] : wide ? ((double *)out->raw)[i] : ((float *)out->raw)[i];
    free(f32);
    free(f64);
}
/* Largest difference from what is stored (whole, or every 7919th of 256); NAN if nothing is. */
static double worst_of(const resized *r, const lk_tensor *t) {
    double *want = lk_golden_f64(t), worst = 0;
    if (!want) return NAN;
    for (int64_t i = 0; i < t->numel; i++) {
        double e = fabs(r->v[t->numel == r->n ? i : i * 7919 % r->n] - want[i]);
        worst = e > worst || isnan(e) ? e : worst;
    }
    free(want);
    return worst;
}
static void judge(lk_golden *g, const json_t *row, const resized *r, const lk_tensor *t) {
    double sum = 0, tol = json_number_value(json_object_get(row, "tol_abs")), worst = worst_of(r, t);
    bool same = lk_proc_crc32(r->raw, r->bytes) == hex(text(row, "crc32")), exact = json_is_true(json_object_get(row, "exact"));
    for (int64_t i = 0; i < r->n; i++) sum += r->v[i];
    double mean_off = fabs(sum - json_number_value(json_object_get(row, "sum"))) / (double)r->n;
    bool ok = exact ? same && !(worst > 0) : (same || (mean_off <= tol && (!t || worst <= tol)));
    lk_golden_check(g, ok, "%-52s %s, max %.1e", text(row, "id"), same ? "same bits" : "other bits", isnan(worst) ? mean_off : worst);
}
static lk_err resize_row(lk_metric_table *t, const json_t *row) {
    const lk_tensor *stored = t->tensors.st ? lk_golden_get(&t->tensors, "%s", text(row, "id")) : NULL;
    const json_t *hw = json_object_get(row, "out_hw");
    int h = (int)json_integer_value(json_array_get(hw, 0)), w = (int)json_integer_value(json_array_get(hw, 1));
    size_t i = 0;
    while (i < sizeof ops / sizeof *ops && strcmp(ops[i].op, text(row, "op"))) i++;
    if (i == sizeof ops / sizeof *ops) return lk_error(LK_EINPUT, "no resizer \"%s\"", text(row, "op"));
    if (h < 1 || w < 1) return lk_error(LK_EINPUT, "out_hw %d x %d", h, w);
    lk_image im;
    resized r;
    LK_TRY(lk_pictures_one(t, text(row, "src"), &im));
    run_op(ops[i].kind, ops[i].filter, &im, h, w, &r);
    judge(t->run, row, &r, stored);
    lk_image_free(&im);
    free(r.raw);
    free(r.v);
    return LK_OK;
}
lk_err lk_golden_resize(lk_golden *g, const char *path, const char *dir, json_t *root) {
    lk_metric_table t;
    size_t k;
    json_t *row;
    LK_TRY(lk_metric_table_open(g, path, dir, root, &t));
    json_array_foreach(json_object_get(root, "rows"), k, row) lk_golden_failed(g, text(row, "id"), resize_row(&t, row));
    lk_metric_table_close(&t);
    return LK_OK;
}

/* ---- align ------------------------------------------------------------------------------------------------------------------ */
static lk_err fit_rows(lk_metric_row *r, bool *mine) {
    double *points, m[6];
    int64_t n, d;
    if (!(*mine = lk_row_input(r, "points") != NULL)) return LK_OK;
    LK_TRY(lk_row_named(r, json_string_value(lk_row_input(r, "points")), &points, &n, &d));
    lk_err e = n == 5 && d == 2 ? lk_align_umeyama((const double (*)[2])points, (int)json_integer_value(lk_row_input(r, "size")), m)
                                : lk_error(LK_EINPUT, "%lld points of %lld coordinates", (long long)n, (long long)d);
    free(points);
    r->n = 6;
    memcpy(r->got, m, sizeof m);
    return e;
}
static lk_err refusal(lk_metric_table *t, const json_t *row) {
    lk_metric_row *r = lk_xcalloc(1, sizeof *r);
    bool mine;
    r->table = t;
    r->json = row;
    lk_err e = fit_rows(r, &mine);
    lk_golden_check(t->run, e != NULL, "%-52s refused, as the peer does", text(row, "id"));
    lk_err_free(e);
    free(r);
    return LK_OK;
}
/* The largest difference in levels of bytes, and how many differ. */
static int levels(const lk_image *a, const uint8_t *b, int64_t n, int64_t *count) {
    int worst = 0;
    *count = 0;
    for (int64_t i = 0; i < n; i++) {
        int e = abs(a->px[i] - b[i]);
        *count += e > 0;
        worst = e > worst ? e : worst;
    }
    return worst;
}
static lk_err warp_row(lk_metric_table *t, const json_t *row) {
    const json_t *in = json_object_get(row, "inputs"), *pic = json_object_get(in, "image");
    const char *peer = text(row, "peer"), *version = text(row, "version"), *stem = text(in, "M");
    const lk_tensor *mt = t->tensors.st ? lk_golden_get(&t->tensors, "%s", stem) : NULL;
    double *m = lk_golden_f64(mt);
    if (!m || mt->numel != 6) { free(m); return lk_error(LK_EINPUT, "matrix %s is not stored", stem); }
    int size = (int)json_integer_value(json_object_get(in, "size")), n = (int)strlen(stem) - 1;
    lk_image im = lk_proc_scene(t->salt, text(pic, "name"), (int)json_integer_value(json_object_get(pic, "H")), (int)json_integer_value(json_object_get(pic, "W")),
                                (int)json_integer_value(json_object_get(pic, "C"))), out = { 0 };
    bool crc = lk_proc_crc32(im.px, (size_t)im.w * (size_t)im.h * (size_t)im.c) == hex(text(pic, "crc"));
    lk_golden_check(t->run, crc, "%-52s picture made from its formula", text(row, "id"));
    bool old = lk_starts(version, "4."), fixed = strstr(text(row, "call"), "32x32") || (lk_starts(peer, "opencv") && old);
    bool exact = lk_starts(peer, "numpy exact");
    const char *side = fixed ? (lk_starts(peer, "opencv") ? "cv2_4_10" : "fixed32_u8") : exact ? "exact_u8" : "cv2_5";
    const lk_tensor *want = lk_golden_get(&t->tensors, "%.*s%s", n, stem, side);
    lk_err e = fixed ? lk_warp_fixed32(&im, m, size, &out) : lk_warp_exact_u8(&im, m, size, &out);
    if (!e) {
        int64_t count = (int64_t)size * size * im.c, differ = 0;
        bool same = lk_proc_crc32(out.px, (size_t)count) == hex(text(row, "crc32"));
        int worst = want && want->dtype == LK_ST_U8 && want->numel == count ? levels(&out, want->data, count, &differ) : same ? 0 : 255;
        /* Ties of the rounding may fall either way in the exact warp; OpenCV 5 works in binary32, so a few round otherwise. */
        bool ok = fixed ? same : worst <= 1 && (double)differ <= 1e-3 * (double)count;
        lk_golden_check(t->run, ok, "%-52s %s, %lld of %lld differ, at most %d", text(row, "id"), same ? "same bits" : "other bits", (long long)differ, (long long)count, worst);
        lk_image_free(&out);
    }
    double *real = lk_golden_f64(lk_golden_get(&t->tensors, "%.*sexact_f32", n, stem));
    if (!e && exact && real) {
        int64_t count = (int64_t)size * size * im.c;
        double *v = lk_xmalloc((size_t)count * sizeof *v);
        e = lk_warp_exact(&im, m, size, v);
        if (!e) lk_golden_tensor(t->run, text(row, "id"), v, real, count, (lk_golden_tol){ 2e-5, 1e-6 });     /* stored in binary32: half an ulp of 255 is 8e-6 */
        free(v);
    }
    free(real);
    free(m);
    lk_image_free(&im);
    return e;
}
lk_err lk_golden_align(lk_golden *g, const char *path, const char *dir, json_t *root) {
    static const lk_metric_rule rules[] = { fit_rows, NULL };
    lk_metric_table t;
    size_t k;
    json_t *row;
    LK_TRY(lk_metric_table_open(g, path, dir, root, &t));
    lk_metric_rows(&t, root, rules);
    json_array_foreach(root, k, row) {
        if (json_object_get(json_object_get(row, "inputs"), "image")) lk_golden_failed(g, text(row, "id"), warp_row(&t, row));
        else if (json_object_get(row, "error")) lk_golden_failed(g, text(row, "id"), refusal(&t, row));
    }
    for (int i = 0; t.tensors.st && i < lk_st_count(t.tensors.st); i++) {         /* the templates the file states */
        const lk_tensor *at = lk_st_at(t.tensors.st, i);
        int size;
        double point[5][2], *want;
        if (sscanf(at->name, "align/template/%d", &size) != 1) continue;
        want = lk_golden_f64(lk_golden_get(&t.tensors, "%s", at->name));
        lk_err e = lk_align_template(size, point);
        if (e) lk_golden_failed(g, at->name, e);
        else lk_golden_tensor(g, at->name, &point[0][0], want, 10, (lk_golden_tol){ 1e-12, 1e-12 });
        free(want);
    }
    if (t.tensors.st) lk_golden_know(&t.tensors, "align/");
    lk_metric_table_close(&t);
    return LK_OK;
}
