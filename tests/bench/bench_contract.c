/* Times one contraction a line, for tests/bench/bench.sh, which asks a peer the same in turn.
 *   stdin:  kind N C H W O k stride pad groups      kind: conv, conv_dx, conv_dw (a frozen: weights packed before, as conv_frozen)
 *           kind M K N                              kind: nn (a b), nt (a b^T: a linear layer), tn (a^T b: its weights' gradient)
 *           kind B H Tq Tk D                        kind: sdpa
 *   stdout: seconds of the fastest of a few calls. With one thread they are the thread's own seconds, on both
 *           sides: what else the machine does then disturbs less.
 * Usage: bench_contract THREADS */
#include "backend/backend.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const lk_backend *backend;
static lk_pool *pool;

static float *values(int64_t n) { float *p = lk_xaligned((size_t)(n + 16) * 4); for (int64_t i = 0; i < n; i++) p[i] = (float)((i * 7919) % 2003 - 1001) * 0x1p-10f; return p; }
static double now(void) {
    struct timespec t;
    clock_gettime(pool ? CLOCK_MONOTONIC : CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
static double fastest(lk_graph *g, lk_val v, bool frozen) {
    const lk_node *node = lk_graph_node(g, v);
    lk_shape in_shape[4]; void *in[4] = {0}; const void *packed[4] = {0};
    for (int i = 0; i < node->n_in; i++) { in_shape[i] = lk_shape_of(g, node->in[i]); in[i] = values(lk_numel(in_shape[i])); }
    if (frozen && backend->pack_form(g, node, 1)) {
        float *p = values(lk_numel(in_shape[1]));
        backend->pack(g, node, 1, &(lk_stored){.data = in[1]}, p, NULL);
        packed[1] = p;
    }
    int64_t work = backend->workspace(g, node, lk_pool_threads(pool));
    float *out = values(lk_numel(node->shape));
    void *w = lk_xaligned((size_t)work + 64);
    lk_kernel_call call = {.node = node, .out = out, .in = in, .in_shape = in_shape, .work = w, .packed = packed, .pool = pool};
    double best = 1e9, start = now();
    for (int i = 0; i < 3 || (now() - start < 0.06 && i < 2000); i++) {
        double t = now();
        backend->kernel[node->op](&call);
        t = now() - t;
        if (t < best) best = t;
    }
    for (int i = 0; i < node->n_in; i++) free(in[i]);
    free((void *)packed[1]); free(out); free(w);
    return best;
}
static lk_val leaf(lk_graph *g, const char *name, lk_shape s) { return lk_input(g, name, LK_F32, s); }
static lk_val node_of(lk_graph *g, const char *kind, const long *a, int n) {
    if (strstr(kind, "conv") && n == 9) {
        lk_conv c = {.stride = {(int)a[6], (int)a[6]}, .pad = {(int)a[7], (int)a[7], (int)a[7], (int)a[7]}, .groups = (int)a[8]};
        lk_val x = leaf(g, "x", LK_SHAPE(a[0], a[1], a[2], a[3])), w = leaf(g, "w", LK_SHAPE(a[4], a[1] / a[8], a[5], a[5]));
        lk_val y = lk_conv2d(g, x, w, LK_NONE, c), dy = leaf(g, "dy", lk_shape_of(g, y));
        c.size[0] = (int)a[2]; c.size[1] = (int)a[3];
        if (strstr(kind, "_dx")) return lk_conv2d_dx(g, dy, w, c);
        c.size[0] = c.size[1] = (int)a[5];
        return strstr(kind, "_dw") ? lk_conv2d_dw(g, x, dy, c) : y;
    }
    if (!strncmp(kind, "sdpa", 4) && n == 5)
        return lk_sdpa(g, leaf(g, "q", LK_SHAPE(a[0], a[2], a[1] * a[4])), leaf(g, "k", LK_SHAPE(a[0], a[3], a[1] * a[4])), leaf(g, "v", LK_SHAPE(a[0], a[3], a[1] * a[4])), LK_NONE, (lk_sdpa_attr){.heads = (int)a[1]});
    if (n != 3) return LK_NONE;
    bool ta = kind[0] == 't', tb = kind[1] == 't';
    return lk_matmul(g, leaf(g, "a", ta ? LK_SHAPE(a[1], a[0]) : LK_SHAPE(a[0], a[1])), leaf(g, "b", tb ? LK_SHAPE(a[2], a[1]) : LK_SHAPE(a[1], a[2])), LK_NONE, (lk_mm){ta, tb});
}
int main(int argc, char **argv) {
    lk_err e = lk_backend_cpu(LK_ISA_AUTO, &backend);
    if (e) return lk_err_report(e);
    int threads = argc > 1 ? atoi(argv[1]) : lk_default_threads();
    pool = threads > 1 ? lk_pool_new(threads) : NULL;
    char line[256], kind[32];
    while (fgets(line, sizeof line, stdin)) {
        long a[9]; int used = 0, n = 0;
        if (sscanf(line, "%31s%n", kind, &used) != 1) continue;
        for (char *p = line + used, *end; n < 9; p = end) { a[n] = strtol(p, &end, 10); if (end == p) break; n++; }
        lk_graph *g = lk_graph_new();
        lk_val v = node_of(g, kind, a, n);
        if ((e = lk_graph_error(g))) return lk_err_report(e);
        printf("%.9f\n", lk_ok(v) ? fastest(g, v, strstr(kind, "frozen")) : -1.0);
        fflush(stdout);
        lk_graph_free(g);
    }
    lk_pool_free(pool);
}
