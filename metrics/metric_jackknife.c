/* Standard errors of statistics that have no formula of their own: the delete-one-group jackknife (Efron & Tibshirani 1993, chapter 11), groups i mod G
 * of both sets at once, as the Frechet distance has it. */
#include "metrics/metric.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { GROUPS = 20 };
static lk_metric_side without(lk_metric_side s, int64_t d, int groups, int g, double *to) {
    lk_metric_side rest = { .x = to };
    for (int64_t i = 0; s.x && i < s.n; i++) if (i % groups != g) memcpy(to + rest.n++ * d, s.x + i * d, (size_t)d * sizeof *to);
    return rest;
}
lk_err lk_result_jackknife(const lk_metric *m, lk_pool *pool, lk_metric_statistic f, bool two_sets, int64_t most, lk_metric_result *r) {
    const lk_metric_side a = lk_metric_side_of(m, 0), b = two_sets ? lk_metric_side_of(m, 1) : (lk_metric_side){ 0 };
    const int64_t d = lk_metric_dim(m), least = two_sets && b.n < a.n ? b.n : a.n;
    const int asked = lk_metric_options_of(m)->groups, groups = asked ? asked : GROUPS;
    if (asked < 0) return LK_OK;
    if (!asked && least < 2 * GROUPS) { lk_result_warn(r, "fewer than %d samples a side: no jackknife, no standard error", 2 * GROUPS); return LK_OK; }
    if (!asked && a.n + b.n > most) { lk_result_warn(r, "%lld samples: the statistic again for each of %d groups takes long; --groups %d asks for its standard error", (long long)(a.n + b.n), GROUPS, GROUPS); return LK_OK; }
    if (groups < 2 || least < 2 * groups) return lk_error(LK_EINPUT, "a jackknife over %d groups needs at least %d samples in each set (%lld are given); ask for none", groups, 2 * groups, (long long)least);
    double *room = lk_xmalloc((size_t)((a.n + b.n) * d + groups) * sizeof *room), *part = room + (a.n + b.n) * d, mean = 0, squares = 0;
    lk_err e = LK_OK;
    for (int g = 0; g < groups && !e; g++) {
        lk_metric_side x = without(a, d, groups, g, room), y = without(b, d, groups, g, room + a.n * d);
        e = f(m, pool, &x, &y, part + g);
        mean += part[g] / groups;
    }
    for (int g = 0; g < groups; g++) squares += (part[g] - mean) * (part[g] - mean);
    free(room);
    LK_TRY(e);
    lk_result_interval(r, sqrt((groups - 1.0) / groups * squares), groups, "groups", "jackknife over groups");
    return LK_OK;
}
