/* layer, rms and group norm with gradients against scalar loops that follow rules 3 and 4 of
 * docs/numerics.md step by step (every intermediate value stored), bit for bit, and against binary64. */
#include "tests/backend/kernel_call.h"
#include "base/exact_math.h"
#include "graph/internal.h"

/* One row (or group) at a time; gamma and beta are given per element, NULL for none. */
typedef struct { const float *x, *dy, *gamma, *beta; int64_t n; float eps; bool silu, rms; } row;
static void oracle(const row *r, float *y, float *dx, int order) {
    int64_t n = r->n;
    float *t = lk_xmalloc((size_t)n * 4), *xhat = lk_xmalloc((size_t)n * 4), *g = lk_xmalloc((size_t)n * 4);
    float mean = r->rms ? 0.0f : kc_rule3(r->x, n, order) / (float)n;
    for (int64_t i = 0; i < n; i++) { float d = r->rms ? r->x[i] : r->x[i] - mean; t[i] = d * d; }
    float rinv = 1.0f / sqrtf(kc_rule3(t, n, order) / (float)n + r->eps);
    for (int64_t i = 0; i < n; i++) xhat[i] = (r->rms ? r->x[i] : r->x[i] - mean) * rinv;
    for (int64_t i = 0; i < n; i++) {
        float h = r->gamma ? xhat[i] * r->gamma[i] : xhat[i];
        if (r->beta) h = h + r->beta[i];
        float s = 1.0f / (1.0f + lk_expf(-h));
        y[i] = r->silu ? h * s : h;
        g[i] = r->silu ? r->dy[i] * (s * (1.0f + h * (1.0f - s))) : r->dy[i];
        if (r->gamma) g[i] = g[i] * r->gamma[i];
    }
    float mg = r->rms ? 0.0f : kc_rule3(g, n, order) / (float)n;
    for (int64_t i = 0; i < n; i++) t[i] = g[i] * xhat[i];
    float mgx = kc_rule3(t, n, order) / (float)n;
    for (int64_t i = 0; i < n; i++) {
        float u = r->rms ? g[i] : g[i] - mg;
        u = u - xhat[i] * mgx;
        dx[i] = u * rinv;
    }
    free(t); free(xhat); free(g);
}
/* The same in binary64. Besides a few roundings of the terms themselves, the mean is rounded in units of the
 * largest |x|, which division by a small deviation enlarges: that is `blur`. */
static void close_to_f64(const row *r, const float *y, const float *dx) {
    int64_t n = r->n;
    double size = 0, mean = 0, var = 0, mg = 0, mgx = 0, *g = lk_xmalloc((size_t)n * 8);
    for (int64_t i = 0; i < n && !r->rms; i++) mean += r->x[i] / (double)n;
    for (int64_t i = 0; i < n; i++) var += (r->x[i] - mean) * (r->x[i] - mean) / (double)n;
    double rinv = 1 / sqrt(var + r->eps);
    for (int64_t i = 0; i < n; i++) size = fmax(size, fabs(r->x[i]));
    double blur = 1 + size * rinv;
    for (int64_t i = 0; i < n; i++) {
        double h = (r->x[i] - mean) * rinv * (r->gamma ? r->gamma[i] : 1) + (r->beta ? r->beta[i] : 0), s = 1 / (1 + exp(-h));
        CHECK_CLOSE(y[i], r->silu ? h * s : h, 1e-6 * blur * (1 + fabs(h)));
        g[i] = (r->silu ? r->dy[i] * (s * (1 + h * (1 - s))) : r->dy[i]) * (r->gamma ? r->gamma[i] : 1);
        mg += r->rms ? 0 : g[i] / (double)n; mgx += g[i] * (r->x[i] - mean) * rinv / (double)n;
    }
    for (int64_t i = 0; i < n; i++) {
        double xhat = (r->x[i] - mean) * rinv;
        CHECK_CLOSE(dx[i], (g[i] - mg - xhat * mgx) * rinv, 1e-6 * blur * rinv * (1 + fabs(g[i]) + fabs(mg) + fabs(xhat * mgx)));
    }
    free(g);
}

typedef enum { LAYER, RMS, GROUP } kind;
static bool told[KC_ORDERS];
/* affine: 0 none, 1 gamma (and beta, but for rms) */
static void check_norm(kind k, lk_shape shape, int groups, bool affine, bool silu) {
    int64_t all = kc_numel(shape), channels = k == GROUP ? shape.d[1] : shape.d[shape.rank - 1], span = 1;
    for (int i = 2; i < shape.rank && k == GROUP; i++) span *= shape.d[i];
    int64_t n = k == GROUP ? channels / groups * span : channels;
    float *x = kc_fill(all, 11), *dy = kc_fill(all, 12), *gamma = kc_fill(channels, 13), *beta = kc_fill(channels, 14);
    float *y = lk_xmalloc((size_t)all * 4), *dx = lk_xmalloc((size_t)all * 4), *wy = lk_xmalloc((size_t)n * 4), *wdx = lk_xmalloc((size_t)n * 4);
    float *ge = lk_xmalloc((size_t)n * 4), *be = lk_xmalloc((size_t)n * 4);
    for (int64_t i = 0; i < all; i++) x[i] += 0.3f;
    for (int64_t at = 0; at < all; at += n) {
        for (int64_t i = 0; i < n; i++) { int64_t c = k == GROUP ? (at + i) / span % channels : i; ge[i] = gamma[c]; be[i] = beta[c]; }
        row r = {x + at, dy + at, affine ? ge : NULL, affine && k != RMS ? be : NULL, n, (float)1e-5, silu, k == RMS};
        oracle(&r, y + at, dx + at, KC_RULE);
        close_to_f64(&r, y + at, dx + at);
        for (int order = 1; order < KC_ORDERS; order++) {
            oracle(&r, wy, wdx, order);
            told[order] |= kc_first_difference(wy, y + at, n) >= 0 && kc_first_difference(wdx, dx + at, n) >= 0;
        }
    }
    static const lk_op forward[] = {LK_OP_layer_norm, LK_OP_rms_norm, LK_OP_group_norm}, backward[] = {LK_OP_layer_norm_dx, LK_OP_rms_norm_dx, LK_OP_group_norm_dx};
    static const char *const name[] = {"layer_norm", "rms_norm", "group_norm"};
    lk_attr attr = {.norm = {groups, 1e-5, silu}};
    lk_shape c1 = LK_SHAPE(channels);
    int more = !affine ? 0 : k == RMS ? 1 : 2, more_dx = !affine ? 0 : k == GROUP ? 2 : 1;
    char what[100]; snprintf(what, sizeof what, "%s n %lld affine %d silu %d", name[k], (long long)n, affine, silu);
    kc_case f = {forward[k], attr, LK_F32, shape, 1 + more, {shape, c1, c1}, {x, gamma, beta}};
    kc_check(what, &f, y, NULL);
    strcat(what, " dx");
    kc_case b = {backward[k], attr, LK_F32, shape, 2 + more_dx, {shape, shape, c1, c1}, {x, dy, gamma, beta}};
    kc_check(what, &b, dx, NULL);
    free(x); free(dy); free(gamma); free(beta); free(y); free(dx); free(wy); free(wdx); free(ge); free(be);
}
static const int64_t widths[] = {1, 3, 31, 32, 64, 77, 320, 1000, 4096, 5003};
#define EACH_WIDTH(w) for (int w = 0; w < (int)(sizeof widths / sizeof *widths); w++)

TEST(layer_norm_and_its_gradient) { EACH_WIDTH(w) for (int affine = 0; affine < 2; affine++) check_norm(LAYER, LK_SHAPE(2, 3, widths[w]), 0, affine, false); }
TEST(rms_norm_and_its_gradient)   { EACH_WIDTH(w) for (int affine = 0; affine < 2; affine++) check_norm(RMS, LK_SHAPE(2, 3, widths[w]), 0, affine, false); }
TEST(group_norm_and_its_gradient) {
    static const struct { lk_shape shape; int groups; } cases[] = {
        {{4, {2, 8, 5, 7}}, 4}, {{4, {2, 8, 4, 8}}, 2}, {{4, {1, 6, 1, 1}}, 3}, {{2, {3, 64}}, 32}, {{3, {2, 12, 49}}, 1}, {{4, {2, 64, 16, 16}}, 32}, {{4, {1, 4, 37, 61}}, 2}, {{4, {1, 8, 64, 64}}, 2},
    };
    for (int k = 0; k < (int)(sizeof cases / sizeof *cases); k++) for (int f = 0; f < 4; f++) check_norm(GROUP, cases[k].shape, cases[k].groups, f & 1, f & 2);
}
TEST(planted_orders_are_told_apart) {
    for (int affine = 0; affine < 2; affine++) check_norm(LAYER, LK_SHAPE(3, 4096 * 9 + 7), 0, affine, false);
    for (int order = 1; order < KC_ORDERS; order++) CHECK_MSG(told[order], "no norm tells planted order %d from the rule", order);
}

/* ---- the fused kernel against its decomposition, both through the executor ------------------------------ */
static float *column(lk_graph *g, lk_exec *exec, lk_val v) {
    int64_t n = kc_numel(lk_shape_of(g, v));
    float *x = lk_xmalloc((size_t)n * 4);
    CHECK_OK(lk_exec_get(exec, v, x, n));
    return x;
}
static void fused_equals_parts(lk_op op, lk_shape shape, lk_norm norm, int n_in) {
    for (lk_isa isa = LK_ISA_SCALAR; isa <= LK_ISA_AVX512; isa++) {
        const lk_backend *backend;
        lk_err e = lk_backend_cpu(isa, &backend);
        if (e) { lk_err_free(e); continue; }
        bool grouped = op == LK_OP_group_norm || op == LK_OP_group_norm_dx, dx = op == LK_OP_layer_norm_dx || op == LK_OP_rms_norm_dx
            || op == LK_OP_group_norm_dx || op == LK_OP_softmax_dx;
        lk_graph *g = lk_graph_new();
        lk_attr attr = {.norm = norm};
        lk_val in[4];
        for (int i = 0; i < n_in; i++)
            in[i] = lk_input(g, (const char *[]){"a", "b", "c", "d"}[i], LK_F32, i < 1 + dx ? shape : LK_SHAPE(grouped ? shape.d[1] : shape.d[shape.rank - 1]));
        lk_val y = lk_emit(g, op, in, n_in, &attr), parts = lk_decompose(g, y), out[2] = {y, parts};
        CHECK_OK(lk_graph_error(g));
        lk_exec *exec;
        CHECK_OK(lk_exec_new(g, out, 2, (lk_exec_opts){.backend = backend}, &exec));
        for (int i = 0; i < n_in; i++) {
            int64_t n = kc_numel(lk_shape_of(g, in[i]));
            float *x = kc_fill(n, 61 + (uint64_t)i);
            CHECK_OK(lk_exec_set(exec, in[i], x, n));
            free(x);
        }
        CHECK_OK(lk_exec_run(exec));
        float *a = column(g, exec, y), *b = column(g, exec, parts);
        int64_t at = kc_first_difference(a, b, kc_numel(shape));
        CHECK_MSG(y.id != parts.id && at < 0, "%s, %d inputs, %s: element %lld fused %a, from parts %a", lk_op_name(op), n_in, lk_isa_name(backend), (long long)at,
                  at < 0 ? 0 : a[at], at < 0 ? 0 : b[at]);
        free(a); free(b);
        lk_exec_free(exec);
        lk_graph_free(g);
    }
}
TEST(fused_equals_decomposed) {
    static const int64_t sizes[] = {1, 7, 64, 99, 4100};
    for (int w = 0; w < 5; w++) {
        lk_shape rows = LK_SHAPE(3, 2, sizes[w]);
        lk_norm plain = {.eps = 1e-5};
        fused_equals_parts(LK_OP_softmax, rows, (lk_norm){0}, 1); fused_equals_parts(LK_OP_softmax_dx, rows, (lk_norm){0}, 2);
        fused_equals_parts(LK_OP_layer_norm, rows, plain, 1); fused_equals_parts(LK_OP_layer_norm, rows, plain, 3);
        fused_equals_parts(LK_OP_layer_norm_dx, rows, plain, 2); fused_equals_parts(LK_OP_layer_norm_dx, rows, plain, 3);
        fused_equals_parts(LK_OP_rms_norm, rows, plain, 1); fused_equals_parts(LK_OP_rms_norm, rows, plain, 2);
        fused_equals_parts(LK_OP_rms_norm_dx, rows, plain, 2); fused_equals_parts(LK_OP_rms_norm_dx, rows, plain, 3);
        for (int silu = 0; silu < 2; silu++) for (int affine = 0; affine < 3; affine += 2) {
            lk_norm group = {.groups = 3, .eps = 1e-6, .silu = silu};
            fused_equals_parts(LK_OP_group_norm, LK_SHAPE(2, 6, sizes[w], 3), group, 1 + affine);
            fused_equals_parts(LK_OP_group_norm_dx, LK_SHAPE(2, 6, sizes[w], 3), group, 2 + affine);
        }
    }
}
