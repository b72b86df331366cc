/* The table of a profile: time by operation, then the dearest steps. The first run is left out where there are others: it
 * touches memory for the first time and packs weights. */
#include "backend/profile.h"
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MAX_KINDS = LK_OP_COUNT + 8, DEAREST = 24 };
struct lk_profile { int n, runs; double *first, *rest; /* seconds by step */ };
typedef struct { const char *kind; double seconds; int64_t flops, bytes; int calls; } row;

lk_profile *lk_profile_new(int n_steps) {
    const char *on = getenv("LK_PROFILE");
    if (!on || !*on || !strcmp(on, "0")) return NULL;
    lk_profile *p = lk_xcalloc(1, sizeof *p);
    *p = (lk_profile){.n = n_steps, .first = lk_xcalloc((size_t)n_steps + 1, sizeof(double)), .rest = lk_xcalloc((size_t)n_steps + 1, sizeof(double))};
    return p;
}
double lk_profile_clock(const lk_pool *pool) {
    struct timespec t;
    clock_gettime(lk_pool_threads(pool) > 1 ? CLOCK_MONOTONIC : CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
void lk_profile_add(lk_profile *p, int step, double seconds) { (p->runs ? p->rest : p->first)[step] += seconds; }
void lk_profile_run(lk_profile *p) { p->runs++; }
void lk_profile_free(lk_profile *p) {
    if (!p) return;
    free(p->first); free(p->rest);
    free(p);
}

static double seconds_of(const lk_profile *p, int step) { return p->runs > 1 ? p->rest[step] / (p->runs - 1) : p->first[step]; }
static int dearer(const void *a, const void *b) {
    double x = ((const row *)a)->seconds, y = ((const row *)b)->seconds;
    return (x < y) - (x > y);
}
static void line(lk_buf *text, const row *r, double all, const char *what) {
    double s = r->seconds > 0 ? r->seconds : 1e-12;
    lk_buf_fmt(text, "  %9.3f ms %5.1f%% %5d x", r->seconds * 1e3, 100 * r->seconds / all, r->calls);
    if (r->flops) lk_buf_fmt(text, " %7.1f GFLOP/s", (double)r->flops / s * 1e-9); else lk_buf_fmt(text, " %15s", "");
    lk_buf_fmt(text, " %6.1f GB/s  %s\n", (double)r->bytes / s * 1e-9, what);
}

void lk_profile_text(const lk_profile *p, const lk_profile_step *step, lk_buf *text) {
    row kinds[MAX_KINDS], *each = lk_xcalloc((size_t)p->n + 1, sizeof *each);
    int n_kinds = 0;
    double all = 1e-12;
    for (int i = 0; i < p->n; i++) {
        int k = 0;
        while (k < n_kinds && strcmp(kinds[k].kind, step[i].kind)) k++;
        if (k == MAX_KINDS) continue;
        if (k == n_kinds) kinds[n_kinds++] = (row){.kind = step[i].kind};
        each[i] = (row){.kind = step[i].text, .seconds = seconds_of(p, i), .flops = step[i].flops, .bytes = step[i].bytes, .calls = 1};
        kinds[k].seconds += each[i].seconds; kinds[k].flops += each[i].flops; kinds[k].bytes += each[i].bytes; kinds[k].calls++;
        all += each[i].seconds;
    }
    qsort(kinds, (size_t)n_kinds, sizeof *kinds, dearer);
    qsort(each, (size_t)p->n, sizeof *each, dearer);
    lk_buf_fmt(text, "profile: %d runs, %.3f ms a run in %d steps\n", p->runs, all * 1e3, p->n);
    for (int i = 0; i < n_kinds; i++) line(text, &kinds[i], all, kinds[i].kind);
    lk_buf_fmt(text, "dearest steps\n");
    for (int i = 0; i < p->n && i < DEAREST; i++) line(text, &each[i], all, each[i].kind);
    free(each);
}
