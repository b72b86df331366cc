/* frechet.json, kid_cmmd.json, prdc_vendi_is.json, diversity.json: distances and scores of feature sets. */
#include "cli/golden/metrics_table.h"
#include "metrics/metrics.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool says(const lk_metric_row *r, const char *part) { return strstr(r->call, part) != NULL; }
static lk_err one(lk_metric_row *r, double v) {
    r->n = 1;
    r->got[0] = v;
    return LK_OK;
}
typedef struct { double *x, *y; int64_t n, m, d, d2; } two_sets;
static void two_free(two_sets *s) { free(s->x); free(s->y); }
static lk_err two(lk_metric_row *r, const char *a, const char *b, two_sets *s) {
    *s = (two_sets){ 0 };
    lk_err e = lk_row_array(r, a, &s->x, &s->n, &s->d);
    if (!e) e = lk_row_array(r, b, &s->y, &s->m, &s->d2);
    if (!e && s->d != s->d2) e = lk_error(LK_EINPUT, "sets of %lld and %lld features", (long long)s->d, (long long)s->d2);
    if (e) two_free(s);
    return e;
}

/* ---- Frechet ------------------------------------------------------------------------------------------------------------------ */
static lk_err given_moments(lk_metric_row *r, lk_frechet *f) {
    static const char *keys[] = { "mu1", "S1", "mu2", "S2" };
    double *a[4] = { 0 };
    int64_t n = 0, d = 0;
    lk_err e = LK_OK;
    for (int i = 0; i < 4 && !e; i++) e = lk_row_array(r, keys[i], a + i, &n, &d);
    if (!e) e = lk_frechet_moments(a[0], a[1], a[2], a[3], n, f);
    for (int i = 0; i < 4; i++) free(a[i]);
    return e;
}
/* "mu 0 vs 1, S = I, d=2048" */
static lk_err described_moments(const char *text, lk_frechet *f) {
    double m1, m2;
    long long d;
    if (sscanf(text, "mu %lf vs %lf, S = I, d=%lld", &m1, &m2, &d) != 3 || d < 1 || d > 1 << 14) return lk_error(LK_EINPUT, "moments described as \"%s\"", text);
    double *mean = lk_xmalloc((size_t)(2 * d + d * d) * sizeof *mean), *other = mean + d, *cov = other + d;
    for (int64_t i = 0; i < d; i++) { mean[i] = m1; other[i] = m2; }
    for (int64_t i = 0; i < d * d; i++) cov[i] = i % (d + 1) == 0;
    lk_err e = lk_frechet_moments(mean, cov, other, cov, d, f);
    free(mean);
    return e;
}
static lk_err frechet_rows(lk_metric_row *r, bool *mine) {
    lk_frechet f;
    two_sets s;
    (void)mine;
    const char *closed = lk_row_text(r, "inputs");
    if (!*closed && lk_starts(r->call, "mu ")) {   /* "mu 0 vs 1, S1=S2=I, d=2048" */
        double a, b;
        long long d;
        char text[80];
        if (sscanf(r->call, "mu %lf vs %lf, S1=S2=I, d=%lld", &a, &b, &d) != 3) return lk_error(LK_EINPUT, "moments described as \"%s\"", r->call);
        snprintf(text, sizeof text, "mu %g vs %g, S = I, d=%lld", a, b, d);
        LK_TRY(described_moments(text, &f));
    } else if (*closed) LK_TRY(described_moments(closed, &f));
    else if (lk_row_input(r, "mu1")) LK_TRY(given_moments(r, &f));
    else {
        LK_TRY(two(r, "X", "Y", &s));
        lk_err e = lk_frechet_features(s.x, s.n, s.y, s.m, s.d, 0, &f);
        two_free(&s);
        LK_TRY(e);
    }
    return one(r, f.value);
}
lk_err lk_golden_frechet(lk_golden *g, const char *path, const char *dir, json_t *root) {
    static const lk_metric_rule rules[] = { frechet_rows, NULL };
    lk_metric_table t;
    LK_TRY(lk_metric_table_open(g, path, dir, root, &t));
    if (t.tensors.st) lk_golden_know(&t.tensors, "");                /* every stored array belongs to some row; rows read what they name */
    lk_metric_rows(&t, root, rules);
    lk_metric_table_close(&t);
    return LK_OK;
}

/* ---- kernel distances ----------------------------------------------------------------------------------------------------------- */
static lk_err subset_value(lk_metric_row *r, const two_sets *s) {
    const lk_tensor *a = lk_golden_get(&r->table->tensors, "%s", json_string_value(lk_row_input(r, "idxX")));
    const lk_tensor *b = lk_golden_get(&r->table->tensors, "%s", json_string_value(lk_row_input(r, "idxY")));
    if (!a || !b || a->rank != 2 || a->numel != b->numel) return lk_error(LK_EINPUT, "the row's subset indices are not stored");
    int64_t *ia = lk_golden_i64(a), *ib = lk_golden_i64(b), which = -1;
    double *values = lk_xmalloc((size_t)a->d[0] * sizeof *values), mean, sd;
    lk_err e = lk_kid_subsets(s->x, s->n, s->y, s->m, s->d, ia, ib, a->d[0], a->d[1], r->table->run->pool, values, &mean, &sd);
    sscanf(r->last, "subset%ld", &which);
    if (!e && which >= a->d[0]) e = lk_error(LK_EINPUT, "subset %ld of %lld", (long)which, (long long)a->d[0]);
    if (!e) e = one(r, says(r, "poly_mmd") && which >= 0 ? values[which] : says(r, "ddof 0") ? sd : mean);
    free(ia);
    free(ib);
    free(values);
    return e;
}
static lk_err kid_rows(lk_metric_row *r, bool *mine) {
    two_sets s;
    lk_mmd v = { 0, 0 };
    lk_pool *pool = r->table->run->pool;
    lk_err e;
    if (!(*mine = lk_row_input(r, "X") || json_object_get(lk_row_input(r, "formula"), "X"))) return LK_OK;
    LK_TRY(two(r, "X", "Y", &s));
    int64_t n = s.n < s.m ? s.n : s.m, asked;
    const char *first = strstr(r->call, "X[:");
    if (first && sscanf(first, "X[:%ld", &asked) == 1 && asked <= n) n = asked;
    if (!first && (first = strstr(r->call, "first ")) && sscanf(first, "first %ld", &asked) == 1 && asked <= n) n = asked;
    if (says(r, "full U-statistic") || says(r, "all samples, N1")) {
        e = lk_kid_full(s.x, s.n, s.y, s.m, s.d, pool, &v);
        if (!e) e = one(r, v.value);
    } else if (says(r, "ret_var") || says(r, "U-statistic variance")) {
        e = lk_kid_sutherland(s.x, s.y, n, s.d, pool, &v);
        if (!e) e = one(r, says(r, "variance") ? v.variance : v.value);
    } else if (says(r, "u-statistic")) {
        e = lk_kid_no_diagonal(s.x, s.y, n, s.d, pool, &v.value);
        if (!e) e = one(r, v.value);
    } else if (lk_row_input(r, "idxX")) e = subset_value(r, &s);
    else { *mine = false; e = LK_OK; }
    two_free(&s);
    return e;
}
static lk_err cmmd_rows(lk_metric_row *r, bool *mine) {
    two_sets s;
    double v;
    if (!(*mine = lk_row_input(r, "x") != NULL)) return LK_OK;
    LK_TRY(two(r, "x", "y", &s));
    lk_err e = lk_cmmd(s.x, s.n, s.y, s.m, s.d, r->table->run->pool, &v);
    two_free(&s);
    return e ? e : one(r, v);
}
lk_err lk_golden_kid(lk_golden *g, const char *path, const char *dir, json_t *root) {
    static const lk_metric_rule rules[] = { kid_rows, cmmd_rows, NULL };
    lk_metric_table t;
    LK_TRY(lk_metric_table_open(g, path, dir, root, &t));
    if (t.tensors.st) lk_golden_get(&t.tensors, "kid/subset_values");                  /* the values of the first stored subsets, which the rows repeat */
    lk_metric_rows(&t, root, rules);
    lk_metric_table_close(&t);
    return LK_OK;
}

/* ---- manifolds, Vendi, Inception Score ---------------------------------------------------------------------------------------------- */
static lk_err prdc_rows(lk_metric_row *r, bool *mine) {
    two_sets s;
    lk_prdc p;
    int k = 0;
    const char *at;
    if (!(*mine = lk_row_input(r, "real") != NULL)) return LK_OK;
    if ((at = strstr(r->call, "nearest_k="))) sscanf(at, "nearest_k=%d", &k);
    else if ((at = strstr(r->call, "prc_neighborhood="))) sscanf(at, "prc_neighborhood=%d", &k);
    else if ((at = strstr(r->id, "/k"))) sscanf(at, "/k%d", &k);
    bool strict = says(r, "nearest_k=") || (!says(r, "<=") && strstr(r->id, "/strict"));
    LK_TRY(two(r, "real", "fake", &s));
    lk_err e = lk_prdc_of(s.x, s.n, s.y, s.m, s.d, k, strict, r->table->run->pool, &p);
    two_free(&s);
    LK_TRY(e);
    if (!strcmp(r->last, "counts")) {
        r->n = 4;
        double c[4] = { (double)p.fake_in_real, (double)p.real_in_fake, (double)p.pairs, (double)p.real_with_fake };
        memcpy(r->got, c, sizeof c);
        return LK_OK;
    }
    static const char *names[] = { "precision", "recall", "density", "coverage", "f_score" };
    double v[] = { p.precision, p.recall, p.density, p.coverage, p.f_score };
    for (int i = 0; i < 5; i++) if (!strcmp(r->last, names[i])) return one(r, v[i]);
    *mine = false;
    return LK_OK;
}
static double order_of(const char *last) {
    const char *q = strrchr(last, 'q');
    return q && lk_starts(q, "qinf") ? INFINITY : q ? atof(q + 1) : 1;
}
static lk_err vendi_rows(lk_metric_row *r, bool *mine) {
    const char *name = lk_row_text(r, "inputs");
    if (!(*mine = strstr(r->id, "vendi") != NULL)) return LK_OK;
    if (!strcmp(r->peer, "closed form") && !*name) {       /* the kernel's name stands between the first and last component */
        const char *a = strchr(r->id, '/');
        name = lk_fmt(r->table->memory, "vendi/K/%.*s", (int)(r->last - a - 2), a + 1);
    }
    double *x, *p = NULL, v;
    int64_t n, d, np = 0, one_column;
    LK_TRY(lk_row_named(r, name, &x, &n, &d));
    double q = order_of(r->last);
    bool kernel = strstr(name, "/K/") != NULL;
    lk_err e = LK_OK;
    if (strstr(r->last, "weighted")) e = lk_row_named(r, "vendi/p", &p, &np, &one_column);
    if (!e && strstr(r->call, "intdiv")) {                 /* one minus the mean similarity */
        double s = 0;
        for (int64_t i = 0; i < n; i++) for (int64_t j = 0; j < n; j++) {
            double dot = 0, a = 0, b = 0;
            for (int64_t k = 0; k < d; k++) { dot += x[i * d + k] * x[j * d + k]; a += x[i * d + k] * x[i * d + k]; b += x[j * d + k] * x[j * d + k]; }
            s += kernel ? 0 : dot / sqrt(a * b);
        }
        for (int64_t i = 0; kernel && i < n * n; i++) s += x[i];
        v = 1 - s / ((double)n * (double)n);
    } else if (!e) {
        if (says(r, "score_X") && strstr(lk_row_text(r, "note"), "honoured")) q = 1;      /* score_X ignores q */
        e = kernel ? lk_vendi(x, n, p, q, &v) : lk_vendi_cosine(x, n, d, q, &v);
    }
    free(x);
    free(p);
    return e ? e : one(r, v);
}
static lk_err inception_score_rows(lk_metric_row *r, bool *mine) {
    const json_t *logits = lk_row_input(r, "logits"), *perm = lk_row_input(r, "perm");
    int splits = 0;
    const char *at = strstr(r->call, "splits=");
    if (!(*mine = logits != NULL)) return LK_OK;
    if (at) sscanf(at, "splits=%d", &splits);
    else if ((at = strstr(r->id, "_s"))) sscanf(at, "_s%d", &splits);
    double *x, mean, sd;
    int64_t n, c, *order = NULL;
    LK_TRY(lk_row_named(r, json_string_value(logits), &x, &n, &c));
    if (perm) order = lk_golden_i64(lk_golden_get(&r->table->tensors, "%s", json_string_value(perm)));
    lk_err e = lk_inception_score(x, n, c, splits, !strcmp(r->peer, "torchmetrics"), order, &mean, &sd);
    free(x);
    free(order);
    return e ? e : one(r, !strcmp(r->last, "std") ? sd : mean);
}
lk_err lk_golden_manifold(lk_golden *g, const char *path, const char *dir, json_t *root) {
    static const lk_metric_rule rules[] = { prdc_rows, inception_score_rows, vendi_rows, NULL };
    lk_metric_table t;
    LK_TRY(lk_metric_table_open(g, path, dir, root, &t));
    lk_metric_rows(&t, root, rules);
    lk_metric_table_close(&t);
    return LK_OK;
}

/* ---- diversity ---------------------------------------------------------------------------------------------------------------------- */
static lk_err diversity_rows(lk_metric_row *r, bool *mine) {
    const lk_tensor *t = r->table->tensors.st ? lk_golden_get(&r->table->tensors, "%s", lk_row_text(r, "inputs")) : NULL;
    if (!t || t->rank != 4 || t->dtype != LK_ST_U8) return lk_error(LK_EINPUT, "stack %s is not stored as [n][h][w][c] bytes", lk_row_text(r, "inputs"));
    lk_image im[64];
    int n = (int)t->d[0];
    if (n > 64) return lk_error(LK_EINPUT, "a stack of %d", n);
    for (int i = 0; i < n; i++) im[i] = (lk_image){ (int)t->d[2], (int)t->d[1], (int)t->d[3], (uint8_t *)t->data + (size_t)i * (size_t)(t->numel / n) };
    lk_diversity d;
    LK_TRY(lk_diversity_images(im, n, &d));
    static const char *names[] = { "mean_pairwise_l1", "min_pairwise_l1", "median_pairwise_l1", "mean_pairwise_rms", "effective_rank", "participation_ratio",
                                   "legacy_collapsed", "vendi_cosine" };
    double v[] = { d.mean_l1, d.min_l1, d.median_l1, d.mean_rms, d.effective_rank, d.participation, d.legacy_collapsed, d.vendi };
    for (int i = 0; i < 8; i++) if (!strcmp(r->last, names[i])) return one(r, v[i]);
    *mine = false;
    return LK_OK;
}
lk_err lk_golden_diversity(lk_golden *g, const char *path, const char *dir, json_t *root) {
    static const lk_metric_rule rules[] = { diversity_rows, NULL };
    lk_metric_table t;
    LK_TRY(lk_metric_table_open(g, path, dir, root, &t));
    lk_metric_rows(&t, root, rules);
    lk_metric_table_close(&t);
    return LK_OK;
}
