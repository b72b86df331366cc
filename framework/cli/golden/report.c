/* Counting and printing of comparisons. */
#include "cli/golden/golden.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static void count(lk_golden *g, bool ok) { if (ok) g->passed++; else g->failed++; }

void lk_golden_check(lk_golden *g, bool ok, const char *fmt, ...) {
    va_list ap;
    va_start(ap, fmt);
    printf("  %s ", ok ? "ok  " : "FAIL");
    vprintf(fmt, ap);
    printf("\n");
    va_end(ap);
    count(g, ok);
}
void lk_golden_failed(lk_golden *g, const char *what, lk_err e) {
    if (!e) return;
    lk_golden_check(g, false, "%s: %s", what, lk_err_text(e));
    lk_err_free(e);
}
bool lk_golden_tensor(lk_golden *g, const char *name, const double *got, const double *want, int64_t n, lk_golden_tol tol) {
    double worst = 0, error = 0, norm = 0;
    bool finite = got != NULL && want != NULL;
    for (int64_t i = 0; finite && i < n; i++) {
        double d = fabs(got[i] - want[i]);
        if (!(d <= INFINITY)) finite = false;                      /* NaN in either */
        if (d > worst) worst = d;
        error += d * d;
        norm += want[i] * want[i];
    }
    double rel = norm > 0 ? sqrt(error / norm) : 0;
    bool ok = finite && worst <= tol.max_abs && rel <= tol.rel_l2;
    if (!finite) lk_golden_check(g, false, "%-60s not finite, or missing", name);
    else lk_golden_check(g, ok, "%-60s max %.2e (tol %.1e)  rel %.2e (tol %.1e)", name, worst, tol.max_abs, rel, tol.rel_l2);
    return ok;
}
bool lk_golden_number(lk_golden *g, const char *name, double got, double want, double tol) {
    bool ok = fabs(got - want) <= tol;
    lk_golden_check(g, ok, "%-60s %.9g, want %.9g  error %.2e (tol %.1e)", name, got, want, fabs(got - want), tol);
    return ok;
}
bool lk_golden_tolerance(lk_golden *g, const json_t *obj, const char *name, lk_golden_tol *tol) {
    const json_t *t = json_object_get(obj, name);
    tol->max_abs = json_number_value(json_object_get(t, "max_abs"));
    tol->rel_l2 = json_number_value(json_object_get(t, "rel_l2"));
    if (t) return true;
    lk_golden_check(g, false, "%s: the case states no tolerance", name);
    return false;
}
