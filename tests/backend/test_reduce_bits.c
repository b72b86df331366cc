/* Reductions, softmax and movement against rule-following scalar loops written here, bit for bit. */
#include "tests/backend/kernel_call.h"
#include "base/exact_math.h"

/* ---- the oracle of a reduction: gather each output's elements in row-major order of the reduced axes ---- */
typedef struct { lk_shape in; bool red[LK_MAX_RANK]; int64_t outputs, count; } plan;
static plan plan_of(lk_shape in, lk_axes axes) {
    plan p = {.in = in, .outputs = 1, .count = 1};
    for (int i = 0; i < axes.n; i++) p.red[(axes.axis[i] + in.rank) % in.rank] = true;
    for (int i = 0; i < in.rank; i++) { if (p.red[i]) p.count *= in.d[i]; else p.outputs *= in.d[i]; }
    return p;
}
static int64_t element(const plan *p, int64_t output, int64_t index) {
    int64_t at = 0, stride = 1;
    for (int i = p->in.rank - 1; i >= 0; i--) {
        int64_t *k = p->red[i] ? &index : &output;
        at += *k % p->in.d[i] * stride; *k /= p->in.d[i]; stride *= p->in.d[i];
    }
    return at;
}
static lk_shape shape_after(lk_shape in, const plan *p, bool keep) {
    lk_shape s = {0};
    for (int i = 0; i < in.rank; i++) { if (!p->red[i]) s.d[s.rank++] = in.d[i]; else if (keep) s.d[s.rank++] = 1; }
    return s;
}
static void oracle_sum(const plan *p, const float *x, float *out, int order) {
    float *e = lk_xmalloc((size_t)(p->count + 1) * sizeof *e);
    for (int64_t o = 0; o < p->outputs; o++) {
        for (int64_t i = 0; i < p->count; i++) e[i] = x[element(p, o, i)];
        out[o] = kc_rule3(e, p->count, order);
    }
    free(e);
}
static int64_t first_max(const plan *p, const float *x, int64_t o) {
    int64_t best = 0;
    for (int64_t i = 1; i < p->count; i++) if (x[element(p, o, i)] > x[element(p, o, best)]) best = i;
    return best;
}

#define AX(...) {.n = (int)(sizeof((int[]){__VA_ARGS__}) / sizeof(int)), .axis = {__VA_ARGS__}}
static const struct { lk_shape in; lk_axes axes; } cases[] = {
    {{1, {1}}, AX(0)}, {{1, {31}}, AX(0)}, {{1, {33}}, AX(-1)}, {{1, {4095}}, AX(0)}, {{1, {4097}}, AX(0)},
    {{1, {4096 * 7 + 5}}, AX(0)}, {{2, {3, 4096 * 5}}, AX(1)}, {{2, {3, 4096 * 3 + 33}}, AX(-1)}, {{2, {257, 3}}, AX(0)}, {{2, {9001, 5}}, AX(0)},
    {{2, {4096 * 3 + 1, 67}}, AX(0)}, {{2, {37, 130}}, AX(0)}, {{2, {37, 130}}, AX(1)}, {{2, {37, 130}}, AX(0, 1)},
    {{4, {3, 5, 7, 9}}, AX(0, 2, 3)}, {{4, {8, 6, 16, 16}}, AX(0, 2, 3)}, {{4, {3, 5, 7, 9}}, AX(1)}, {{4, {3, 5, 7, 9}}, AX(1, 3)}, {{4, {3, 5, 7, 9}}, AX(0, 2)},
    {{4, {2, 3, 64, 65}}, AX(0, 2, 3)}, {{4, {2, 3, 1, 65}}, AX(2)}, {{5, {2, 3, 4, 5, 64}}, AX(0, 2, 3)}, {{6, {2, 3, 2, 3, 2, 33}}, AX(1, 3, 5)},
    {{6, {3, 2, 3, 2, 3, 34}}, AX(0, 2, 4)}, {{3, {1, 1, 1}}, AX(0, 2)}, {{3, {5, 1, 129}}, AX(1)}, {{2, {3000, 64}}, AX(0)}, {{2, {5000, 64}}, AX(-2)},
};
enum { CASES = sizeof cases / sizeof *cases };

TEST(reduce_sum_is_rule_3) {
    int told[KC_ORDERS] = {0};
    for (int k = 0; k < CASES; k++) for (int keep = 0; keep < 2; keep++) {
        plan p = plan_of(cases[k].in, cases[k].axes);
        int64_t n = kc_numel(cases[k].in);
        float *x = kc_fill(n, (uint64_t)k + 1), *want = lk_xmalloc((size_t)p.outputs * 4), *wrong = lk_xmalloc((size_t)p.outputs * 4);
        lk_attr attr = {.axes = cases[k].axes};
        attr.axes.keep = keep;
        kc_case c = {LK_OP_reduce_sum, attr, LK_F32, shape_after(cases[k].in, &p, keep), 1, {cases[k].in}, {x}};
        oracle_sum(&p, x, want, KC_RULE);
        char what[64]; snprintf(what, sizeof what, "reduce_sum case %d", k);
        kc_check(what, &c, want, NULL);
        for (int order = 1; order < KC_ORDERS; order++) { oracle_sum(&p, x, wrong, order); told[order] += kc_first_difference(want, wrong, p.outputs) >= 0; }
        for (int64_t o = 0; o < p.outputs; o++) {      /* at most 128 + 5 + levels additions lie on any path */
            double sum = 0, size = 0;
            for (int64_t i = 0; i < p.count; i++) { sum += x[element(&p, o, i)]; size += fabs(x[element(&p, o, i)]); }
            CHECK_CLOSE(want[o], sum, 150 * 0x1p-24 * size);
        }
        free(x); free(want); free(wrong);
    }
    for (int order = 1; order < KC_ORDERS; order++) CHECK_MSG(told[order] > 0, "no case tells planted order %d from the rule", order);
}
TEST(reduce_max_and_mask_take_the_first) {
    for (int k = 0; k < CASES; k++) for (int kind = 0; kind < 4; kind++) {      /* plain, many ties, zeros of both signs, NaNs */
        plan p = plan_of(cases[k].in, cases[k].axes);
        int64_t n = kc_numel(cases[k].in);
        float *x = kc_fill(n, (uint64_t)k + 77), *want = lk_xmalloc((size_t)p.outputs * 4), *mask = lk_xcalloc((size_t)n, 4);
        for (int64_t i = 0; i < n; i++) {
            if (kind == 1) x[i] = floorf(x[i] * 2);
            if (kind == 2) x[i] = x[i] > 0.3f ? 0.0f : x[i] > 0 ? -0.0f : x[i];
            if (kind == 3 && (i * 7919) % 5 == 0) x[i] = NAN;
        }
        for (int64_t o = 0; o < p.outputs; o++) { int64_t at = element(&p, o, first_max(&p, x, o)); want[o] = x[at]; mask[at] = 1; }
        kc_case c = {LK_OP_reduce_max, {.axes = cases[k].axes}, LK_F32, shape_after(cases[k].in, &p, false), 1, {cases[k].in}, {x}};
        char what[64]; snprintf(what, sizeof what, "reduce_max case %d kind %d", k, kind);
        kc_check(what, &c, want, NULL);
        c.op = LK_OP_max_mask; c.out = cases[k].in;
        kc_check(what, &c, mask, NULL);
        free(x); free(want); free(mask);
    }
}

/* ---- softmax (rule 4) ---------------------------------------------------------------------------------- */
static void oracle_softmax(const float *x, float *y, int64_t n, int order) {
    float m = x[0];
    for (int64_t i = 1; i < n; i++) if (x[i] > m) m = x[i];
    for (int64_t i = 0; i < n; i++) y[i] = lk_expf(x[i] - m);
    float s = kc_rule3(y, n, order);
    for (int64_t i = 0; i < n; i++) y[i] = y[i] / s;
}
TEST(softmax_and_its_gradient_are_rule_4) {
    static const int64_t widths[] = {1, 2, 31, 32, 64, 77, 256, 1025, 4099, 8300};
    bool told = false;
    for (int w = 0; w < (int)(sizeof widths / sizeof *widths); w++) {
        int64_t n = widths[w], rows = 5;
        lk_shape s = LK_SHAPE(rows, n);
        float *x = kc_fill(rows * n, 5), *dy = kc_fill(rows * n, 6), *y = lk_xmalloc((size_t)(rows * n) * 4), *dx = lk_xmalloc((size_t)(rows * n) * 4);
        float *e = lk_xmalloc((size_t)n * 4), *wrong = lk_xmalloc((size_t)n * 4);
        for (int64_t i = 0; i < n; i++) x[i] *= 20;
        if (n > 3) x[n + 3] = -INFINITY;                 /* a masked key */
        for (int64_t r = 0; r < rows; r++) {
            oracle_softmax(x + r * n, y + r * n, n, KC_RULE);
            oracle_softmax(x + r * n, wrong, n, KC_FOLD_NEIGHBOURS);
            told |= kc_first_difference(y + r * n, wrong, n) >= 0;
            double m = x[r * n], z = 0;
            for (int64_t i = 0; i < n; i++) m = fmax(m, x[r * n + i]);
            for (int64_t i = 0; i < n; i++) z += exp((double)x[r * n + i] - m);
            for (int64_t i = 0; i < n; i++) CHECK_CLOSE(y[r * n + i], exp((double)x[r * n + i] - m) / z, 3e-6);   /* |x - m| < 80: 80 ulp(1) in the exponent */
            for (int64_t i = 0; i < n; i++) e[i] = y[r * n + i] * dy[r * n + i];
            float sum = kc_rule3(e, n, KC_RULE);
            for (int64_t i = 0; i < n; i++) dx[r * n + i] = y[r * n + i] * (dy[r * n + i] - sum);
        }
        kc_case c = {LK_OP_softmax, {{{0}}}, LK_F32, s, 1, {s}, {x}};
        kc_check("softmax", &c, y, NULL);
        kc_case d = {LK_OP_softmax_dx, {{{0}}}, LK_F32, s, 2, {s, s}, {y, dy}};
        kc_check("softmax_dx", &d, dx, NULL);
        free(x); free(dy); free(y); free(dx); free(e); free(wrong);
    }
    CHECK(told);
}
