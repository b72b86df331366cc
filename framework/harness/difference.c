/* Where two run files part: the first differing metric by step, else the first differing sample, final value, or tensor of
 * the adapter; with the distance in units of the last place. */
#include "harness/internal.h"
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool same_bits(double a, double b) { return (a != a && b != b) || !memcmp(&a, &b, sizeof a); }
/* Ordered integers: neighbours differ by one, across zero too. */
static int64_t order64(double x) { int64_t i; memcpy(&i, &x, 8); return i < 0 ? INT64_MIN - i : i; }
static int32_t order32(float x) { int32_t i; memcpy(&i, &x, 4); return i < 0 ? INT32_MIN - i : i; }
char *difference_ulp(double a, double b) {
    if (a != a || b != b) return lk_xstrdup("one is not a number");
    if ((double)(float)a == a && (double)(float)b == b) return lk_xfmt("%lld ulp of binary32", llabs((int64_t)order32((float)a) - order32((float)b)));
    double d = fabs((double)order64(a) - (double)order64(b));
    return lk_xfmt("%.0f ulp of binary64", d);
}
static char *say(const char *what, double a, double b) {
    char *ulp = difference_ulp(a, b), *text = lk_xfmt("%s: %.17g and %.17g, %s apart", what, a, b, ulp);
    free(ulp);
    return text;
}
/* other_name: which of the two b is, for what a has and b lacks. */
static char *metrics_differ(const lk_run *a, const lk_run *b, const char *other_name) {
    const char *const *splits, *const *columns;
    char *first = NULL; double first_step = INFINITY;
    for (int s = 0, n = lk_run_names(a, "metrics", &splits); s < n; s++) {
        char group[300];
        snprintf(group, sizeof group, "metrics/%s", splits[s]);
        int64_t rows = lk_run_rows(a, splits[s]), other = lk_run_rows(b, splits[s]);
        const double *step = lk_run_get_column(a, splits[s], "step");
        for (int c = 0, m = lk_run_names(a, group, &columns); c < m; c++) {
            if (!strcmp(columns[c], "wall_s")) continue;
            const double *x = lk_run_get_column(a, splits[s], columns[c]), *y = lk_run_get_column(b, splits[s], columns[c]);
            if (!y && !first) first = lk_xfmt("metrics/%s/%s is missing in the %s", splits[s], columns[c], other_name);
            for (int64_t i = 0; y && i < rows && i < other; i++) {
                if (same_bits(x[i], y[i])) continue;
                if (step && step[i] >= first_step) break;
                char where[400];
                first_step = step ? step[i] : (double)i;
                snprintf(where, sizeof where, "step %.0f, metrics/%s/%s", first_step, splits[s], columns[c]);
                free(first);
                first = say(where, x[i], y[i]);
                break;
            }
        }
        if (!first && rows != other) first = lk_xfmt("metrics/%s has %" PRId64 " rows and %" PRId64, splits[s], rows, other);
    }
    return first;
}
static char *samples_differ(const lk_run *a, const lk_run *b) {
    const char *const *columns;
    int64_t rows = lk_run_samples(a), other = lk_run_samples(b);
    if (rows != other) return lk_xfmt("%" PRId64 " samples and %" PRId64, rows, other);
    for (int c = 0, n = lk_run_names(a, "samples", &columns); c < n; c++) {
        const double *x = lk_run_get_sample_column(a, columns[c]), *y = lk_run_get_sample_column(b, columns[c]);
        for (int64_t i = 0; i < rows; i++) {
            char where[300];
            const char *s = lk_run_get_sample_text(a, columns[c], i), *t = lk_run_get_sample_text(b, columns[c], i);
            snprintf(where, sizeof where, "sample %" PRId64 ", %s", i, columns[c]);
            if (x && !s && y && !same_bits(x[i], y[i])) return say(where, x[i], y[i]);
            if ((s || t) && (!s || !t || strcmp(s, t))) return lk_xfmt("%s: \"%s\" and \"%s\"", where, s ? s : "", t ? t : "");
        }
    }
    return NULL;
}
static char *finals_differ(const lk_run *a, const lk_run *b, const char *other_name) {
    const char *const *names;
    for (int i = 0, n = lk_run_names(a, "final", &names); i < n; i++) {
        double x = NAN, y = NAN;
        bool there = lk_run_get_final(a, names[i], &x) && lk_run_get_final(b, names[i], &y);
        char where[300];
        snprintf(where, sizeof where, "final/%s", names[i]);
        if (!there) return lk_xfmt("%s is missing in the %s", where, other_name);
        if (!same_bits(x, y)) return say(where, x, y);
    }
    return NULL;
}
/* The first tensor that one has and the other lacks, or has in another shape or type. */
static char *tensors_differ(const lk_st *a, lk_st *b, const char *other_name) {
    for (int i = 0; i < lk_st_count(a); i++) {
        const lk_tensor *x = lk_st_at(a, i), *y = lk_st_find(b, x->name);
        if (!y) return lk_xfmt("adapter tensor %s is missing in the %s", x->name, other_name);
        bool same = x->dtype == y->dtype && x->rank == y->rank;
        for (int k = 0; same && k < x->rank; k++) same = x->d[k] == y->d[k];
        if (!same) return lk_xfmt("adapter tensor %s has another shape or type in the %s", x->name, other_name);
    }
    return NULL;
}
static char *adapters_differ(const char *path_a, const char *path_b) {
    lk_st *a = NULL, *b = NULL;
    char *found = NULL;
    lk_err e = lk_st_open(path_a, &a);
    if (!e) e = lk_st_open(path_b, &b);
    if (!e) found = tensors_differ(a, b, "second");
    if (!e && !found) found = tensors_differ(b, a, "first");
    for (int i = 0; !e && !found && i < lk_st_count(a); i++) {
        const lk_tensor *x = lk_st_at(a, i), *y = lk_st_find(b, x->name);
        if (!memcmp(x->data, y->data, x->bytes)) continue;
        found = lk_xfmt("adapter tensor %s", x->name);
        for (int64_t k = 0; x->dtype == LK_ST_F32 && k < x->numel; k++) {
            float u, v;
            memcpy(&u, (const char *)x->data + 4 * k, 4); memcpy(&v, (const char *)y->data + 4 * k, 4);
            if (!memcmp(&u, &v, 4)) continue;
            char where[400];
            snprintf(where, sizeof where, "adapter tensor %.300s, value %" PRId64, x->name, k);
            free(found);
            found = say(where, u, v);
            break;
        }
    }
    if (a) lk_st_close(a);
    if (b) lk_st_close(b);
    if (e) found = lk_xstrdup(lk_err_text(e));
    lk_err_free(e);
    return found;
}
char *difference_of(const lk_run *a, const char *adapter_a, const lk_run *b, const char *adapter_b) {
    char *d = metrics_differ(a, b, "second");
    if (!d) d = metrics_differ(b, a, "first");
    if (!d) d = samples_differ(a, b);
    if (!d) d = finals_differ(a, b, "second");
    if (!d) d = finals_differ(b, a, "first");
    bool has_a = !access(adapter_a, F_OK), has_b = !access(adapter_b, F_OK);
    if (!d && has_a != has_b) d = lk_xstrdup("only one has an adapter");
    if (!d && has_a) d = adapters_differ(adapter_a, adapter_b);
    return d;
}
