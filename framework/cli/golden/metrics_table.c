/* The loop over a metric table's rows: find the rule, compute, compare with the row's own tolerance, count. */
#include "cli/golden/metrics_table.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

double lk_json_number(const json_t *v) {
    const char *s = json_string_value(v);
    if (json_is_true(v) || json_is_false(v)) return json_is_true(v);
    if (!s) return json_is_number(v) ? json_number_value(v) : NAN;
    return !strcmp(s, "inf") ? INFINITY : !strcmp(s, "-inf") ? -INFINITY : NAN;
}
/* The salt stands in images.json beside the table, or in the table itself. */
static void find_salt(lk_metric_table *t) {
    const char *salt = json_string_value(json_object_get(t->root, "salt"));
    json_t *images = NULL;
    char *path = lk_golden_path(t->memory, t->dir, "images.json");
    if (!salt && !access(path, R_OK)) {
        lk_err_free(lk_json_load(path, &images));
        salt = json_string_value(json_object_get(images, "salt"));
    }
    snprintf(t->salt, sizeof t->salt, "%s", salt ? salt : "");
    json_decref(images);
}
lk_err lk_metric_table_open(lk_golden *g, const char *path, const char *dir, const json_t *root, lk_metric_table *t) {
    *t = (lk_metric_table){ .run = g, .dir = dir, .path = path, .root = root, .memory = lk_arena_new() };
    find_salt(t);
    char *tensors = lk_fmt(t->memory, "%.*s.safetensors", (int)(strlen(path) - strlen(".json")), path);
    lk_err e = access(tensors, R_OK) ? LK_OK : lk_golden_open(g, tensors, &t->tensors);
    if (e) lk_arena_free(t->memory);
    return e;
}
void lk_metric_table_close(lk_metric_table *t) {
    lk_golden_close(t->run, &t->tensors);
    for (int i = 0; i < 2; i++) lk_image_free(t->pair + i);
    lk_arena_free(t->memory);
}

/* ---- rows ---------------------------------------------------------------------------------------------------------------- */
const char *lk_row_text(const lk_metric_row *r, const char *key) {
    const char *s = json_string_value(json_object_get(r->json, key));
    return s ? s : "";
}
const json_t *lk_row_input(const lk_metric_row *r, const char *key) { return json_object_get(json_object_get(r->json, "inputs"), key); }
static bool is_target(const json_t *row) {
    const char *note = json_string_value(json_object_get(row, "note"));
    const json_t *a = json_object_get(row, "tol_abs"), *b = json_object_get(row, "tol_rel");
    return (json_is_number(a) || json_is_number(b)) && !(note && strstr(note, "informative")) && !json_object_get(row, "error");
}
static void compare(lk_golden *g, const lk_metric_row *r) {
    const json_t *value = json_object_get(r->json, "value");
    double ta = json_number_value(json_object_get(r->json, "tol_abs")), tr = json_number_value(json_object_get(r->json, "tol_rel")), worst = 0;
    int n = json_is_array(value) ? (int)json_array_size(value) : 1, at = 0;
    bool ok = n == r->n;
    for (int i = 0; i < n && i < r->n; i++) {
        double want = lk_json_number(json_is_array(value) ? json_array_get(value, (size_t)i) : value), got = r->got[i];
        double error = isnan(want) || isinf(want) ? ((isnan(want) && isnan(got)) || want == got ? 0 : INFINITY) : fabs(got - want) - tr * fabs(want) - ta;
        if (isnan(error)) error = INFINITY;
        if (i == 0 || error > worst) { worst = error; at = i; }
    }
    ok = ok && n > 0 && worst <= 0;
    double want = lk_json_number(json_is_array(value) ? json_array_get(value, (size_t)at) : value);
    if (n != r->n) lk_golden_check(g, false, "%-52s %d values, want %d", r->id, r->n, n);
    else lk_golden_check(g, ok, "%-52s %.12g, want %.12g  error %.1e (tol %.1e)", r->id, r->got[at], want, fabs(r->got[at] - want), ta + tr * fabs(want));
}
void lk_metric_rows(lk_metric_table *t, const json_t *rows, const lk_metric_rule *rules) {
    size_t k;
    json_t *j;
    json_array_foreach((json_t *)rows, k, j) {
        lk_metric_row *r = lk_xcalloc(1, sizeof *r);
        r->table = t;
        r->json = j;
        r->id = lk_row_text(r, "id");
        r->call = lk_row_text(r, "call");
        r->peer = lk_row_text(r, "peer");
        r->last = strrchr(r->id, '/') ? strrchr(r->id, '/') + 1 : r->id;
        bool mine = false;
        lk_err e = LK_OK;
        for (int i = 0; is_target(j) && rules[i] && !mine && !e; i++) {
            mine = true;
            e = rules[i](r, &mine);
        }
        if (e) lk_golden_failed(t->run, r->id, e);
        else if (mine) compare(t->run, r);
        else if (is_target(j)) lk_golden_check(t->run, false, "%s: no rule for \"%s\" of %s", r->id, r->call, r->peer);
        free(r);
    }
}

/* ---- inputs ------------------------------------------------------------------------------------------------------------------- */
lk_err lk_row_named(lk_metric_row *r, const char *name, double **x, int64_t *n, int64_t *d) {
    const lk_tensor *t = r->table->tensors.st ? lk_golden_get(&r->table->tensors, "%s", name) : NULL;
    if (!t || t->rank < 1) return lk_error(LK_EINPUT, "tensor %s is not in the table's file", name);
    *n = t->d[0];
    *d = t->numel / (t->d[0] ? t->d[0] : 1);
    *x = lk_golden_f64(t);
    return *x ? LK_OK : lk_error(LK_EINPUT, "tensor %s cannot be read as numbers", name);
}
/* "same as X", "X + 0.5": made from another input's formula. */
static lk_err derived(lk_metric_row *r, const char *text, const json_t *formulas, double **x, int64_t *n, int64_t *d) {
    char from[32] = "";
    double plus = 0;
    if (sscanf(text, "same as %31s", from) != 1 && sscanf(text, "%31s + %lf", from, &plus) != 2) return lk_error(LK_EINPUT, "formula \"%s\"", text);
    const json_t *f = json_object_get(formulas, from);
    if (!json_is_array(f)) return lk_error(LK_EINPUT, "formula \"%s\": %s has none", text, from);
    *n = json_integer_value(json_array_get(f, 1));
    *d = json_integer_value(json_array_get(f, 2));
    *x = lk_proc_features(r->table->salt, json_string_value(json_array_get(f, 0)), *n, *d, json_number_value(json_array_get(f, 3)));
    for (int64_t i = 0; i < *n * *d; i++) (*x)[i] += plus;
    return LK_OK;
}
static lk_err from_formula(lk_metric_row *r, const char *key, double **x, int64_t *n, int64_t *d) {
    const json_t *formulas = lk_row_input(r, "formula"), *f = json_object_get(formulas, key);
    if (json_is_string(f)) return derived(r, json_string_value(f), formulas, x, n, d);
    if (!json_is_array(f) || json_array_size(f) < 4 || !json_is_string(json_array_get(f, 0)))
        return lk_error(LK_EINPUT, "input %s: neither a stored tensor nor a formula [name, n, d, shift]", key);
    *n = json_integer_value(json_array_get(f, 1));
    *d = json_integer_value(json_array_get(f, 2));
    *x = lk_proc_features(r->table->salt, json_string_value(json_array_get(f, 0)), *n, *d, json_number_value(json_array_get(f, 3)));
    return LK_OK;
}
/* "column 3 := column 2 in both" */
static lk_err patched(lk_metric_row *r, double *x, int64_t n, int64_t d) {
    const char *text = json_string_value(lk_row_input(r, "patch"));
    if (!text) text = lk_row_text(r, "patch");
    int to, from;
    if (!*text) return LK_OK;
    if (sscanf(text, "column %d := column %d in both", &to, &from) != 2 || to < 0 || from < 0 || to >= d || from >= d) return lk_error(LK_EINPUT, "patch \"%s\"", text);
    for (int64_t i = 0; i < n; i++) x[i * d + to] = x[i * d + from];
    return LK_OK;
}
lk_err lk_row_array(lk_metric_row *r, const char *key, double **x, int64_t *n, int64_t *d) {
    const char *name = json_string_value(lk_row_input(r, key));
    if (name && r->table->tensors.st && lk_golden_get(&r->table->tensors, "%s", name)) return lk_row_named(r, name, x, n, d);
    LK_TRY(from_formula(r, key, x, n, d));
    return patched(r, *x, *n, *d);
}
