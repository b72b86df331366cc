/* images.json (pictures regenerate bit for bit, files agree) and psnr_ssim.json (every row of every pair). */
#include "cli/golden/metrics_pictures.h"
#include "metrics/metrics.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *text(const json_t *j, const char *key) {
    const char *s = json_string_value(json_object_get(j, key));
    return s ? s : "";
}
static int whole(const json_t *j, const char *key) { return (int)json_integer_value(json_object_get(j, key)); }

/* ---- pictures by id -------------------------------------------------------------------------------------------------------- */
static bool made(const char *salt, const json_t *p, lk_image *a, lk_image *b) {
    *a = lk_proc_scene(salt, text(p, "name"), whole(p, "H"), whole(p, "W"), whole(p, "C"));
    if (lk_proc_pair(salt, text(p, "name"), text(p, "kind"), a, b)) return true;
    lk_image_free(a);
    lk_image_free(b);
    return false;
}
static lk_err stored(lk_metric_table *t, const json_t *p, const char *key, lk_image *out) {
    const char *file = text(p, key);
    if (!*file) return lk_error(LK_EINPUT, "picture %s has neither a formula this program knows (kind \"%s\") nor a file", text(p, "id"), text(p, "kind"));
    char *path = lk_fmt(t->memory, "%s/images/%s", t->dir, file);
    return lk_image_read(path, out);
}
static const json_t *pair_of(const json_t *images, const char *id, size_t n) {
    size_t k;
    json_t *p;
    json_array_foreach(json_object_get(images, "pairs"), k, p) if (strlen(text(p, "id")) == n && !strncmp(text(p, "id"), id, n)) return p;
    return NULL;
}
static lk_err load_pair(lk_metric_table *t, const json_t *p, lk_image *a, lk_image *b) {
    if (*text(p, "name") && made(t->salt, p, a, b)) return LK_OK;
    LK_TRY(stored(t, p, "png_a", a));
    lk_err e = stored(t, p, "png_b", b);
    if (e) lk_image_free(a);
    return e;
}
/* Rows of one pair stand together: the last one is kept. */
static lk_err keep_pair(lk_metric_table *t, const char *id, size_t n) {
    json_t *images;
    if (n >= sizeof t->pair_id) return lk_error(LK_EINPUT, "picture id of %d characters", (int)n);
    if (strlen(t->pair_id) == n && n && !strncmp(t->pair_id, id, n)) return LK_OK;
    LK_TRY(lk_json_load(lk_golden_path(t->memory, t->dir, "images.json"), &images));
    const json_t *p = pair_of(images, id, n);
    lk_image a, b;
    lk_err e = p ? load_pair(t, p, &a, &b) : lk_error(LK_EINPUT, "images.json has no pair %.*s", (int)n, id);
    json_decref(images);
    LK_TRY(e);
    for (int i = 0; i < 2; i++) lk_image_free(t->pair + i);
    t->pair[0] = a;
    t->pair[1] = b;
    snprintf(t->pair_id, sizeof t->pair_id, "%.*s", (int)n, id);
    return LK_OK;
}
static lk_image copy_of(const lk_image *im) {
    lk_image c = lk_image_new(im->w, im->h, im->c);
    memcpy(c.px, im->px, (size_t)im->w * (size_t)im->h * (size_t)im->c);
    return c;
}
lk_err lk_pictures_pair(lk_metric_table *t, const char *id, lk_image *a, lk_image *b) {
    LK_TRY(keep_pair(t, id, strlen(id)));
    *a = copy_of(t->pair);
    *b = copy_of(t->pair + 1);
    return LK_OK;
}
lk_err lk_pictures_one(lk_metric_table *t, const char *name, lk_image *out) {
    const char *colon = strrchr(name, ':');
    if (!colon || (colon[1] != 'A' && colon[1] != 'B')) return lk_error(LK_EINPUT, "picture \"%s\": ID:A or ID:B", name);
    LK_TRY(keep_pair(t, name, (size_t)(colon - name)));
    *out = copy_of(t->pair + (colon[1] == 'B'));
    return LK_OK;
}

/* ---- images.json --------------------------------------------------------------------------------------------------------------- */
static void check_numbers(lk_golden *g, const json_t *check, const char *salt) {
    static const char name[] = "conv1.weight";
    size_t i;
    json_t *v;
    const json_t *hash = NULL;
    const char *key;
    json_object_foreach((json_t *)check, key, v) if (lk_starts(key, "fnv1a64")) hash = v;
    uint64_t k = lk_proc_key("", "%s", name), want = strtoull(json_string_value(hash) ? json_string_value(hash) : "0", NULL, 16);
    if (k != want) k = lk_proc_key(salt, "%s", name);
    lk_golden_check(g, k == want, "rng_check FNV-1a");
    json_array_foreach(json_object_get(check, "splitmix64_bits"), i, v)
        lk_golden_check(g, lk_proc_bits(k, (int64_t)i) == strtoull(json_string_value(v), NULL, 16), "rng_check bits %d", (int)i);
    json_array_foreach(json_object_get(check, "u"), i, v) lk_golden_check(g, lk_proc_u(k, (int64_t)i) == json_number_value(v), "rng_check u %d", (int)i);
    json_array_foreach(json_object_get(check, "byte"), i, v) lk_golden_check(g, lk_proc_byte(k, (int64_t)i) == json_integer_value(v), "rng_check byte %d", (int)i);
    json_array_foreach(json_object_get(check, "g"), i, v) lk_golden_check(g, lk_proc_g(k, (int64_t)i) == json_number_value(v), "rng_check g %d", (int)i);
}
static bool crc_is(const lk_image *im, const json_t *p, const char *key) {
    const char *want = text(p, key);
    return lk_proc_crc32(im->px, (size_t)im->w * (size_t)im->h * (size_t)im->c) == (uint32_t)strtoul(want, NULL, 16);
}
static void check_file(lk_metric_table *t, const json_t *p, const char *key, const char *crc) {
    lk_image im;
    if (!*text(p, key)) return;
    lk_err e = stored(t, p, key, &im);
    if (e) { lk_golden_failed(t->run, text(p, key), e); return; }
    lk_golden_claim(t->run, lk_fmt(t->memory, "%s/images/%s", t->dir, text(p, key)));
    lk_golden_check(t->run, crc_is(&im, p, crc), "%-52s file, decoded", text(p, key));
    lk_image_free(&im);
}
lk_err lk_golden_images(lk_golden *g, const char *path, const char *dir, json_t *root) {
    lk_metric_table t;
    size_t k;
    json_t *p;
    lk_image a, b;
    LK_TRY(lk_metric_table_open(g, path, dir, root, &t));
    check_numbers(g, json_object_get(root, "rng_check"), t.salt);
    json_array_foreach(json_object_get(root, "pairs"), k, p) {
        if (*text(p, "name") && made(t.salt, p, &a, &b)) {
            lk_golden_check(g, crc_is(&a, p, "crc_a") && crc_is(&b, p, "crc_b"), "%-52s made from its formula", text(p, "id"));
            lk_image_free(&a);
            lk_image_free(&b);
        } else if (!*text(p, "png_a")) lk_golden_check(g, false, "%s: kind \"%s\" is unknown and no file is stored", text(p, "id"), text(p, "kind"));
        check_file(&t, p, "png_a", "crc_a");
        check_file(&t, p, "png_b", "crc_b");
    }
    lk_metric_table_close(&t);
    return LK_OK;
}

/* ---- psnr_ssim.json ---------------------------------------------------------------------------------------------------------------- */
static lk_err one(lk_metric_row *r, double v) {
    r->n = 1;
    r->got[0] = v;
    return LK_OK;
}
static bool says(const lk_metric_row *r, const char *part) { return strstr(r->call, part) != NULL; }
static lk_err stream_rows(lk_metric_row *r, bool *mine) {
    const json_t *inputs = json_object_get(r->json, "inputs");
    lk_psnr_sum s = { 0 };
    size_t k;
    json_t *id;
    if (!(*mine = json_is_array(inputs))) return LK_OK;
    json_array_foreach((json_t *)inputs, k, id) {
        lk_image a, b;
        LK_TRY(lk_pictures_pair(r->table, json_string_value(id), &a, &b));
        lk_err e = lk_psnr_add(&s, &a, &b, NULL);
        lk_image_free(&a);
        lk_image_free(&b);
        LK_TRY(e);
    }
    const json_t *sse = json_object_get(r->json, "sse");
    if (sse && (uint64_t)json_integer_value(sse) != s.sse) return lk_error(LK_ENUM, "sum of squares %llu, want %lld", (unsigned long long)s.sse, (long long)json_integer_value(sse));
    bool mean = says(r, "mean of");
    return one(r, mean ? lk_psnr_mean(&s) : lk_psnr_pooled(&s));
}
/* Which of our variants a peer's call means. */
static const char *variant_of(const lk_metric_row *r, bool multi) {
    bool binary32 = says(r, "f32taps") || says(r, "default float32 taps") || (says(r, "(f32") && !strcmp(r->peer, "pytorch-msssim"));
    if (!strcmp(r->peer, "pytorch-msssim")) return binary32 ? "pytorch_msssim_f32taps" : "pytorch_msssim";
    if (!strcmp(r->peer, "piq")) return multi || !says(r, "downsample=False") ? "piq" : "piq_nodown";
    if (!strcmp(r->peer, "torchmetrics")) return multi && says(r, "normalize=None") ? "torchmetrics_nonorm" : "torchmetrics";
    if (strcmp(r->peer, "scikit-image") || multi) return NULL;
    if (!says(r, "gaussian_weights=True")) return "skimage";
    return says(r, "use_sample_covariance=False") ? "wang04" : "skimage_gaussian";
}
static lk_err pair_rows(lk_metric_row *r, bool *mine) {
    const char *name = json_string_value(lk_row_input(r, "a")), *partner = json_string_value(lk_row_input(r, "b")), *kind = NULL;
    bool psnr = strstr(r->id, "/psnr/") != NULL, multi = strstr(r->id, "/msssim/") != NULL;
    if (!name || !partner) { *mine = false; return LK_OK; }
    if (!psnr && !(kind = variant_of(r, multi))) { *mine = false; return LK_OK; }
    lk_image a, b;
    LK_TRY(lk_pictures_one(r->table, name, &a));
    lk_err e = lk_pictures_one(r->table, partner, &b);
    if (e) { lk_image_free(&a); return e; }
    lk_psnr_sum s = { 0 };
    double v = NAN;
    if (psnr) {
        e = lk_psnr_add(&s, &a, &b, &v);
        if (!e && !strcmp(r->peer, "piq")) v = lk_psnr_piq_db((double)s.sse / (double)s.values, 255);
    } else e = lk_ssim_images(multi ? lk_ms_ssim_find(kind) : lk_ssim_find(kind), multi, &a, &b, r->table->run->pool, &v);
    lk_image_free(&a);
    lk_image_free(&b);
    return e ? e : one(r, v);
}
lk_err lk_golden_psnr_ssim(lk_golden *g, const char *path, const char *dir, json_t *root) {
    static const lk_metric_rule rules[] = { stream_rows, pair_rows, NULL };
    lk_metric_table t;
    LK_TRY(lk_metric_table_open(g, path, dir, root, &t));
    lk_metric_rows(&t, root, rules);
    lk_metric_table_close(&t);
    return LK_OK;
}
