/* The cpu's fast tier: 3 x 3 convolutions and their gradients to the input by F(4,3), against plain loops in binary64; the same bits from every
 * instruction set and number of threads; the rest of the tier is the exact one.
 * Tolerance: of an output, relative to the sum of |x||w| over its taps at its worst place. F(4,3) multiplies values up to 10 |d| (rows of B^T) twice by
 * filters of up to 1 and returns through rows of A^T of up to 18; what comes of it is measured: 1e-6 at worst, 17 binary32 roundings, held to twice that. */
#include "tests/lib/lk_test.h"
#include "backend/backend.h"
#include <stdlib.h>

static const double TOLERANCE = 2e-6;
typedef struct { int64_t n, c, h, w, o; int pad[4]; } conv;
static float draw(uint64_t *s) { *s = *s * 6364136223846793005u + 1442695040888963407u; return (float)(uint32_t)(*s >> 40) * 0x1p-23f - 1; }
static float *drawn(int64_t n, uint64_t seed) { float *p = lk_xaligned((size_t)n * sizeof *p); for (int64_t i = 0; i < n; i++) p[i] = draw(&seed); return p; }

/* Direct, in binary64: value and the sum of magnitudes. dx: the adjoint of the same loops. */
static void direct(const conv *v, bool dx, const float *x, const float *w, const float *bias, double *y, double *size) {
    const int64_t oh = v->h + v->pad[0] + v->pad[2] - 2, ow = v->w + v->pad[1] + v->pad[3] - 2, count = dx ? v->n * v->c * v->h * v->w : v->n * v->o * oh * ow;
    for (int64_t i = 0; i < count; i++) y[i] = size[i] = 0;
    for (int64_t n = 0; n < v->n; n++) for (int64_t o = 0; o < v->o; o++) for (int64_t c = 0; c < v->c; c++)
        for (int64_t i = 0; i < oh; i++) for (int64_t j = 0; j < ow; j++) for (int a = 0; a < 3; a++) for (int b = 0; b < 3; b++) {
            const int64_t r = i + a - v->pad[0], q = j + b - v->pad[1];
            if (r < 0 || r >= v->h || q < 0 || q >= v->w) continue;
            const int64_t in = ((n * v->c + c) * v->h + r) * v->w + q, out = ((n * v->o + o) * oh + i) * ow + j, to = dx ? in : out;
            const double term = (double)x[dx ? out : in] * w[((o * v->c + c) * 3 + a) * 3 + b];
            y[to] += term; size[to] += fabs(term);
        }
    for (int64_t i = 0; bias && i < count; i++) y[i] += bias[i / (oh * ow) % v->o];
}
static void computed(const conv *v, bool dx, const lk_backend *b, int threads, const float *x, const float *w, const float *bias, float *out, int64_t n) {
    lk_graph *g = lk_graph_new();
    const int64_t oh = v->h + v->pad[0] + v->pad[2] - 2, ow = v->w + v->pad[1] + v->pad[3] - 2;
    lk_conv attr = {.pad = {v->pad[0], v->pad[1], v->pad[2], v->pad[3]}};
    lk_val vx = lk_input(g, "x", LK_F32, dx ? LK_SHAPE(v->n, v->o, oh, ow) : LK_SHAPE(v->n, v->c, v->h, v->w)), vw = lk_input(g, "w", LK_F32, LK_SHAPE(v->o, v->c, 3, 3)), vb = dx ? LK_NONE : lk_input(g, "b", LK_F32, LK_SHAPE(v->o));
    if (dx) { attr.size[0] = (int)v->h; attr.size[1] = (int)v->w; }
    lk_val y = dx ? lk_conv2d_dx(g, vx, vw, attr) : lk_conv2d(g, vx, vw, vb, attr);
    lk_pool *pool = threads > 1 ? lk_pool_new(threads) : NULL;
    lk_exec *e = NULL;
    CHECK_OK(lk_graph_error(g));
    CHECK_OK(lk_exec_new(g, &y, 1, (lk_exec_opts){.backend = b, .pool = pool}, &e));
    CHECK_OK(lk_exec_set(e, vx, x, lk_numel(lk_shape_of(g, vx))));
    CHECK_OK(lk_exec_set(e, vw, w, lk_numel(lk_shape_of(g, vw))));
    if (!dx) CHECK_OK(lk_exec_set(e, vb, bias, v->o));
    CHECK_OK(lk_exec_run(e));
    CHECK_OK(lk_exec_get(e, y, out, n));
    lk_exec_free(e); lk_pool_free(pool); lk_graph_free(g);
}
static double distance(const float *got, const double *want, const double *size, int64_t n) {
    double worst = 0, most = 0;
    for (int64_t i = 0; i < n; i++) { double d = fabs(got[i] - want[i]); if (!(d <= worst)) worst = d; if (size[i] > most) most = size[i]; }
    return worst / most;
}
static double worst_of_all;
static void try_conv(conv v) {
    for (int dx = 0; dx < 2; dx++) {
        const int64_t oh = v.h + v.pad[0] + v.pad[2] - 2, ow = v.w + v.pad[1] + v.pad[3] - 2, inputs = v.n * v.c * v.h * v.w, outputs = v.n * v.o * oh * ow, n = dx ? inputs : outputs;
        float *x = drawn(dx ? outputs : inputs, 3), *w = drawn(v.o * v.c * 9, 5), *bias = drawn(v.o, 7), *first = lk_xmalloc((size_t)n * sizeof *first), *next = lk_xmalloc((size_t)n * sizeof *next);
        double *want = lk_xmalloc((size_t)n * sizeof *want), *size = lk_xmalloc((size_t)n * sizeof *size);
        direct(&v, dx, x, w, dx ? NULL : bias, want, size);
        bool any = false;
        for (int isa = LK_ISA_SCALAR; isa <= LK_ISA_AVX512; isa++) {
            const lk_backend *fast, *exact;
            lk_err e = lk_backend_cpu_fast((lk_isa)isa, &fast);
            if (e) { lk_err_free(e); continue; }
            CHECK_OK(lk_backend_cpu((lk_isa)isa, &exact));
            for (int threads = 1; threads <= 3; threads += 2) {
                computed(&v, dx, fast, threads, x, w, bias, any ? next : first, n);
                if (any) CHECK_MSG(!memcmp(first, next, (size_t)n * sizeof *first), "%s, %d threads: other bits", lk_isa_name(fast), threads);
                any = true;
            }
            computed(&v, dx, exact, 1, x, w, bias, next, n);
            CHECK_MSG(memcmp(first, next, (size_t)n * sizeof *first), "the exact tier's bits: Winograd did not run");
        }
        const double d = distance(first, want, size, n);
        CHECK_MSG(d <= TOLERANCE, "%s n%lld c%lld %lldx%lld o%lld pad %d,%d: %g", dx ? "conv2d_dx" : "conv2d", (long long)v.n, (long long)v.c, (long long)v.h, (long long)v.w, (long long)v.o, v.pad[0], v.pad[1], d);
        if (d > worst_of_all) worst_of_all = d;
        want[n / 2] += 1e-4 * size[n / 2] + 1e-2 * fabs(want[n / 2]);                     /* planted */
        CHECK(!(distance(first, want, size, n) <= TOLERANCE));
        free(x); free(w); free(bias); free(first); free(next); free(want); free(size);
    }
}
TEST(close_to_binary64) {
    try_conv((conv){2, 16, 16, 16, 20, {1, 1, 1, 1}});
    try_conv((conv){9, 40, 7, 9, 17, {1, 1, 1, 1}});
    try_conv((conv){60, 17, 5, 6, 33, {0, 0, 0, 0}});
    try_conv((conv){20, 16, 11, 4, 16, {0, 1, 1, 0}});
    try_conv((conv){520, 16, 3, 3, 16, {0, 0, 0, 0}});
    try_conv((conv){6, 20, 6, 13, 18, {2, 2, 2, 2}});
    try_conv((conv){33, 64, 4, 4, 32, {1, 1, 1, 1}});
    printf("  worst %.2g of %.2g\n", worst_of_all, TOLERANCE);
}
TEST(the_rest_is_the_exact_tier) {
    const lk_backend *fast, *exact;
    CHECK_OK(lk_backend_cpu_fast(LK_ISA_SCALAR, &fast));
    CHECK_OK(lk_backend_cpu(LK_ISA_SCALAR, &exact));
    for (int op = 0; op < LK_OP_COUNT; op++) CHECK((fast->kernel[op] == exact->kernel[op]) == (op != LK_OP_conv2d && op != LK_OP_conv2d_dx));
    conv left[] = {{7, 8, 9, 9, 16, {1, 1, 1, 1}}, {2, 16, 9, 9, 16, {1, 1, 1, 1}}};       /* too few channels for it, too few pixels */
    enum { N = 7 * 16 * 81 };
    float *x = drawn(7 * 16 * 81, 3), *w = drawn(16 * 16 * 9, 5), *bias = drawn(16, 7);
    static float a[N], b[N];
    for (int i = 0; i < 2; i++) {
        computed(left + i, false, fast, 1, x, w, bias, a, left[i].n * 16 * 81);
        computed(left + i, false, exact, 1, x, w, bias, b, left[i].n * 16 * 81);
        CHECK(!memcmp(a, b, sizeof(float) * (size_t)(left[i].n * 16 * 81)));
    }
    free(x); free(w); free(bias);
}
/* By name: its tier is another, so its runs have identities of their own. */
TEST(chosen_by_name) {
    const lk_backend *b;
    CHECK(!strcmp(lk_backend_tier("cpu-fast"), "fast winograd") && !strcmp(lk_backend_tier("cpu"), "exact"));
    CHECK_OK(lk_backend_choose("cpu-fast"));
    CHECK_OK(lk_backend_default(&b));
    CHECK(!strcmp(b->name, "cpu-fast"));
    CHECK_OK(lk_backend_choose("cpu"));
    CHECK_FAILS(lk_backend_choose("cpu-quick"), "cpu-fast");
}
