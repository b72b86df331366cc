/* Results (metric.h): means of scores with their error, the JSON they travel in, and which two may be compared. */
#include "metrics/linalg.h"
#include "metrics/metric.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

void lk_result_warn(lk_metric_result *r, const char *fmt, ...) {
    va_list ap;
    if (r->warnings == LK_METRIC_WARNINGS) return;
    va_start(ap, fmt);
    vsnprintf(r->warning[r->warnings++], sizeof r->warning[0], fmt, ap);
    va_end(ap);
}
void lk_result_extra(lk_metric_result *r, const char *name, double value) {
    if (r->extras == LK_METRIC_EXTRAS) return;
    snprintf(r->extra[r->extras].name, sizeof r->extra[0].name, "%s", name);
    r->extra[r->extras++].value = value;
}

/* ---- sums and means ---------------------------------------------------------------------------------------------------------------- */
/* Chunk c of the range is a leaf; [begin, end) is cut at the largest power of two of chunks below its length. */
static double fold(const double *x, int64_t n) {
    if (n <= LK_METRIC_CHUNK) return lk_sum(x, n);
    int64_t chunks = (n + LK_METRIC_CHUNK - 1) / LK_METRIC_CHUNK, half = 1;
    while (2 * half < chunks) half *= 2;
    return fold(x, half * LK_METRIC_CHUNK) + fold(x + half * LK_METRIC_CHUNK, n - half * LK_METRIC_CHUNK);
}
double lk_chunked_sum(const double *x, int64_t n) { return n > 0 ? fold(x, n) : 0; }
void lk_result_mean(lk_metric_result *r, const double *x, int64_t n, const char *unit_name) {
    double mean = lk_chunked_sum(x, n) / (double)n, *square = lk_xmalloc((size_t)(n + 1) * sizeof *square);
    int64_t infinite = 0;
    for (int64_t i = 0; i < n; i++) infinite += !isfinite(x[i]);
    for (int64_t i = 0; i < n; i++) square[i] = (x[i] - mean) * (x[i] - mean);
    r->value = mean;
    r->units = n;
    r->unit_name = unit_name;
    if (infinite) lk_result_warn(r, "%lld of %lld scores are infinite (identical pictures): no interval", (long long)infinite, (long long)n);
    else if (n < 2) lk_result_warn(r, "one score: no interval");
    else {
        r->se = sqrt(lk_chunked_sum(square, n) / (double)(n - 1) / (double)n);
        double t = lk_t_quantile((1 + r->level) / 2, (double)(n - 1)) * r->se;
        r->lo = mean - t;
        r->hi = mean + t;
        r->interval = "t of the mean, scores taken as independent";
    }
    free(square);
}

lk_err lk_metric_result_of(const lk_metric *m, lk_pool *pool, lk_metric_result *r) {
    const lk_metric_row *row = lk_metric_row_of(m);
    *r = (lk_metric_result){ .metric = row->name, .variant = row->variant, .unit = row->unit, .goal = row->goal, .value = NAN, .debiased = NAN, .se = NAN, .lo = NAN, .hi = NAN,
                             .level = lk_metric_options_of(m)->level, .interval = "", .unit_name = "", .exact = true, .from = *lk_metric_from(m) };
    int64_t n;
    lk_metric_scores(m, &n);
    if (row->sides == LK_PAIRS) r->n[0] = r->n[1] = n;
    else for (int i = 0; i < LK_METRIC_SIDES; i++) r->n[i] = lk_metric_side_of(m, i).n;
    if (r->n[0] < 1) return lk_error(LK_EINPUT, "%s/%s: no samples", row->name, row->variant);
    if (row->sides != LK_PAIRS && row->sides != LK_ONE_SET && r->n[1] < 1) return lk_error(LK_EINPUT, "%s/%s: the second side has no samples", row->name, row->variant);
    if (row->result) return row->result(m, pool, r);
    lk_result_mean(r, lk_metric_scores(m, &n), n, "pairs");
    return LK_OK;
}

/* ---- comparing --------------------------------------------------------------------------------------------------------------------------- */
static lk_err same(const char *what, const char *a, const char *b) {
    return strcmp(a, b) ? lk_error(LK_EINPUT, "not comparable: %s is \"%s\" in one and \"%s\" in the other", what, a, b) : LK_OK;
}
lk_err lk_result_comparable(const lk_metric_result *a, const lk_metric_result *b) {
    LK_TRY(same("the metric", a->metric, b->metric));
    LK_TRY(same("the variant", a->variant, b->variant));
    LK_TRY(same("the option", a->options, b->options));
    LK_TRY(same("the feature", a->from.features, b->from.features));
    LK_TRY(same("the weights' SHA-256", a->from.sha256, b->from.sha256));
    LK_TRY(same("the resize", a->from.resize, b->from.resize));
    LK_TRY(same("the decoder", a->from.decoder, b->from.decoder));
    bool biased = !strcmp(a->metric, "fid") || !strcmp(a->metric, "patch-fid") || !strcmp(a->metric, "frechet");
    if (biased && (a->n[0] != b->n[0] || a->n[1] != b->n[1]))
        return lk_error(LK_EINPUT, "not comparable: a Frechet distance depends on the number of samples, here %lld and %lld against %lld and %lld; compare the de-biased values or equal n",
                        (long long)a->n[0], (long long)a->n[1], (long long)b->n[0], (long long)b->n[1]);
    return LK_OK;
}

/* ---- JSON -------------------------------------------------------------------------------------------------------------------------------- */
static json_t *number(double v) { return isfinite(v) ? json_real(v) : json_string(isnan(v) ? "nan" : v > 0 ? "inf" : "-inf"); }
static void set(json_t *j, const char *key, double v) { if (!isnan(v)) json_object_set_new(j, key, number(v)); }
json_t *lk_result_json(const lk_metric_result *r) {
    json_t *j = json_pack("{s:s, s:s, s:s, s:i, s:o, s:[III], s:b}", "metric", r->metric, "variant", r->variant, "unit", r->unit ? r->unit : "", "goal", r->goal, "value", number(r->value),
                          "n", (json_int_t)r->n[0], (json_int_t)r->n[1], (json_int_t)r->n[2], "exact", r->exact);
    set(j, "debiased", r->debiased);
    set(j, "se", r->se);
    if (*r->interval) json_object_set_new(j, "interval", json_pack("{s:o, s:o, s:f, s:s}", "lo", number(r->lo), "hi", number(r->hi), "level", r->level, "method", r->interval));
    if (r->units) json_object_set_new(j, "units", json_pack("{s:I, s:s}", "n", (json_int_t)r->units, "of", r->unit_name));
    json_t *extra = json_object(), *warnings = json_array();
    for (int i = 0; i < r->extras; i++) json_object_set_new(extra, r->extra[i].name, number(r->extra[i].value));
    for (int i = 0; i < r->warnings; i++) json_array_append_new(warnings, json_string(r->warning[i]));
    json_object_set_new(j, "parts", extra);
    json_object_set_new(j, "warnings", warnings);
    json_object_set_new(j, "options", json_string(r->options));
    json_object_set_new(j, "from", json_pack("{s:s, s:s, s:s, s:s, s:s}", "features", r->from.features, "weights", r->from.weights, "sha256", r->from.sha256, "resize", r->from.resize, "decoder", r->from.decoder));
    return j;
}
static double number_of(const json_t *v) {
    const char *s = json_string_value(v);
    return s ? (!strcmp(s, "inf") ? INFINITY : !strcmp(s, "-inf") ? -INFINITY : NAN) : v ? json_number_value(v) : NAN;
}
static lk_err text(const json_t *j, const char *key, const char *where, char *to, size_t room) {
    const char *s;
    LK_TRY(lk_json_str(j, key, where, "", &s));
    snprintf(to, room, "%s", s);
    return LK_OK;
}
lk_err lk_result_from_json(const json_t *j, const char *where, lk_metric_result *r) {
    const json_t *interval = json_object_get(j, "interval"), *from = json_object_get(j, "from"), *units = json_object_get(j, "units");
    *r = (lk_metric_result){ .interval = "", .unit_name = "" };
    if (!json_is_object(j)) return lk_error(LK_EINPUT, "%s: not a result of lk-metrics --json", where);
    LK_TRY(lk_json_str(j, "metric", where, "", &r->metric));
    LK_TRY(lk_json_str(j, "variant", where, "", &r->variant));
    LK_TRY(lk_json_str(j, "unit", where, "", &r->unit));
    if (!*r->metric || !json_object_get(j, "value")) return lk_error(LK_EINPUT, "%s: not a result of lk-metrics --json (it has no metric or value)", where);
    LK_TRY(lk_json_ints(j, "n", where, 0, LK_METRIC_SIDES, r->n));
    r->value = number_of(json_object_get(j, "value"));
    r->debiased = number_of(json_object_get(j, "debiased"));
    r->se = number_of(json_object_get(j, "se"));
    r->lo = number_of(json_object_get(interval, "lo"));
    r->hi = number_of(json_object_get(interval, "hi"));
    r->level = number_of(json_object_get(interval, "level"));
    r->units = json_integer_value(json_object_get(units, "n"));
    LK_TRY(text(j, "options", where, r->options, sizeof r->options));
    LK_TRY(text(from, "features", where, r->from.features, sizeof r->from.features));
    LK_TRY(text(from, "weights", where, r->from.weights, sizeof r->from.weights));
    LK_TRY(text(from, "sha256", where, r->from.sha256, sizeof r->from.sha256));
    LK_TRY(text(from, "resize", where, r->from.resize, sizeof r->from.resize));
    return text(from, "decoder", where, r->from.decoder, sizeof r->from.decoder);
}
