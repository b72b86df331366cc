/* inception_params.json (names, shapes, procedural weights) and inception.json: features of the meta block's pictures by every way
 * of preparing them, checkpoints after each module, and FID and KID of two procedural sets end to end. */
#include "cli/golden/metrics_table.h"
#include "metrics/metrics.h"
#include "metrics/fid_input.h"
#include "models/inception.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FEATURE_TOL ((lk_golden_tol){ INFINITY, 1e-5 })
#define LOGIT_TOL ((lk_golden_tol){ INFINITY, 2e-5 })
enum { AREA3 = 3 * LK_INCEPTION_SIDE * LK_INCEPTION_SIDE, LAYERS = 6, SET = 64 };
static const char *const layer_names[LAYERS] = { "64", "192", "768", "2048", "logits_unbiased", "logits" };
typedef struct {
    lk_graph *g;
    lk_exec *x;
    lk_val in, layer[LAYERS];
    lk_inception_out o;
    double *set[2][4]; int n[2];                       /* end to end: features [n][d] of the sets a, b by layer */
} network;
static network kept;                                   /* of the table that runs; freed at its end */

static void build(void) {
    kept = (network){ .g = lk_graph_new() };
    lk_net root = lk_net_root(kept.g);
    kept.in = lk_input(kept.g, "x", LK_F32, LK_SHAPE(1, 3, LK_INCEPTION_SIDE, LK_INCEPTION_SIDE));
    kept.o = lk_inception(&root, kept.in);
    memcpy(kept.layer, (lk_val[]){ kept.o.features64, kept.o.features192, kept.o.features768, kept.o.features2048, kept.o.logits_unbiased, kept.o.logits }, sizeof kept.layer);
}
static void forget(void) {
    for (int s = 0; s < 2; s++) for (int i = 0; i < 4; i++) free(kept.set[s][i]);
    lk_exec_free(kept.x);
    lk_graph_free(kept.g);
    kept = (network){ 0 };
}
lk_err lk_golden_inception_params(lk_golden *run, const char *path, const char *dir, json_t *root) {
    lk_proc_recipe r;
    (void)path;
    (void)dir;
    LK_TRY(lk_proc_recipe_read(root, &r));
    build();
    lk_err e = lk_graph_error(kept.g);
    if (!e) lk_proc_check(run, &r, json_object_get(root, "tensors"), kept.g);
    forget();
    return e;
}
static lk_err ready(lk_metric_table *t) {
    lk_proc_recipe r;
    lk_val out[LAYERS + LK_INCEPTION_STAGES];
    LK_TRY(lk_proc_recipe_read(json_object_get(t->root, "meta"), &r));
    build();
    LK_TRY(lk_graph_error(kept.g));
    memcpy(out, kept.layer, sizeof kept.layer);
    memcpy(out + LAYERS, kept.o.stage, sizeof kept.o.stage);
    LK_TRY(lk_exec_new(kept.g, out, LAYERS + LK_INCEPTION_STAGES, (lk_exec_opts){ .backend = t->run->backend, .pool = t->run->pool }, &kept.x));
    return lk_proc_weights(&r, kept.x);
}
static lk_err run_picture(lk_fid_way way, const lk_image *im, float *in) {
    LK_TRY(lk_fid_preprocess(way, im, in));
    LK_TRY(lk_exec_set(kept.x, kept.in, in, AREA3));
    return lk_exec_run(kept.x);
}

/* ---- features and checkpoints ---------------------------------------------------------------------------------------------------- */
static void check_layer(lk_metric_table *t, lk_fid_way way, int layer, int picture) {
    const lk_tensor *stored = lk_golden_get(&t->tensors, "%s/%s", lk_fid_way_name(way), layer_names[layer]);
    if (!stored) return;
    int64_t n;
    double *got = lk_golden_read(kept.x, kept.layer[layer], &n), *want = lk_golden_f64(stored);
    if (!got || !want || stored->rank != 2 || stored->d[1] != n || picture >= stored->d[0]) lk_golden_check(t->run, false, "%s: not the shape of the features", stored->name);
    else lk_golden_tensor(t->run, lk_fmt(t->memory, "%s picture %d", stored->name, picture), got, want + picture * n, n, layer < 4 ? FEATURE_TOL : LOGIT_TOL);
    free(got);
    free(want);
}
/* 32 samples, the mean, the RMS. */
static void check_stages(lk_metric_table *t, const float *in) {
    for (int i = 0; i < LK_INCEPTION_STAGES; i++) {
        const lk_tensor *stored = lk_golden_get(&t->tensors, "ckpt/%s", lk_inception_stage_name(i));
        int64_t n;
        double *v = lk_golden_read(kept.x, kept.o.stage[i], &n), *want = lk_golden_f64(stored), got[34], sum = 0, square = 0;
        for (int64_t k = 0; v && k < n; k++) { sum += v[k]; square += v[k] * v[k]; }
        for (int64_t k = 0; v && k < 32; k++) got[k] = v[k * 7919 % n];
        got[32] = sum / (double)n;
        got[33] = sqrt(square / (double)n);
        if (!v || !want || stored->numel != 34) lk_golden_check(t->run, false, "ckpt/%s is not stored as 34 values", lk_inception_stage_name(i));
        else lk_golden_tensor(t->run, stored->name, got, want, 34, FEATURE_TOL);
        free(v);
        free(want);
    }
    const lk_tensor *stored = lk_golden_get(&t->tensors, "ckpt/input_tf1");
    double *want = lk_golden_f64(stored), got[32];
    for (int64_t k = 0; k < 32; k++) got[k] = in[k * 7919 % AREA3];
    if (want && stored->numel == 32) lk_golden_tensor(t->run, stored->name, got, want, 32, (lk_golden_tol){ 1e-6, 1e-6 });
    free(want);
}
static lk_err check_pictures(lk_metric_table *t, float *in) {
    size_t k;
    json_t *p;
    json_array_foreach(json_object_get(json_object_get(t->root, "meta"), "images"), k, p) {
        const char *name = json_string_value(json_object_get(p, "name")), *crc = json_string_value(json_object_get(p, "crc"));
        lk_image im = lk_proc_scene(t->salt, name ? name : "", (int)json_integer_value(json_object_get(p, "H")), (int)json_integer_value(json_object_get(p, "W")), 3);
        bool same = crc && strtoul(crc, NULL, 16) == lk_proc_crc32(im.px, (size_t)im.w * (size_t)im.h * 3);
        lk_golden_check(t->run, same, "picture %s: %s", name ? name : "?", same ? "same bits" : "other bits");
        lk_err e = LK_OK;
        for (int way = 0; way < LK_FID_WAYS && !e; way++) {
            if ((e = run_picture((lk_fid_way)way, &im, in))) break;
            for (int i = 0; i < LAYERS; i++) check_layer(t, (lk_fid_way)way, i, (int)k);
            if (k == 0 && way == LK_FID_TORCH_FIDELITY) check_stages(t, in);
        }
        lk_image_free(&im);
        LK_TRY(e);
    }
    return LK_OK;
}

/* ---- end to end ------------------------------------------------------------------------------------------------------------------- */
/* A set is ["e2e/a{i}", n] or ["e2e/b{i} then blur5", n]; its side stands in the row's call. */
static lk_err make_set(lk_metric_table *t, int s, const json_t *set, int side) {
    const char *text = json_string_value(json_array_get(set, 0)), *hole = text ? strstr(text, "{i}") : NULL;
    int n = (int)json_integer_value(json_array_get(set, 1));
    bool blurred = hole && !strcmp(hole, "{i} then blur5");
    if (!hole || n < 1 || n > SET || (!blurred && hole[3])) return lk_error(LK_EINPUT, "set \"%s\" of %d", text ? text : "?", n);
    float *in = lk_xmalloc(AREA3 * sizeof *in);
    lk_err e = LK_OK;
    kept.n[s] = n;
    for (int l = 0; l < 4; l++) kept.set[s][l] = lk_xmalloc((size_t)(n * lk_dim(kept.g, kept.layer[l], 1)) * sizeof(double));
    for (int i = 0; i < n && !e; i++) {
        char *name = lk_fmt(t->memory, "%.*s%d", (int)(hole - text), text, i);
        lk_image im = lk_proc_scene(t->salt, name, side, side, 3), b;
        lk_proc_pair(t->salt, name, "blurred", &im, &b);
        e = run_picture(LK_FID_TORCH_FIDELITY, blurred ? &b : &im, in);
        for (int l = 0; l < 4 && !e; l++) {
            int64_t d = lk_dim(kept.g, kept.layer[l], 1);
            e = lk_exec_get_f64(kept.x, kept.layer[l], kept.set[s][l] + i * d, d);
        }
        lk_image_free(&im);
        lk_image_free(&b);
    }
    free(in);
    return e;
}
static lk_err make_sets(lk_metric_table *t) {
    size_t k;
    json_t *row;
    json_array_foreach(json_object_get(t->root, "rows"), k, row) {
        const json_t *in = json_object_get(row, "inputs");
        const char *call = json_string_value(json_object_get(row, "call")), *size = call ? strstr(call, "blurred), ") : NULL;
        int side = 0;
        if (!json_is_object(in) || !size || sscanf(size, "blurred), %dx", &side) != 1 || !strstr(call, "torch-fidelity chain")) continue;
        LK_TRY(make_set(t, 0, json_object_get(in, "a"), side));
        return make_set(t, 1, json_object_get(in, "b"), side);
    }
    return lk_error(LK_EINPUT, "no row describes the two sets");
}
static lk_err set_rows(lk_metric_row *r, bool *mine) {
    bool fid = lk_starts(r->call, "FID of sets a"), kid = !strcmp(r->call, "full U-statistic") && lk_starts(r->peer, "torch-fidelity");
    int l = 0;
    while (l < 4 && strcmp(r->last, layer_names[l])) l++;
    if (!(*mine = (fid || kid) && l < 4)) return LK_OK;
    if (!kept.set[0][0]) LK_TRY(make_sets(r->table));
    int64_t d = lk_dim(kept.g, kept.layer[l], 1);
    lk_frechet f;
    lk_mmd m;
    r->n = 1;
    if (fid) LK_TRY(lk_frechet_features(kept.set[0][l], kept.n[0], kept.set[1][l], kept.n[1], d, 0, &f));
    else LK_TRY(lk_kid_full(kept.set[0][l], kept.n[0], kept.set[1][l], kept.n[1], d, r->table->run->pool, &m));
    r->got[0] = fid ? f.value : m.value;
    return LK_OK;
}
lk_err lk_golden_inception(lk_golden *g, const char *path, const char *dir, json_t *root) {
    static const lk_metric_rule rules[] = { set_rows, NULL };
    lk_metric_table t;
    LK_TRY(lk_metric_table_open(g, path, dir, root, &t));
    float *in = lk_xmalloc(AREA3 * sizeof *in);
    lk_err e = t.tensors.st ? ready(&t) : lk_error(LK_EINPUT, "%s: no .safetensors beside it", path);
    if (!e) e = check_pictures(&t, in);
    if (!e) lk_metric_rows(&t, json_object_get(root, "rows"), rules);
    free(in);
    forget();
    lk_metric_table_close(&t);
    return e;
}
