/* stats.json: intervals, tests, families, correlations, ICC and the tails of the distributions. */
#include "cli/golden/metrics_table.h"
#include "metrics/metrics.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct { double v[LK_ROW_VALUES]; int n; } list;
static const json_t *data_of(const lk_metric_row *r) {
    const json_t *data = json_object_get(r->table->root, "data"), *own;
    const char *name = lk_row_text(r, "inputs");
    if (*name && (own = json_object_get(data, name))) return own;
    char id[256];                                          /* rows without inputs belong to the data their id begins with */
    snprintf(id, sizeof id, "%s", r->id);
    for (char *cut = strrchr(id, '/'); cut; cut = strrchr(id, '/')) {
        *cut = 0;
        if ((own = json_object_get(data, id))) return own;
    }
    return NULL;
}
static void flatten(const json_t *j, list *out) {
    size_t i;
    json_t *v;
    if (json_is_array(j)) json_array_foreach((json_t *)j, i, v) flatten(v, out);
    else if (json_is_number(j) && out->n < LK_ROW_VALUES) out->v[out->n++] = json_number_value(j);
}
static void member(const json_t *j, const char *key, list *out) {
    out->n = 0;
    flatten(key ? json_object_get(j, key) : j, out);
}
static lk_err give(lk_metric_row *r, int n, const double *v) {
    r->n = n;
    memcpy(r->got, v, (size_t)n * sizeof *v);
    return LK_OK;
}
static bool says(const lk_metric_row *r, const char *part) { return strstr(r->call, part) != NULL; }

static lk_err paired_rows(lk_metric_row *r, bool *mine) {
    static list x, y;
    const json_t *d = data_of(r);
    member(d, "x", &x);
    member(d, "y", &y);
    *mine = x.n > 1 && x.n == y.n;
    if (!*mine) return LK_OK;
    lk_paired p95, p99;
    lk_interval m;
    lk_signed_ranks w;
    LK_TRY(lk_paired_t(x.v, y.v, x.n, .95, &p95));
    LK_TRY(lk_paired_t(x.v, y.v, x.n, .99, &p99));
    LK_TRY(lk_mean_t(x.v, x.n, .95, &m));
    if (says(r, "ttest_rel")) return give(r, 1, &p95.t);
    if (says(r, "two-sided p")) return give(r, 1, &p95.p);
    if (!strcmp(r->call, "df")) return give(r, 1, &p95.diff.df);
    if (says(r, "ttest_1samp")) return give(r, 2, (double[]){ m.lo, m.hi });
    if (says(r, "confidence_interval(.95)")) return give(r, 2, (double[]){ p95.diff.lo, p95.diff.hi });
    if (says(r, "confidence_interval(.99)")) return give(r, 2, (double[]){ p99.diff.lo, p99.diff.hi });
    if (says(r, "cohen_d")) return give(r, 1, &p95.d_av);
    if (says(r, "mean(d)/sd(d)")) return give(r, 1, &p95.d_z);
    if (says(r, "wilcoxon")) {
        LK_TRY(lk_wilcoxon(x.v, y.v, x.n, &w));
        return give(r, 2, (double[]){ w.statistic, w.p });
    }
    *mine = false;
    return LK_OK;
}
static lk_err sign_flip_rows(lk_metric_row *r, bool *mine) {
    static list x, y;
    const json_t *d = data_of(r);
    double diff[32];
    lk_sign_flips f;
    *mine = says(r, "enumerat") || says(r, "/2^n") || says(r, "permutation_test") || says(r, "2^(1-n)") || says(r, "with ties and a zero");
    if (!*mine) return LK_OK;
    member(d, json_is_object(d) ? "x" : NULL, &x);
    member(d, "y", &y);
    if (x.n < 1 || x.n > 20) return lk_error(LK_EINPUT, "sign-flip row without 1 to 20 differences");
    for (int i = 0; i < x.n; i++) diff[i] = x.v[i] - (y.n ? y.v[i] : 0);
    LK_TRY(lk_sign_flip(diff, x.n, &f));
    const json_t *count = json_object_get(r->json, "count");
    bool greater = says(r, "{sum >=");
    if (count && (uint64_t)json_integer_value(count) != (greater ? f.at_least : f.at_least_abs))
        return lk_error(LK_ENUM, "%llu patterns, want %lld", (unsigned long long)(greater ? f.at_least : f.at_least_abs), (long long)json_integer_value(count));
    return give(r, 1, greater ? &f.greater : &f.two_sided);
}
static lk_err cluster_rows(lk_metric_row *r, bool *mine) {
    static list x, label;
    static int64_t cluster[LK_ROW_VALUES];
    const json_t *d = data_of(r);
    member(d, "value", &x);
    member(d, "cluster", &label);
    *mine = x.n > 1 && x.n == label.n;
    if (!*mine) return LK_OK;
    for (int i = 0; i < x.n; i++) cluster[i] = (int64_t)label.v[i];
    lk_interval v;
    bool cr1 = says(r, "CR1"), means = says(r, "cluster means");
    LK_TRY(cr1 ? lk_cluster_cr1(x.v, cluster, x.n, .95, &v) : means ? lk_cluster_t(x.v, cluster, x.n, .95, &v) : lk_mean_t(x.v, x.n, .95, &v));
    if (cr1) return give(r, 4, (double[]){ v.mean, v.se, v.lo, v.hi });
    *mine = means || says(r, "iid");
    return give(r, 3, (double[]){ v.mean, v.lo, v.hi });
}
static lk_err family_rows(lk_metric_row *r, bool *mine) {
    static const struct { const char *name; void (*adjust)(const double *, int, double *); } methods[] = {
        { "'holm'", lk_holm }, { "'fdr_bh'", lk_benjamini_hochberg }, { "'bonferroni'", lk_bonferroni }, { "'hommel'", lk_hommel } };
    static list p;
    member(data_of(r), NULL, &p);
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
        if (says(r, methods[i].name)) {
            methods[i].adjust(p.v, p.n, r->got);
            r->n = p.n;
            return LK_OK;
        }
    *mine = false;
    return LK_OK;
}
static lk_err correlation_rows(lk_metric_row *r, bool *mine) {
    static list a, b;
    const json_t *d = data_of(r);
    lk_correlation c;
    double tau;
    member(d, "a", &a);
    member(d, "b", &b);
    *mine = a.n > 2 && a.n == b.n;
    if (!*mine) return LK_OK;
    if (says(r, "spearmanr")) { LK_TRY(lk_spearman(a.v, b.v, a.n, &c)); return give(r, 2, (double[]){ c.r, c.p }); }
    if (says(r, "pearsonr")) { LK_TRY(lk_pearson(a.v, b.v, a.n, &c)); return give(r, 4, (double[]){ c.r, c.p, c.lo, c.hi }); }
    if (says(r, "kendalltau")) { LK_TRY(lk_kendall_tau_b(a.v, b.v, a.n, &tau)); return give(r, 1, &tau); }
    *mine = false;
    return LK_OK;
}
static lk_err icc_rows(lk_metric_row *r, bool *mine) {
    static const char *names[] = { "'ICC(1,1)'", "'ICC(A,1)'", "'ICC(C,1)'", "'ICC(1,k)'", "'ICC(A,k)'", "'ICC(C,k)'" };
    static list x;
    const json_t *d = data_of(r);
    *mine = says(r, "ICC") && json_is_array(json_array_get(d, 0));
    if (!*mine) return LK_OK;
    int64_t rows = (int64_t)json_array_size(d), columns = (int64_t)json_array_size(json_array_get(d, 0));
    lk_icc_table t;
    member(d, NULL, &x);
    LK_TRY(lk_icc(x.v, rows, columns, .95, &t));
    for (int i = 0; i < 6; i++) if (says(r, names[i])) {
        const lk_icc_row *k = t.row + i;
        if (says(r, "CI95")) return give(r, 2, (double[]){ k->lo, k->hi });
        return give(r, 5, (double[]){ k->icc, k->f, k->df1, k->df2, k->p });
    }
    if (says(r, "MSR, MSC, MSE")) return give(r, 5, (double[]){ t.row[1].icc, t.row[2].icc, t.ms_rows, t.ms_columns, t.ms_error });
    const lk_icc_row *k = says(r, "ICC(3,1)") ? t.row + 2 : t.row + 1;
    return give(r, 2, (double[]){ k->lo, k->hi });
}
/* The arguments stand in the call: "df=1,2,3", "(0.5,1)(1.3,3)", "norm.ppf(1e-6,.005)". */
static lk_err tail_rows(lk_metric_row *r, bool *mine) {
    double p, a, b, c;
    int used = 0;
    const char *s;
    if (sscanf(r->call, "t.ppf(%lf", &p) == 1 && (s = strstr(r->call, "df="))) {
        for (s += 3; sscanf(s, "%lf%n", &a, &used) == 1; s += used + (s[used] == ',')) r->got[r->n++] = lk_t_quantile(p, a);
    } else if (lk_starts(r->call, "t.sf") && (s = strstr(r->call, "for "))) {
        for (s += 4; sscanf(s, "(%lf,%lf)%n", &a, &b, &used) == 2; s += used) r->got[r->n++] = lk_t_upper(a, b);
    } else if (lk_starts(r->call, "f.sf") && (s = strstr(r->call, "for "))) {
        for (s += 4; sscanf(s, "(%lf,%lf,%lf)%n", &a, &b, &c, &used) == 3; s += used) r->got[r->n++] = lk_f_upper(a, b, c);
    } else if (lk_starts(r->call, "norm.ppf(")) {
        for (s = r->call + 9; sscanf(s, "%lf%n", &a, &used) == 1; s += used + (s[used] == ',')) r->got[r->n++] = lk_normal_quantile(a);
    } else *mine = false;
    return LK_OK;
}
lk_err lk_golden_stats(lk_golden *g, const char *path, const char *dir, json_t *root) {
    static const lk_metric_rule rules[] = { tail_rows, sign_flip_rows, icc_rows, family_rows, cluster_rows, correlation_rows, paired_rows, NULL };
    lk_metric_table t;
    LK_TRY(lk_metric_table_open(g, path, dir, root, &t));
    lk_metric_rows(&t, json_object_get(root, "rows"), rules);
    lk_metric_table_close(&t);
    return LK_OK;
}
