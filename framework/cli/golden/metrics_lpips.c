/* lpips.json (LPIPS of three trunks, its gradients, VGG16's taps and the perceptual error made of them), trunk_params.json (the
 * trunks' names, shapes and procedural weights), lpips_normalize.safetensors (unit vectors and their gradient alone).
 *
 * Rows of one pair stand together, so one network at a time is kept: built for a trunk and a size, run for a pair. */
#include "cli/golden/metrics_table.h"
#include "metrics/lpips.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GRADIENT_TOL ((lk_golden_tol){ INFINITY, 1e-4 })
#define VALUE_TOL ((lk_golden_tol){ INFINITY, 2e-5 })
static const struct { const char *net; lk_trunk trunk; } nets[] = { { "alex", LK_ALEXNET }, { "vgg", LK_VGG16 }, { "squeeze", LK_SQUEEZENET1_1 } };
enum { LPIPS, TORCHMETRICS, PLAIN, FORMS };
/* The taps of perceptual rows, in the order of lk_trunk_features. */
static const char *const vgg_taps[] = { "relu1_2", "relu2_2", "relu3_3", "relu4_3", "relu5_3" };
enum { TAPS = sizeof vgg_taps / sizeof *vgg_taps };
typedef struct {
    lk_graph *g;
    lk_exec *x;
    char net[16], pair[128];
    int h, w;
    bool gradients;
    lk_val a, b, form[FORMS], layer[LK_TRUNK_TAPS], grad[2];                  /* LPIPS */
    lk_val tap[2][LK_TRUNK_TAPS], sum;                                         /* perceptual: taps of a and of b */
} network;
static network kept;                                                           /* of the table that runs; freed at its end */

static void forget(void) {
    lk_exec_free(kept.x);
    lk_graph_free(kept.g);
    kept = (network){ 0 };
}

/* ---- weights ---------------------------------------------------------------------------------------------------------------- */
static lk_err recipe_of(lk_metric_table *t, lk_trunk trunk, lk_proc_recipe *r) {
    json_t *all;
    LK_TRY(lk_golden_json(t->run, lk_golden_path(t->memory, t->dir, "trunk_params.json"), &all));
    const json_t *one = json_object_get(all, lk_trunk_name(trunk));
    lk_err e = one ? lk_proc_recipe_read(one, r) : lk_error(LK_EINPUT, "trunk_params.json has no %s", lk_trunk_name(trunk));
    json_decref(all);
    return e;
}
static lk_err fill(lk_metric_table *t, lk_trunk trunk, bool heads) {
    lk_proc_recipe r;
    lk_st *st;
    LK_TRY(recipe_of(t, trunk, &r));
    LK_TRY(lk_proc_weights(&r, kept.x));
    if (!heads) return LK_OK;
    LK_TRY(lk_st_open(lk_lpips_heads(trunk), &st));
    lk_err e = lk_weights_set(kept.x, st, "lin/", NULL);
    lk_st_close(st);
    return e;
}
lk_err lk_golden_trunk_params(lk_golden *run, const char *path, const char *dir, json_t *root) {
    const char *name;
    json_t *one;
    (void)path;
    (void)dir;
    json_object_foreach(root, name, one) {
        int i = 0;
        while (i < LK_TRUNKS && strcmp(name, lk_trunk_name((lk_trunk)i))) i++;
        lk_proc_recipe r;
        lk_err e = i < LK_TRUNKS ? lk_proc_recipe_read(one, &r) : lk_error(LK_EINPUT, "no trunk is named %s", name);
        if (e) { lk_golden_failed(run, name, e); continue; }
        lk_graph *g = lk_graph_new();
        lk_net root_net = lk_net_root(g);
        lk_val tap[LK_TRUNK_TAPS];
        lk_trunk_features(&root_net, (lk_trunk)i, lk_input(g, "x", LK_F32, LK_SHAPE(1, 3, 64, 64)), tap);
        e = lk_graph_error(g);
        if (e) lk_golden_failed(run, name, e);
        else lk_proc_check(run, &r, json_object_get(one, "tensors"), g);
        lk_graph_free(g);
    }
    return LK_OK;
}

/* ---- pictures of a row ------------------------------------------------------------------------------------------------------ */
/* A row without its own size has that of another row with the same picture. */
static int side(const lk_metric_row *r, const char *key) {
    const json_t *own = lk_row_input(r, key), *name = lk_row_input(r, "name");
    size_t k;
    json_t *other;
    if (own) return (int)json_integer_value(own);
    json_array_foreach(r->table->root, k, other) {
        const json_t *in = json_object_get(other, "inputs");
        if (json_object_get(in, key) && json_equal(json_object_get(in, "name"), name)) return (int)json_integer_value(json_object_get(in, key));
    }
    return 0;
}
static bool crc_matches(const lk_metric_row *r, const char *key, const lk_image *im) {
    const char *want = json_string_value(lk_row_input(r, key));
    return want && strtoul(want, NULL, 16) == lk_proc_crc32(im->px, (size_t)im->w * (size_t)im->h * (size_t)im->c);
}
static lk_err pictures(const lk_metric_row *r, lk_image *a, lk_image *b) {
    const char *name = json_string_value(lk_row_input(r, "name")), *kind = json_string_value(lk_row_input(r, "kind")), *salt = r->table->salt;
    char other[128], tail[32];
    int h = side(r, "H"), w = side(r, "W");
    if (!name || !kind || h < 1 || w < 1) return lk_error(LK_EINPUT, "%s: no picture (name, kind, H, W)", r->id);
    *a = lk_proc_scene(salt, name, h, w, 3);
    bool made = true;
    if (sscanf(kind, "B=scene(name+'%31[^']')", tail) == 1) {
        snprintf(other, sizeof other, "%s%s", name, tail);
        *b = lk_proc_scene(salt, other, h, w, 3);
    } else made = lk_proc_pair(salt, name, kind, a, b);
    lk_err e = !made ? lk_error(LK_EINPUT, "%s: no distortion \"%s\"", r->id, kind)
             : crc_matches(r, "crc_a", a) && crc_matches(r, "crc_b", b) ? LK_OK : lk_error(LK_EINPUT, "%s: the pictures' bytes are not those the row names", r->id);
    if (e) { lk_image_free(a); lk_image_free(b); }
    return e;
}
static lk_err set_picture(lk_val in, const lk_image *im, double scale, double shift) {
    int64_t area = (int64_t)im->w * im->h;
    float *v = lk_xmalloc((size_t)(3 * area) * sizeof *v);
    for (int c = 0; c < 3; c++) for (int64_t i = 0; i < area; i++) v[c * area + i] = (float)(im->px[3 * i + c] / scale + shift);
    lk_err e = lk_exec_set(kept.x, in, v, 3 * area);
    free(v);
    return e;
}
/* Runs the kept network on the row's pair unless it just did. */
static lk_err run_pair(const lk_metric_row *r, double scale, double shift) {
    lk_image a, b;
    char pair[128];
    const char *name = json_string_value(lk_row_input(r, "name")), *kind = json_string_value(lk_row_input(r, "kind"));
    snprintf(pair, sizeof pair, "%s %s", name ? name : "", kind ? kind : "");
    if (!strcmp(pair, kept.pair)) return LK_OK;
    LK_TRY(pictures(r, &a, &b));
    lk_err e = set_picture(kept.a, &a, scale, shift);
    if (!e) e = set_picture(kept.b, &b, scale, shift);
    if (!e) e = lk_exec_run(kept.x);
    lk_image_free(&a);
    lk_image_free(&b);
    if (!e) snprintf(kept.pair, sizeof kept.pair, "%s", pair);
    return e;
}

/* ---- networks ---------------------------------------------------------------------------------------------------------------- */
static void start(const char *net, int h, int w, bool gradients) {
    forget();
    kept.g = lk_graph_new();
    snprintf(kept.net, sizeof kept.net, "%s", net);
    kept.h = h;
    kept.w = w;
    kept.gradients = gradients;
    kept.a = lk_input(kept.g, "a", LK_F32, LK_SHAPE(1, 3, h, w));
    kept.b = lk_input(kept.g, "b", LK_F32, LK_SHAPE(1, 3, h, w));
}
static lk_err finish(lk_metric_table *t, lk_trunk trunk, bool heads, const lk_val *out, int n) {
    lk_err e = lk_graph_error(kept.g);
    if (!e) e = lk_exec_new(kept.g, out, n, (lk_exec_opts){ .backend = t->run->backend, .pool = t->run->pool }, &kept.x);
    if (!e) e = fill(t, trunk, heads);
    if (e) forget();
    return e;
}
static lk_err lpips_network(const lk_metric_row *r, const char *net, lk_trunk trunk, bool gradients) {
    int h = side(r, "H"), w = side(r, "W"), n = 0, taps = lk_trunk_taps(trunk);
    if (kept.x && !strcmp(kept.net, net) && kept.h == h && kept.w == w && kept.gradients == gradients) return LK_OK;
    start(net, h, w, gradients);
    lk_net root = lk_net_root(kept.g);
    lk_val out[FORMS + LK_TRUNK_TAPS + 2];
    kept.form[LPIPS] = lk_lpips(&root, (lk_lpips_variant){ trunk, LK_UNIT_LPIPS, false }, kept.a, kept.b, kept.layer);
    if (gradients) {
        lk_vjp(kept.g, lk_sum_all(kept.g, kept.form[LPIPS]), LK_NONE, (lk_val[]){ kept.a, kept.b }, 2, kept.grad);
        memcpy(out, kept.grad, sizeof kept.grad);
        n = 2;
    } else {
        kept.form[TORCHMETRICS] = lk_lpips(&root, (lk_lpips_variant){ trunk, LK_UNIT_TORCHMETRICS, false }, kept.a, kept.b, NULL);
        kept.form[PLAIN] = lk_lpips(&root, (lk_lpips_variant){ trunk, LK_UNIT_LPIPS, true }, kept.a, kept.b, NULL);
        memcpy(out, kept.form, sizeof kept.form);
        memcpy(out + FORMS, kept.layer, (size_t)taps * sizeof *out);
        n = FORMS + taps;
    }
    return finish(r->table, trunk, true, out, n);
}
static lk_err perceptual_network(const lk_metric_row *r) {
    int h = side(r, "H"), w = side(r, "W");
    if (kept.x && !strcmp(kept.net, "taps") && kept.h == h && kept.w == w) return LK_OK;
    start("taps", h, w, true);
    lk_net root = lk_net_root(kept.g);
    lk_trunk_features(&root, LK_VGG16, lk_imagenet_normalise(kept.g, kept.a), kept.tap[0]);
    lk_trunk_features(&root, LK_VGG16, lk_imagenet_normalise(kept.g, kept.b), kept.tap[1]);
    for (int i = 0; i < TAPS; i++) {
        lk_val mse = lk_mse(kept.g, kept.tap[0][i], kept.tap[1][i]);
        kept.sum = i ? lk_add(kept.g, kept.sum, mse) : mse;
    }
    lk_vjp(kept.g, kept.sum, LK_NONE, &kept.a, 1, kept.grad);
    lk_val out[2 * TAPS + 2] = { kept.sum, kept.grad[0] };
    for (int s = 0; s < 2; s++) memcpy(out + 2 + s * TAPS, kept.tap[s], TAPS * sizeof *out);
    return finish(r->table, LK_VGG16, false, out, 2 * TAPS + 2);
}
static double number(lk_val v) {
    double x = NAN;
    lk_err_free(lk_exec_get_f64(kept.x, v, &x, 1));
    return x;
}
/* A stored array (whole, or every 7919th value) against what the network gives; where the peer divides 0 by 0, exactly 0 is asked. */
static void against(lk_metric_table *t, const char *name, lk_val v, lk_golden_tol tol) {
    const lk_tensor *stored = t->tensors.st ? lk_golden_get(&t->tensors, "%s", name) : NULL;
    int64_t n;
    double *got = lk_golden_read(kept.x, v, &n), *want = lk_golden_f64(stored);
    if (!got || !want || stored->numel > n) lk_golden_check(t->run, false, "%s is not stored, or larger than what the network gives", name);
    else {
        double *some = lk_xmalloc((size_t)stored->numel * sizeof *some);
        for (int64_t i = 0; i < stored->numel; i++) some[i] = got[stored->numel == n ? i : i * 7919 % n];
        for (int64_t i = 0; i < stored->numel; i++) if (isnan(want[i])) want[i] = some[i] == 0 ? 0 : NAN;
        lk_golden_tensor(t->run, name, some, want, stored->numel, tol);
        free(some);
    }
    free(got);
    free(want);
}

/* ---- LPIPS rows --------------------------------------------------------------------------------------------------------------- */
static bool net_of(const lk_metric_row *r, const char **net, lk_trunk *trunk) {
    const char *part = strchr(r->id, '/');
    for (size_t i = 0; part && i < sizeof nets / sizeof *nets; i++) {
        size_t n = strlen(nets[i].net);
        if (strncmp(part + 1, nets[i].net, n) || part[1 + n] != '/') continue;
        *net = nets[i].net;
        *trunk = nets[i].trunk;
        return true;
    }
    return false;
}
static void check_layers(const lk_metric_row *r, lk_trunk trunk) {
    const json_t *layers = json_object_get(r->json, "per_layer");
    if (!layers) return;
    bool ok = (int)json_array_size(layers) == lk_trunk_taps(trunk);
    double worst = 0;
    for (int i = 0; ok && i < lk_trunk_taps(trunk); i++) {
        double want = json_number_value(json_array_get(layers, (size_t)i)), error = fabs(number(kept.layer[i]) - want) / (1e-7 + 2e-5 * fabs(want));
        worst = !(error <= worst) ? error : worst;
    }
    lk_golden_check(r->table->run, ok && worst <= 1, "%-52s layers: error %.1e of what is allowed", r->id, worst);
}
static lk_err distance_rows(lk_metric_row *r, bool *mine) {
    int form = strstr(r->call, "lpips=False") ? PLAIN : strstr(r->call, "1e-8 inside the root") ? TORCHMETRICS : lk_starts(r->call, "LPIPS(net=") || lk_starts(r->call, "SampleSimilarityLPIPS") ? LPIPS : FORMS;
    const char *net;
    lk_trunk trunk;
    if (!(*mine = form < FORMS && net_of(r, &net, &trunk))) return LK_OK;
    LK_TRY(lpips_network(r, net, trunk, false));
    LK_TRY(run_pair(r, 127.5, -1));
    check_layers(r, trunk);
    r->n = 1;
    r->got[0] = number(kept.form[form]);
    return LK_OK;
}
static lk_err gradient_rows(lk_metric_row *r, bool *mine) {
    const char *net;
    lk_trunk trunk;
    if (!(*mine = lk_starts(r->call, "L2 norms of d/d in0") && net_of(r, &net, &trunk))) return LK_OK;
    LK_TRY(lpips_network(r, net, trunk, true));
    LK_TRY(run_pair(r, 127.5, -1));
    r->n = 2;
    for (int s = 0; s < 2; s++) {
        int64_t n;
        double *g = lk_golden_read(kept.x, kept.grad[s], &n), square = 0;
        for (int64_t i = 0; g && i < n; i++) square += g[i] * g[i];
        r->got[s] = g ? sqrt(square) : NAN;
        free(g);
        against(r->table, lk_fmt(r->table->memory, "%.*s/grad_in%d", (int)(r->last - 1 - r->id), r->id, s), kept.grad[s], GRADIENT_TOL);
    }
    return LK_OK;
}

/* ---- perceptual rows ------------------------------------------------------------------------------------------------------------ */
/* Frobenius norm of F F^T / (C H W), F the tap as a matrix [C][H W]. */
static double gram_norm(const double *f, int64_t channels, int64_t n) {
    int64_t area = n / channels;
    double square = 0;
    for (int64_t i = 0; i < channels; i++) for (int64_t j = 0; j <= i; j++) {
        double dot = 0;
        for (int64_t k = 0; k < area; k++) dot += f[i * area + k] * f[j * area + k];
        square += (i == j ? 1 : 2) * (dot / (double)n) * (dot / (double)n);
    }
    return sqrt(square);
}
static double statistic(const lk_metric_row *r, const double *a, const double *b, int64_t channels, int64_t n) {
    double square = 0, error = 0, absolute = 0;
    for (int64_t i = 0; i < n; i++) {
        square += a[i] * a[i];
        error += (a[i] - b[i]) * (a[i] - b[i]);
        absolute += fabs(a[i] - b[i]);
    }
    if (lk_starts(r->call, "mean((f_")) return error / (double)n;
    if (!strcmp(r->call, "mean abs")) return absolute / (double)n;
    if (lk_starts(r->call, "RMS of the tap")) return sqrt(square / (double)n);
    return lk_starts(r->call, "Frobenius norm of F F^T/(C H W)") ? gram_norm(a, channels, n) : NAN;
}
static lk_err tap_rows(lk_metric_row *r, bool *mine) {
    const char *part = strchr(r->id, '/');
    int i = 0;
    while (part && i < TAPS && !(lk_starts(part + 1, vgg_taps[i]) && part[1 + strlen(vgg_taps[i])] == '/')) i++;
    if (!(*mine = part && i < TAPS && strstr(r->peer, "vgg16.features"))) return LK_OK;
    LK_TRY(perceptual_network(r));
    LK_TRY(run_pair(r, 255, 0));
    int64_t n;
    double *a = lk_golden_read(kept.x, kept.tap[0][i], &n), *b = lk_golden_read(kept.x, kept.tap[1][i], &n);
    r->n = 1;
    r->got[0] = a && b ? statistic(r, a, b, lk_dim(kept.g, kept.tap[0][i], 1), n) : NAN;
    free(a);
    free(b);
    if (lk_starts(r->call, "RMS of the tap")) against(r->table, lk_fmt(r->table->memory, "vgg16/%s", vgg_taps[i]), kept.tap[0][i], VALUE_TOL);
    return LK_OK;
}
static lk_err sum_rows(lk_metric_row *r, bool *mine) {
    const char *stored = strstr(r->call, "vgg16/");
    if (!(*mine = lk_starts(r->call, "sum of the five MSEs; gradient wrt A") && stored)) return LK_OK;
    LK_TRY(perceptual_network(r));
    LK_TRY(run_pair(r, 255, 0));
    against(r->table, stored, kept.grad[0], GRADIENT_TOL);
    r->n = 1;
    r->got[0] = number(kept.sum);
    return LK_OK;
}
lk_err lk_golden_lpips(lk_golden *g, const char *path, const char *dir, json_t *root) {
    static const lk_metric_rule rules[] = { distance_rows, gradient_rows, tap_rows, sum_rows, NULL };
    lk_metric_table t;
    LK_TRY(lk_metric_table_open(g, path, dir, root, &t));
    lk_metric_rows(&t, root, rules);
    forget();
    lk_metric_table_close(&t);
    return LK_OK;
}

/* ---- unit vectors alone ----------------------------------------------------------------------------------------------------------- */
/* Outputs, and gradients of sum over channels c of (c + 1) out_c^2, for both ways. */
lk_err lk_golden_unit_channels(lk_golden *run, const char *path, const char *dir, json_t *json) {
    static const struct { const char *name; lk_unit unit; } ways[] = { { "lpips", LK_UNIT_LPIPS }, { "torchmetrics", LK_UNIT_TORCHMETRICS } };
    lk_metric_table t = { .run = run, .dir = dir, .memory = lk_arena_new() };
    lk_err e = lk_golden_open(run, path, &t.tensors);
    const lk_tensor *x = e ? NULL : lk_golden_get(&t.tensors, "x");
    double *values = lk_golden_f64(x);
    (void)json;
    if (!e && (!x || x->rank != 4 || x->d[1] > 64)) e = lk_error(LK_EINPUT, "%s: x [N, C, H, W] with C <= 64 is missing", path);
    for (int i = 0; i < 2 && !e; i++) {
        start("unit", 1, 1, true);
        lk_val in = lk_input(kept.g, "x", LK_F32, LK_SHAPE(x->d[0], x->d[1], x->d[2], x->d[3])), y = lk_unit_channels(kept.g, in, ways[i].unit), grad;
        float weight[64];
        for (int c = 0; c < x->d[1]; c++) weight[c] = (float)(c + 1);
        lk_val w = lk_const(kept.g, LK_F32, LK_SHAPE(1, x->d[1], 1, 1), weight);
        lk_vjp(kept.g, lk_sum_all(kept.g, lk_mul(kept.g, w, lk_square(kept.g, y))), LK_NONE, &in, 1, &grad);
        e = lk_graph_error(kept.g);
        if (!e) e = lk_exec_new(kept.g, (lk_val[]){ y, grad }, 2, (lk_exec_opts){ .backend = run->backend, .pool = run->pool }, &kept.x);
        if (!e) e = lk_exec_set_f64(kept.x, in, values, x->numel);
        if (!e) e = lk_exec_run(kept.x);
        if (e) break;
        against(&t, ways[i].name, y, VALUE_TOL);
        against(&t, lk_fmt(t.memory, "grad_%s", ways[i].name), grad, GRADIENT_TOL);
    }
    forget();
    free(values);
    lk_metric_table_close(&t);
    return e;
}
