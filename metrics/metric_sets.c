/* Rows of metrics over sets of vectors (metric.h): distances between distributions, scores of one set, diversity. Each result says how
 * its error was found, or that there is none: the spread over subsets or splits is shown, and is no standard error. */
#include "metrics/linalg.h"
#include "metrics/metric.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}
void lk_result_interval(lk_metric_result *r, double se, int64_t units, const char *unit_name, const char *method) {
    r->se = se;
    r->units = units;
    r->unit_name = unit_name;
    if (isnan(se)) return;
    const double t = lk_t_quantile((1 + r->level) / 2, (double)(units - 1)) * se;
    r->lo = r->value - t;
    r->hi = r->value + t;
    r->interval = method;
}
static void interval(lk_metric_result *r, double about, double df, const char *method) {
    double t = lk_t_quantile((1 + r->level) / 2, df) * r->se;
    r->lo = about - t;
    r->hi = about + t;
    r->interval = method;
}

/* ---- Frechet ----------------------------------------------------------------------------------------------------------------------- */
static lk_err moments_of(lk_metric_side s, int64_t d, double **mean, double **cov) {
    lk_moments *own = NULL;
    int64_t n;
    lk_err e = LK_OK;
    *mean = lk_xmalloc((size_t)d * sizeof **mean);
    *cov = lk_xmalloc((size_t)(d * d) * sizeof **cov);
    if (!s.moments) e = lk_moments_add(own = lk_moments_new(d, 0), s.x, s.n);
    if (!e) e = lk_moments_get(s.moments ? s.moments : own, &n, *mean, *cov);
    lk_moments_free(own);
    return e;
}
static lk_err frechet_by_moments(lk_metric_side a, lk_metric_side b, int64_t d, lk_frechet *f) {
    double *m[2] = { 0 }, *c[2] = { 0 };
    lk_err e = moments_of(a, d, &m[0], &c[0]);
    if (!e) e = moments_of(b, d, &m[1], &c[1]);
    if (!e) e = lk_frechet_moments(m[0], c[0], m[1], c[1], d, f);
    for (int i = 0; i < 2; i++) { free(m[i]); free(c[i]); }
    return e;
}
static lk_err frechet(const lk_metric *m, lk_pool *pool, lk_metric_result *r) {
    lk_metric_side a = lk_metric_side_of(m, 0), b = lk_metric_side_of(m, 1);
    int64_t d = lk_metric_dim(m), least = a.n < b.n ? a.n : b.n;
    int asked = lk_metric_options_of(m)->groups, groups = asked < 0 ? 0 : asked ? asked : least >= 40 ? 20 : 0;
    lk_frechet f;
    (void)pool;
    if (least < 2) return lk_error(LK_EINPUT, "Frechet distance: sets of %lld and %lld; a covariance needs at least 2 samples", (long long)a.n, (long long)b.n);
    if (a.x && b.x) LK_TRY(lk_frechet_features(a.x, a.n, b.x, b.n, d, groups, &f));
    else {
        LK_TRY(frechet_by_moments(a, b, d, &f));
        if (groups) lk_result_warn(r, "more than %d samples a side are kept as moments alone: no jackknife, no standard error", LK_METRIC_KEEP);
    }
    r->value = f.value;
    r->exact = f.exact;
    if (f.groups) {
        r->debiased = f.debiased;
        r->se = f.se;
        r->units = f.groups;
        r->unit_name = "groups";
        interval(r, f.debiased, f.groups - 1, "jackknife over groups, about the de-biased value");
    } else if (!groups && asked >= 0) lk_result_warn(r, "fewer than 40 samples a side: no jackknife, no standard error");
    if (*f.warning) lk_result_warn(r, "%s", f.warning);
    lk_result_extra(r, "mean_term", f.mean_term);
    lk_result_extra(r, "trace_term", f.trace_term);
    lk_result_extra(r, "cross_term", f.cross_term);
    lk_result_extra(r, "rank_a", (double)f.rank[0]);
    lk_result_extra(r, "rank_b", (double)f.rank[1]);
    lk_result_extra(r, "d", (double)d);
    if (groups && f.groups) snprintf(r->options, sizeof r->options, "%d groups", f.groups);
    return LK_OK;
}

/* ---- kernels ------------------------------------------------------------------------------------------------------------------------- */
static lk_err kid_subsets(lk_metric_side a, lk_metric_side b, int64_t d, const lk_metric_options *o, lk_pool *pool, lk_metric_result *r) {
    int64_t s = o->subsets, m = o->subset_size, *ix = lk_xmalloc((size_t)(2 * s * m) * sizeof *ix), *iy = ix + s * m;
    double sd;
    lk_err e = lk_kid_draw(a.n, s, m, o->seed, "kid/a", ix);
    if (!e) e = lk_kid_draw(b.n, s, m, o->seed, "kid/b", iy);
    if (!e) e = lk_kid_subsets(a.x, a.n, b.x, b.n, d, ix, iy, s, m, pool, NULL, &r->value, &sd);
    free(ix);
    LK_TRY(e);
    r->units = s;
    r->unit_name = "subsets";
    lk_result_extra(r, "sd_over_subsets", sd);
    snprintf(r->options, sizeof r->options, "%lld subsets of %lld, seed %llu", (long long)s, (long long)m, (unsigned long long)o->seed);
    lk_result_warn(r, "the spread over overlapping subsets is no standard error; leave --subsets out for the U-statistic with one");
    return LK_OK;
}
static lk_err kid(const lk_metric *m, lk_pool *pool, lk_metric_result *r) {
    lk_metric_side a = lk_metric_side_of(m, 0), b = lk_metric_side_of(m, 1);
    const lk_metric_options *o = lk_metric_options_of(m);
    lk_mmd v;
    if (o->subsets) return kid_subsets(a, b, lk_metric_dim(m), o, pool, r);
    LK_TRY(lk_kid_full(a.x, a.n, b.x, b.n, lk_metric_dim(m), pool, &v));
    r->value = r->debiased = v.value;
    snprintf(r->options, sizeof r->options, "full U-statistic");
    if (!(v.variance > 0)) return LK_OK;
    int64_t least = a.n < b.n ? a.n : b.n;
    r->se = sqrt(v.variance);
    r->units = a.n + b.n;
    r->unit_name = "pictures";
    interval(r, v.value, (double)(least - 1), "delete-one jackknife over both sets");
    return LK_OK;
}
enum { MOST = 4096, MOST_EIGENVALUES = 400 };      /* samples whose statistic is computed once a group without being asked */
static lk_err cmmd_of(const lk_metric *m, lk_pool *pool, const lk_metric_side *a, const lk_metric_side *b, double *value) {
    return lk_cmmd(a->x, a->n, b->x, b->n, lk_metric_dim(m), pool, value);
}
static lk_err cmmd(const lk_metric *m, lk_pool *pool, lk_metric_result *r) {
    lk_metric_side a = lk_metric_side_of(m, 0), b = lk_metric_side_of(m, 1);
    LK_TRY(cmmd_of(m, pool, &a, &b, &r->value));
    return lk_result_jackknife(m, pool, cmmd_of, true, MOST, r);
}

/* ---- manifolds: what = 4 * (compared with <=) + which -------------------------------------------------------------------------------------- */
enum { PRECISION, RECALL, DENSITY, COVERAGE, TIES = 4 };
static int neighbours(const lk_metric *m) {
    int asked = lk_metric_options_of(m)->neighbours;
    return asked ? asked : lk_metric_row_of(m)->what & TIES ? 3 : 5;
}
static lk_err prdc_all(const lk_metric *m, lk_pool *pool, const lk_metric_side *fake, const lk_metric_side *real, lk_prdc *p) {
    return lk_prdc_of(real->x, real->n, fake->x, fake->n, lk_metric_dim(m), neighbours(m), !(lk_metric_row_of(m)->what & TIES), pool, p);
}
static lk_err prdc_of(const lk_metric *m, lk_pool *pool, const lk_metric_side *fake, const lk_metric_side *real, double *value) {
    lk_prdc p;
    LK_TRY(prdc_all(m, pool, fake, real, &p));
    *value = (double[]){ p.precision, p.recall, p.density, p.coverage }[lk_metric_row_of(m)->what & 3];
    return LK_OK;
}
static lk_err prdc(const lk_metric *m, lk_pool *pool, lk_metric_result *r) {
    lk_metric_side fake = lk_metric_side_of(m, 0), real = lk_metric_side_of(m, 1);
    const int k = neighbours(m);
    lk_prdc p;
    LK_TRY(prdc_all(m, pool, &fake, &real, &p));
    r->value = (double[]){ p.precision, p.recall, p.density, p.coverage }[lk_metric_row_of(m)->what & 3];
    snprintf(r->options, sizeof r->options, "k = %d", k);
    lk_result_extra(r, "precision", p.precision);
    lk_result_extra(r, "recall", p.recall);
    lk_result_extra(r, "density", p.density);
    lk_result_extra(r, "coverage", p.coverage);
    lk_result_extra(r, "f_score", p.f_score);
    return lk_result_jackknife(m, pool, prdc_of, true, MOST, r);
}
static lk_err vendi_of(const lk_metric *m, lk_pool *pool, const lk_metric_side *a, const lk_metric_side *b, double *value) {
    const double q = lk_metric_options_of(m)->order;
    (void)pool; (void)b;
    return lk_vendi_cosine(a->x, a->n, lk_metric_dim(m), q ? q : 1, value);
}
static lk_err vendi(const lk_metric *m, lk_pool *pool, lk_metric_result *r) {
    lk_metric_side a = lk_metric_side_of(m, 0);
    const double q = lk_metric_options_of(m)->order;
    snprintf(r->options, sizeof r->options, "order %g", q ? q : 1);
    LK_TRY(vendi_of(m, pool, &a, NULL, &r->value));
    return lk_result_jackknife(m, pool, vendi_of, false, MOST_EIGENVALUES, r);
}
static int splits_of(const lk_metric *m) { int asked = lk_metric_options_of(m)->splits; return asked ? asked : 10; }
static lk_err inception_of(const lk_metric *m, lk_pool *pool, const lk_metric_side *a, const lk_metric_side *b, double *value) {
    double sd;
    (void)pool; (void)b;
    return lk_inception_score(a->x, a->n, lk_metric_dim(m), splits_of(m), lk_metric_row_of(m)->what, NULL, value, &sd);
}
static lk_err inception_score(const lk_metric *m, lk_pool *pool, lk_metric_result *r) {
    lk_metric_side a = lk_metric_side_of(m, 0);
    const int splits = splits_of(m);
    double sd;
    LK_TRY(lk_inception_score(a.x, a.n, lk_metric_dim(m), splits, lk_metric_row_of(m)->what, NULL, &r->value, &sd));
    snprintf(r->options, sizeof r->options, "%d splits in file order", splits);
    lk_result_extra(r, "sd_over_splits", sd);
    lk_result_warn(r, "the spread over splits is no standard error; the score falls with fewer pictures a split (%lld here)", (long long)(a.n / splits));
    return lk_result_jackknife(m, pool, inception_of, false, INT64_MAX, r);
}

/* ---- diversity ------------------------------------------------------------------------------------------------------------------------------ */
/* what: how two vectors are apart. LPIPS vectors are scaled so that their squared distance is the LPIPS. */
enum { EUCLIDEAN, SQUARED, MEAN_L1 };
static double apart(int how, const double *a, const double *b, int64_t d) {
    if (how == MEAN_L1) {
        double s = 0;
        for (int64_t i = 0; i < d; i++) s += fabs(a[i] - b[i]);
        return s / (double)d;
    }
    double s = lk_squared_distance(a, b, d);
    return how == SQUARED ? s : sqrt(s);
}
typedef struct { const double *x, *y; int64_t n, m, d; int how; double *out; bool half; } apart_job;
static void apart_rows(void *ctx, int64_t begin, int64_t end, int thread) {
    apart_job *j = ctx;
    (void)thread;
    for (int64_t i = begin; i < end; i++)
        for (int64_t k = j->half ? i + 1 : 0; k < j->m; k++) j->out[i * j->m + k] = apart(j->how, j->x + i * j->d, j->y + k * j->d, j->d);
}
/* [n][m]; of one set with itself only above the diagonal. */
static double *distances(int how, lk_metric_side a, lk_metric_side b, int64_t d, lk_pool *pool) {
    apart_job j = { a.x, b.x, a.n, b.n, d, how, lk_xcalloc((size_t)(a.n * b.n + 1), sizeof(double)), a.x == b.x };
    lk_parallel(pool, a.n, 1, apart_rows, &j);
    for (int64_t i = 0; j.half && i < a.n; i++) for (int64_t k = 0; k < i; k++) j.out[i * a.n + k] = j.out[k * a.n + i];
    return j.out;
}
/* Mean over the pairs of one set; its error by leaving out one picture at a time. */
static double mean_pair(const double *dist, int64_t n, double *se) {
    double *row = lk_xmalloc((size_t)(n + 1) * sizeof *row), squares = 0, mean = 0, pairs = (double)n * (double)(n - 1);
    for (int64_t i = 0; i < n; i++) row[i] = lk_chunked_sum(dist + i * n, n);
    double total = lk_chunked_sum(row, n);
    *se = NAN;
    if (n > 2) {
        for (int64_t i = 0; i < n; i++) row[i] = (total - 2 * row[i]) / ((double)(n - 1) * (double)(n - 2));
        mean = lk_chunked_sum(row, n) / (double)n;
        for (int64_t i = 0; i < n; i++) squares += (row[i] - mean) * (row[i] - mean);
        *se = sqrt((double)(n - 1) / (double)n * squares);
    }
    free(row);
    return total / pairs;
}
static void spread(lk_metric_result *r, const double *dist, int64_t n) {
    int64_t pairs = n * (n - 1) / 2, k = 0;
    double *all = lk_xmalloc((size_t)pairs * sizeof *all);
    for (int64_t i = 0; i < n; i++) for (int64_t j = i + 1; j < n; j++) all[k++] = dist[i * n + j];
    qsort(all, (size_t)pairs, sizeof *all, by_value);
    lk_result_extra(r, "min", all[0]);
    lk_result_extra(r, "median", pairs & 1 ? all[pairs / 2] : (all[pairs / 2 - 1] + all[pairs / 2]) / 2);
    lk_result_extra(r, "max", all[pairs - 1]);
    lk_result_extra(r, "pairs", (double)pairs);
    free(all);
}
static lk_err pairwise(const lk_metric *m, lk_pool *pool, lk_metric_result *r) {
    lk_metric_side a = lk_metric_side_of(m, 0);
    lk_diversity v;
    int how = lk_metric_row_of(m)->what;
    if (a.n < 2) return lk_error(LK_EINPUT, "diversity: one picture; at least 2");
    double *dist = distances(how, a, a, lk_metric_dim(m), pool);
    r->value = mean_pair(dist, a.n, &r->se);
    r->units = a.n;
    r->unit_name = "pictures";
    if (!isnan(r->se)) interval(r, r->value, (double)(a.n - 1), "delete-one jackknife over pictures");
    spread(r, dist, a.n);
    free(dist);
    if (how == SQUARED) return LK_OK;
    LK_TRY(lk_diversity_values(a.x, a.n, lk_metric_dim(m), &v));
    lk_result_extra(r, "effective_rank", v.effective_rank);
    lk_result_extra(r, "participation", v.participation);
    lk_result_extra(r, "vendi", v.vendi);
    if (how == MEAN_L1) lk_result_extra(r, "legacy_collapsed", v.legacy_collapsed);
    return LK_OK;
}
/* Each picture of side 0 joins its nearest of side 1 (training pictures); mean distance within each cluster, mean over clusters. */
static lk_err intra(const lk_metric *m, lk_pool *pool, lk_metric_result *r) {
    lk_metric_side a = lk_metric_side_of(m, 0), b = lk_metric_side_of(m, 1);
    int how = lk_metric_row_of(m)->what;
    double *to = distances(how, a, b, lk_metric_dim(m), pool), *within = distances(how, a, a, lk_metric_dim(m), pool), *each = lk_metric_room(m);
    double *mean = lk_xcalloc((size_t)b.n, sizeof *mean);
    int64_t clusters = 0, *cluster = lk_xmalloc((size_t)a.n * sizeof *cluster);
    for (int64_t i = 0; i < a.n; i++) {
        cluster[i] = 0;
        for (int64_t j = 1; j < b.n; j++) if (to[i * b.n + j] < to[i * b.n + cluster[i]]) cluster[i] = j;
        each[i] = to[i * b.n + cluster[i]];
    }
    for (int64_t c = 0; c < b.n; c++) {
        double sum = 0;
        int64_t pairs = 0;
        for (int64_t i = 0; i < a.n; i++) for (int64_t j = i + 1; j < a.n; j++)
            if (cluster[i] == c && cluster[j] == c) { sum += within[i * a.n + j]; pairs++; }
        if (pairs) mean[clusters++] = sum / (double)pairs;
    }
    if (clusters) lk_result_mean(r, mean, clusters, "clusters");
    lk_result_extra(r, "clusters_with_pairs", (double)clusters);
    lk_result_extra(r, "training_pictures", (double)b.n);
    lk_err e = clusters ? LK_OK : lk_error(LK_EINPUT, "intra-cluster distance: no training picture is nearest to two of the %lld pictures", (long long)a.n);
    free(to);
    free(within);
    free(mean);
    free(cluster);
    return e;
}
static lk_err nearest(const lk_metric *m, lk_pool *pool, lk_metric_result *r) {
    lk_metric_side a = lk_metric_side_of(m, 0), b = lk_metric_side_of(m, 1);
    double *dist = distances(lk_metric_row_of(m)->what, a, b, lk_metric_dim(m), pool), *each = lk_metric_room(m), least = INFINITY;
    for (int64_t i = 0; i < a.n; i++) {
        each[i] = dist[i * b.n];
        for (int64_t j = 1; j < b.n; j++) if (dist[i * b.n + j] < each[i]) each[i] = dist[i * b.n + j];
        if (each[i] < least) least = each[i];
    }
    lk_result_mean(r, each, a.n, "pictures");
    lk_result_extra(r, "min", least);
    free(dist);
    return LK_OK;
}
/* The ratio without each seed, both its pictures: from sums. NaN below three seeds. */
static double ratio_error(const double *own, const double *cross, int64_t n, double same, double other) {
    double mean = 0, squares = 0;
    if (n < 3) return NAN;
    for (int pass = 0; pass < 2; pass++)
        for (int64_t i = 0; i < n; i++) {
            const double ratio = (same - own[i]) / (double)(n - 1) / ((other - cross[i]) / ((double)(n - 1) * (double)(n - 2)));
            if (pass) squares += (ratio - mean) * (ratio - mean); else mean += ratio / (double)n;
        }
    return sqrt((double)(n - 1) / (double)n * squares);
}
static lk_err same_seed(const lk_metric *m, lk_pool *pool, lk_metric_result *r) {
    lk_metric_side a = lk_metric_side_of(m, 0), b = lk_metric_side_of(m, 1);
    int64_t n = a.n;
    if (a.n != b.n || n < 2) return lk_error(LK_EINPUT, "same-seed control: %lld and %lld pictures; equally many of each, in the order of their seeds, at least 2", (long long)a.n, (long long)b.n);
    double *dist = distances(lk_metric_row_of(m)->what, a, b, lk_metric_dim(m), pool), *each = lk_metric_room(m), same = 0, other = 0;
    double *cross = lk_xcalloc((size_t)n, sizeof *cross);            /* of seed i to all others, either way */
    for (int64_t i = 0; i < n; i++) {
        each[i] = dist[i * n + i];
        same += each[i];
        for (int64_t j = 0; j < n; j++) if (i != j) { other += dist[i * n + j]; cross[i] += dist[i * n + j]; cross[j] += dist[i * n + j]; }
    }
    free(dist);
    const double se = ratio_error(each, cross, n, same, other);
    free(cross);
    same /= (double)n;
    other /= (double)n * (double)(n - 1);
    if (!(other > 0)) return lk_error(LK_ENUM, "same-seed control: outputs of different seeds are equal");
    r->value = same / other;
    lk_result_interval(r, se, n, "seeds", "delete-one jackknife over seeds");
    lk_result_extra(r, "same_seed", same);
    lk_result_extra(r, "other_seed", other);
    return LK_OK;
}

/* ---- the table --------------------------------------------------------------------------------------------------------------------------------- */
#define FID(n, v, way, by) { .name = n, .variant = v, .peer = by, .unit = "", .goal = -1, .sides = LK_SETS, .features = "inception/" way, .result = frechet, .moments = true }
#define KID(v, way, by) { .name = "kid", .variant = v, .peer = by, .unit = "", .goal = -1, .sides = LK_SETS, .features = "inception/" way, .result = kid }
#define PRDC(n, which) { .name = n, .variant = "prdc", .peer = "prdc.compute_prdc, distances compared with <, k = 5", .unit = "", .goal = 1, .sides = LK_SETS, .features = "", .what = which, .result = prdc }, \
                       { .name = n, .variant = "torch-fidelity", .peer = "torch-fidelity's PRC, compared with <=, k = 3", .unit = "", .goal = 1, .sides = LK_SETS, .features = "", .what = TIES + which, .result = prdc }
#define LPIPS(n, v, s, run, by) { .name = n, .variant = "lpips_" v, .peer = by, .unit = "", .goal = 1, .sides = s, .features = "lpips/" v, .what = SQUARED, .result = run }
#define LPIPS3(n, s, run, by) LPIPS(n, "alex", s, run, by), LPIPS(n, "vgg", s, run, by), LPIPS(n, "squeeze", s, run, by)
const lk_metric_row lk_set_rows[] = {
    FID("fid", "tf", "torch-fidelity", "torch-fidelity FID (TensorFlow's resize and weights)"),
    FID("fid", "pytorch", "pytorch-fid", "pytorch_fid.fid_score"),
    FID("fid", "torchmetrics", "torchmetrics", "torchmetrics FrechetInceptionDistance"),
    FID("fid", "clean", "clean-fid", "cleanfid.compute_fid(mode='clean')"),
    FID("patch-fid", "tf", "torch-fidelity", "FID of crops (--crop says which), torch-fidelity's preparation"),
    FID("patch-fid", "pytorch", "pytorch-fid", "the same, pytorch-fid's"),
    FID("patch-fid", "clean", "clean-fid", "the same, clean-fid's"),
    { .name = "frechet", .variant = "features", .peer = "Frechet distance of --features: no FID unless they are Inception's", .unit = "", .goal = -1, .sides = LK_SETS, .features = "", .result = frechet, .moments = true },
    KID("tf", "torch-fidelity", "torch-fidelity KID (--subsets 100x1000) or the full U-statistic"),
    KID("pytorch", "pytorch-fid", "KID on pytorch-fid's features"),
    KID("torchmetrics", "torchmetrics", "torchmetrics KernelInceptionDistance"),
    KID("clean", "clean-fid", "cleanfid.compute_kid(mode='clean')"),
    { .name = "kid", .variant = "features", .peer = "kernel distance of --features, k = (x.y/d + 1)^3", .unit = "", .goal = -1, .sides = LK_SETS, .features = "", .result = kid },
    { .name = "cmmd", .variant = "clip", .peer = "google-research/cmmd: 1000 MMD^2 of unit CLIP embeddings, Gaussian kernel, sigma 10", .unit = "", .goal = -1, .sides = LK_SETS, .features = "clip", .result = cmmd },
    PRDC("precision", PRECISION), PRDC("recall", RECALL), PRDC("density", DENSITY), PRDC("coverage", COVERAGE),
    { .name = "vendi", .variant = "cosine", .peer = "vendi_score.vendi.score_K of the cosine kernel of --features", .unit = "", .goal = 1, .sides = LK_ONE_SET, .features = "", .result = vendi },
    { .name = "is", .variant = "torch-fidelity", .peer = "torch-fidelity ISC: logits without bias, parts cut at i n / s", .unit = "", .goal = 1, .sides = LK_ONE_SET, .features = "inception/torch-fidelity:logits_unbiased", .what = 0, .result = inception_score },
    { .name = "is", .variant = "torchmetrics", .peer = "torchmetrics InceptionScore: parts of ceil(n / s)", .unit = "", .goal = 1, .sides = LK_ONE_SET, .features = "inception/torchmetrics:logits_unbiased", .what = 1, .result = inception_score },
    { .name = "diversity", .variant = "pixels_l1", .peer = "mean absolute difference of pixels on [0, 1]; legacy check: below 0.05 is collapsed", .unit = "", .goal = 1, .sides = LK_ONE_SET, .features = "pixels", .what = MEAN_L1, .result = pairwise },
    { .name = "diversity", .variant = "features", .peer = "mean Euclidean distance of --features", .unit = "", .goal = 1, .sides = LK_ONE_SET, .features = "", .what = EUCLIDEAN, .result = pairwise },
    LPIPS3("diversity", LK_ONE_SET, pairwise, "mean LPIPS over all pairs; each picture's features are computed once"),
    LPIPS3("intra", LK_SETS, intra, "intra-LPIPS, Ojha et al. 2021: pictures join their nearest training picture (second folder)"),
    { .name = "intra", .variant = "features", .peer = "the same by Euclidean distance of --features", .unit = "", .goal = 1, .sides = LK_SETS, .features = "", .what = EUCLIDEAN, .result = intra },
    LPIPS3("nearest", LK_SETS, nearest, "LPIPS to the nearest training picture (second folder): near 0 is a copy"),
    { .name = "nearest", .variant = "features", .peer = "Euclidean distance of --features to the nearest training picture", .unit = "", .goal = 1, .sides = LK_SETS, .features = "", .what = EUCLIDEAN, .result = nearest },
    { .name = "same-seed", .variant = "features", .peer = "mean distance at equal seeds over that at other seeds; near 0: the condition is ignored", .unit = "", .goal = 0, .sides = LK_SETS, .features = "", .what = EUCLIDEAN, .result = same_seed },
    LPIPS3("same-seed", LK_SETS, same_seed, "the same by LPIPS"),
    { NULL }
};
