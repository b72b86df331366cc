/* lk-metrics METRIC[/VARIANT] A B [--json|--csv] | --list: metrics over folders of pictures (or two pictures).
 * Pictures pair by name for pixel metrics; distribution metrics take whole folders. Every number comes with its variant, n,
 * and, where there are enough pictures, an interval. What does not fit is said with the file's name; nothing is resized,
 * dropped or converted silently. */
#include "metrics/metrics.h"     /* the metrics */
#include <dirent.h>              /* folders */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>              /* isatty */

typedef struct { char **path, **name; lk_image *im; int n; } folder;
typedef struct { const char *metric, *variant; double value; int64_t n; lk_interval interval; bool has_interval; const char *unit; char note[200];
                 double *each; const folder *pairs; } result;
typedef lk_err (*metric_fn)(const char *variant, const folder *a, const folder *b, lk_pool *, result *);
typedef struct { const char *name, *variants, *peer; bool pairs, one_folder; metric_fn run; } metric;

/* ---- folders --------------------------------------------------------------------------------------------------------------- */
static int by_text(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }
static bool is_picture(const char *name) {
    static const char *const ends[] = { ".png", ".jpg", ".jpeg", ".PNG", ".JPG", ".JPEG" };
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) if (lk_ends(name, ends[i])) return true;
    return false;
}
static void folder_free(folder *f) {
    for (int i = 0; i < f->n; i++) {
        lk_image_free(f->im + i);
        free(f->path[i]);
    }
    free(f->path);
    free(f->name);
    free(f->im);
}
static void add(folder *f, char *path) {
    f->path = lk_xrealloc(f->path, (size_t)(f->n + 1) * sizeof *f->path);
    f->path[f->n++] = path;
}
static lk_err folder_read(const char *path, folder *f) {
    struct stat st;
    *f = (folder){ 0 };
    if (stat(path, &st)) return lk_error(LK_EINPUT, "%s: no such folder or picture", path);
    if (S_ISDIR(st.st_mode)) {
        DIR *d = opendir(path);
        if (!d) return lk_error(LK_EIO, "%s: cannot be opened", path);
        for (struct dirent *e; (e = readdir(d)); ) if (is_picture(e->d_name)) add(f, lk_xfmt("%s/%s", path, e->d_name));
        closedir(d);
    } else add(f, lk_xstrdup(path));
    if (!f->n) return lk_error(LK_EINPUT, "%s: no pictures (.png, .jpg, .jpeg)", path);
    qsort(f->path, (size_t)f->n, sizeof *f->path, by_text);
    f->name = lk_xcalloc((size_t)f->n, sizeof *f->name);
    f->im = lk_xcalloc((size_t)f->n, sizeof *f->im);
    for (int i = 0; i < f->n; i++) {
        f->name[i] = strrchr(f->path[i], '/') ? strrchr(f->path[i], '/') + 1 : f->path[i];
        LK_TRY(lk_image_read(f->path[i], f->im + i));
        if (isatty(2) && (i % 64 == 63 || i + 1 == f->n)) fprintf(stderr, "\r%s: %d of %d%s", path, i + 1, f->n, i + 1 == f->n ? "\n" : "");
    }
    return LK_OK;
}
/* Two single pictures pair whatever their names; folders must hold the same names. */
static lk_err paired(const folder *a, const folder *b) {
    if (a->n == 1 && b->n == 1) return LK_OK;
    for (int i = 0; i < a->n || i < b->n; i++) {
        int order = i >= a->n ? 1 : i >= b->n ? -1 : strcmp(a->name[i], b->name[i]);
        if (order) return lk_error(LK_EINPUT, "%s has no partner of that name in the other folder (%d and %d pictures)", order < 0 ? a->path[i] : b->path[i], a->n, b->n);
    }
    return LK_OK;
}
static lk_err same_size(const lk_image *a, const char *pa, const lk_image *b, const char *pb) {
    if (a->w == b->w && a->h == b->h && a->c == b->c) return LK_OK;
    return lk_error(LK_EINPUT, "%s is %d x %d with %d channel%s, %s is %d x %d with %d: make them equal first (grey and colour are not compared)",
                    pa, a->w, a->h, a->c, a->c > 1 ? "s" : "", pb, b->w, b->h, b->c);
}
/* All pictures of both folders as [n][d] values on [0, 1]. */
static lk_err pixels(const folder *f, const folder *like, double **x, int64_t *d) {
    *d = (int64_t)like->im[0].w * like->im[0].h * like->im[0].c;
    for (int i = 0; i < f->n; i++) LK_TRY(same_size(like->im, like->path[0], f->im + i, f->path[i]));
    *x = lk_xmalloc((size_t)f->n * (size_t)*d * sizeof **x);
    for (int i = 0; i < f->n; i++) for (int64_t j = 0; j < *d; j++) (*x)[i * *d + j] = f->im[i].px[j] / 255.0;
    return LK_OK;
}

/* ---- metrics ------------------------------------------------------------------------------------------------------------------ */
static void summarise(result *r, const folder *pairs, double *each, int n) {
    r->each = each;
    r->pairs = pairs;
    r->n = n;
    r->has_interval = n >= 2;
    if (!r->has_interval) { r->value = each[0]; return; }
    lk_err e = lk_mean_t(each, n, .95, &r->interval);
    if (e) {                                          /* an infinite score has no interval; the mean is what it is */
        snprintf(r->note, sizeof r->note, "no interval: %s", lk_err_text(e));
        r->has_interval = false;
        for (int i = 0; i < n; i++) r->value += each[i] / n;
    } else r->value = r->interval.mean;
    lk_err_free(e);
}
static lk_err psnr(const char *variant, const folder *a, const folder *b, lk_pool *pool, result *r) {
    lk_psnr_sum s = { 0 };
    double *each = lk_xmalloc((size_t)a->n * sizeof *each);
    (void)pool;
    for (int i = 0; i < a->n; i++) LK_TRY(lk_err_wrap(lk_psnr_add(&s, a->im + i, b->im + i, each + i), "%s, %s", a->path[i], b->path[i]));
    r->unit = "dB";
    summarise(r, a, each, a->n);
    if (strcmp(variant, "pooled")) return LK_OK;
    r->value = lk_psnr_pooled(&s);
    r->has_interval = false;
    return LK_OK;
}
static lk_err ssim_of(const lk_ssim_variant *v, bool multi, const folder *a, const folder *b, lk_pool *pool, result *r) {
    double *each = lk_xmalloc((size_t)a->n * sizeof *each);
    for (int i = 0; i < a->n; i++) LK_TRY(lk_err_wrap(lk_ssim_images(v, multi, a->im + i, b->im + i, pool, each + i), "%s, %s", a->path[i], b->path[i]));
    summarise(r, a, each, a->n);
    return LK_OK;
}
static lk_err ssim(const char *variant, const folder *a, const folder *b, lk_pool *pool, result *r) { return ssim_of(lk_ssim_find(variant), false, a, b, pool, r); }
static lk_err ms_ssim(const char *variant, const folder *a, const folder *b, lk_pool *pool, result *r) { return ssim_of(lk_ms_ssim_find(variant), true, a, b, pool, r); }
static lk_err frechet(const char *variant, const folder *a, const folder *b, lk_pool *pool, result *r) {
    double *x = NULL, *y = NULL;
    int64_t d;
    lk_frechet f;
    (void)variant;
    (void)pool;
    lk_err e = pixels(a, a, &x, &d);
    if (!e) e = pixels(b, a, &y, &d);
    if (!e) e = lk_frechet_features(x, a->n, y, b->n, d, a->n >= 40 && b->n >= 40 && d <= 256 ? 20 : 0, &f);
    free(x);
    free(y);
    LK_TRY(e);
    r->value = f.value;
    r->n = a->n < b->n ? a->n : b->n;
    snprintf(r->note, sizeof r->note, "%s", f.warning);
    if (f.groups) {
        r->has_interval = true;
        r->interval = (lk_interval){ r->n, f.debiased, NAN, f.se, 19, f.debiased - 1.96 * f.se, f.debiased + 1.96 * f.se };
    }
    return LK_OK;
}
static lk_err kid(const char *variant, const folder *a, const folder *b, lk_pool *pool, result *r) {
    double *x = NULL, *y = NULL;
    int64_t d;
    lk_mmd v;
    (void)variant;
    lk_err e = pixels(a, a, &x, &d);
    if (!e) e = pixels(b, a, &y, &d);
    if (!e) e = lk_kid_full(x, a->n, y, b->n, d, pool, &v);
    free(x);
    free(y);
    LK_TRY(e);
    double se = sqrt(v.variance);
    r->value = v.value;
    r->n = a->n < b->n ? a->n : b->n;
    r->has_interval = v.variance > 0;
    r->interval = (lk_interval){ r->n, v.value, NAN, se, (double)(r->n - 1), v.value - 1.96 * se, v.value + 1.96 * se };
    return LK_OK;
}
static lk_err diversity(const char *variant, const folder *a, const folder *b, lk_pool *pool, result *r) {
    lk_diversity d;
    (void)b;
    (void)pool;
    for (int i = 1; i < a->n; i++) LK_TRY(same_size(a->im, a->path[0], a->im + i, a->path[i]));
    LK_TRY(lk_diversity_images(a->im, a->n, &d));
    static const char *const names[] = { "mean_l1", "min_l1", "median_l1", "mean_rms", "effective_rank", "participation", "vendi", "legacy" };
    double v[] = { d.mean_l1, d.min_l1, d.median_l1, d.mean_rms, d.effective_rank, d.participation, d.vendi, d.legacy_collapsed };
    for (int i = 0; i < 8; i++) if (!strcmp(names[i], variant)) r->value = v[i];
    r->n = a->n;
    return LK_OK;
}
static const metric metrics[] = {
    { "psnr", "mean pooled", "skimage peak_signal_noise_ratio; torchmetrics PeakSignalNoiseRatio (pooled); range 255", true, false, psnr },
    { "ssim", "wang04 skimage skimage_gaussian torchmetrics piq piq_nodown pytorch_msssim pytorch_msssim_f32taps", "of the named package; range 255", true, false, ssim },
    { "ms-ssim", "pytorch_msssim pytorch_msssim_f32taps piq torchmetrics torchmetrics_nonorm", "of the named package; range 255", true, false, ms_ssim },
    { "frechet", "pixels", "Frechet distance of raw pixels on [0, 1]: not an FID", false, false, frechet },
    { "kid", "pixels", "full U-statistic of raw pixels, k = (x.y/d + 1)^3: not an Inception KID", false, false, kid },
    { "diversity", "mean_l1 min_l1 median_l1 mean_rms effective_rank participation vendi legacy", "one folder; pixels on [0, 1]", false, true, diversity },
};
enum { METRICS = sizeof metrics / sizeof *metrics };

/* ---- output --------------------------------------------------------------------------------------------------------------------- */
static json_t *number(double v) { return isfinite(v) ? json_real(v) : json_string(isnan(v) ? "nan" : v > 0 ? "inf" : "-inf"); }
static void print_json(const result *r) {
    json_t *j = json_pack("{s:s, s:s, s:o, s:I}", "metric", r->metric, "variant", r->variant, "value", number(r->value), "n", (json_int_t)r->n);
    if (r->has_interval) json_object_set_new(j, "interval", json_pack("{s:o, s:o, s:o, s:f}", "lo", number(r->interval.lo), "hi", number(r->interval.hi), "se", number(r->interval.se), "level", .95));
    if (*r->note) json_object_set_new(j, "warning", json_string(r->note));
    json_t *each = json_object();
    for (int i = 0; r->each && i < r->pairs->n; i++) json_object_set_new(each, r->pairs->name[i], number(r->each[i]));
    json_object_set_new(j, "each", each);
    char *text = lk_json_text(j);
    puts(text);
    free(text);
    json_decref(j);
}
static void print_csv(const result *r) {
    printf("name,%s/%s\n", r->metric, r->variant);
    for (int i = 0; r->each && i < r->pairs->n; i++) printf("%s,%.17g\n", r->pairs->name[i], r->each[i]);
    printf("all,%.17g\n", r->value);
}
static void print_text(const result *r) {
    printf("%s/%s  %.8g%s%s  n = %lld", r->metric, r->variant, r->value, r->unit ? " " : "", r->unit ? r->unit : "", (long long)r->n);
    if (r->has_interval) printf("  95 %% [%.6g, %.6g]", r->interval.lo, r->interval.hi);
    printf("\n");
    if (*r->note) printf("  note: %s\n", r->note);
}
static void list(void) {
    printf("usage: lk-metrics METRIC[/VARIANT] A B [--json] [--csv]     A, B: folders of pictures, or two pictures\n\n");
    for (int i = 0; i < METRICS; i++) printf("%-10s %s\n           %s\n", metrics[i].name, metrics[i].variants, metrics[i].peer);
}

/* ---- command --------------------------------------------------------------------------------------------------------------------- */
static lk_err choose(const char *asked, const metric **m, char *variant, size_t room) {
    const char *names[METRICS], *slash = strchr(asked, '/');
    size_t n = slash ? (size_t)(slash - asked) : strlen(asked);
    *m = NULL;
    for (int i = 0; i < METRICS; i++) {
        names[i] = metrics[i].name;
        if (strlen(names[i]) == n && !strncmp(names[i], asked, n)) *m = metrics + i;
    }
    if (!*m) return lk_error(LK_EINPUT, "no metric \"%.*s\"; did you mean %s? --list shows all", (int)n, asked, names[lk_nearest(asked, names, METRICS)]);
    bool several = strchr((*m)->variants, ' ') != NULL;
    if (!slash && several) return lk_error(LK_EINPUT, "%s has variants that differ by more than most effects; say which: %s", (*m)->name, (*m)->variants);
    const char *want = slash ? slash + 1 : (*m)->variants;
    char all[256], *rest = NULL;
    snprintf(all, sizeof all, "%s", (*m)->variants);
    for (char *v = strtok_r(all, " ", &rest); v; v = strtok_r(NULL, " ", &rest))
        if (!strcmp(v, want)) { snprintf(variant, room, "%s", v); return LK_OK; }
    return lk_error(LK_EINPUT, "%s has no variant \"%s\"; it has: %s", (*m)->name, want, (*m)->variants);
}
static lk_err command(int n, char **arg, void (*print)(const result *)) {
    const metric *m;
    char variant[64];
    folder a = { 0 }, b = { 0 };
    result r = { .value = 0 };
    LK_TRY(choose(arg[0], &m, variant, sizeof variant));
    if (n != (m->one_folder ? 2 : 3)) return lk_error(LK_EINPUT, "%s takes %s", m->name, m->one_folder ? "one folder" : "two folders, or two pictures");
    lk_pool *pool = lk_pool_new(lk_default_threads());
    lk_err e = folder_read(arg[1], &a);
    if (!e && !m->one_folder) e = folder_read(arg[2], &b);
    if (!e && m->pairs) e = paired(&a, &b);
    for (int i = 0; !e && m->pairs && i < a.n; i++) e = same_size(a.im + i, a.path[i], b.im + i, b.path[i]);
    r.metric = m->name;
    r.variant = variant;
    if (!e) e = m->run(variant, &a, &b, pool, &r);
    if (!e) print(&r);
    free(r.each);
    folder_free(&a);
    folder_free(&b);
    lk_pool_free(pool);
    return e;
}
int main(int argc, char **argv) {
    void (*print)(const result *) = print_text;
    char *arg[4];
    int n = 0;
    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--json")) print = print_json;
        else if (!strcmp(argv[i], "--csv")) print = print_csv;
        else if (!strcmp(argv[i], "--list") || !strcmp(argv[i], "--help")) { list(); return 0; }
        else if (argv[i][0] == '-' || n == 4) return lk_err_report(lk_error(LK_EINPUT, "\"%s\" is not understood; --list shows the usage", argv[i]));
        else arg[n++] = argv[i];
    }
    if (!n) { list(); return 2; }
    return lk_err_report(command(n, arg, print));
}
