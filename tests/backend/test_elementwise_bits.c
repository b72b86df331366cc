/* Elementwise CPU kernels: scalar = AVX2 = AVX-512 bit for bit on random and special inputs, whatever the threads;
 * broadcasting equals the same operation on inputs spread by hand; the output may be any input of its shape. */
#include "tests/backend/isa_tables.h"

#define ISA(isa) void lk_kernels_elementwise_##isa(lk_kernel *);
ISA(scalar) ISA(avx2) ISA(avx512)
#undef ISA
static lk_kernel table[ISAS][LK_OP_COUNT];
static const struct { const char *name; int n_in, traits; } ops[LK_OP_COUNT] = {
#define OP(name, lo, hi, attr, grad, dec, traits) {#name, hi, traits},
#include "graph/ops.def"
#undef OP
};
static void load(void) {
    int i = 0;
#define ISA(isa) if (isa_here(i)) lk_kernels_elementwise_##isa(table[i]); i++;
    ISA(scalar) ISA(avx2) ISA(avx512)
#undef ISA
}
#define EACH_EW(op) (int op = 0; op < LK_OP_COUNT; op++) if (ops[op].traits & T_EW)

/* Output shape and the shapes of up to three inputs. */
static const struct { lk_shape out, in[3]; } cases[] = {
    {LK_SHAPE(1003), {LK_SHAPE(1003), LK_SHAPE(1003), LK_SHAPE(1003)}},
    {LK_SHAPE(3, 5, 7), {LK_SHAPE(3, 5, 7), LK_SHAPE(7), LK_SHAPE(5, 1)}},
    {LK_SHAPE(3, 5, 7), {LK_SHAPE(3, 1, 1), LK_SHAPE(5, 7), LK_SHAPE(3, 5, 7)}},
    {LK_SHAPE(2, 3, 1, 37), {LK_SHAPE(3, 1, 1), LK_SHAPE(2, 1, 1, 37), LK_SHAPE(37)}},
    {LK_SHAPE(2, 1, 3, 2, 4, 3), {LK_SHAPE(1, 3, 1, 4, 1), LK_SHAPE(2, 1, 1, 2, 1, 3), LK_SHAPE(2, 1, 3, 2, 4, 3)}},
    {LK_SHAPE(40000), {LK_SHAPE(40000), LK_SHAPE(1), LK_SHAPE(40000)}},
    {LK_SHAPE(9, 5000), {LK_SHAPE(9, 5000), LK_SHAPE(9, 1), LK_SHAPE(5000)}},
    {LK_SHAPE(1, 1), {{0, {0}}, LK_SHAPE(1, 1), LK_SHAPE(1)}},
    {{0, {0}}, {{0, {0}}, {0, {0}}, {0, {0}}}},
};
enum { CASES = sizeof cases / sizeof *cases, BIG = 45000 };
static float x[3][BIG], wide[3][BIG], want[BIG], got[BIG];

/* Element of `in` that output element `at` reads: numpy's rule, axis by axis. */
static int64_t source(lk_shape out, lk_shape in, int64_t at) {
    int64_t index = 0, stride = 1;
    for (int i = out.rank - 1, j = in.rank - 1; i >= 0; i--, j--) {
        int64_t k = at % out.d[i]; at /= out.d[i];
        if (j < 0) continue;
        if (in.d[j] != 1) index += k * stride;
        stride *= in.d[j];
    }
    return index;
}
static hand_call call_of(int op, int c) {
    hand_call h = {.node = {.op = (lk_op)op, .shape = cases[c].out, .n_in = ops[op].n_in}};
    h.node.shape = cases[c].out;
    if (ops[op].n_in == 1) h.shape[0] = h.node.shape;
    else for (int k = 0; k < ops[op].n_in; k++) h.shape[k] = cases[c].in[k];
    for (int k = 0; k < ops[op].n_in; k++) { fill_hard(x[k], count_of(h.shape[k]), (uint64_t)(op * 100 + c * 3 + k)); h.in[k] = x[k]; }
    return h;
}

TEST(every_elementwise_row_has_a_kernel) {
    load();
    for EACH_EW(op) for (int i = 0; i < ISAS; i++) if (isa_here(i)) CHECK_MSG(table[i][op] != NULL, "%s has no %s kernel", ops[op].name, isa_name[i]);
}
TEST(instruction_sets_agree) {
    load();
    lk_pool *pool = lk_pool_new(3);
    for EACH_EW(op) for (int c = 0; c < CASES; c++) {
        hand_call h = call_of(op, c);
        int64_t n = count_of(h.node.shape);
        hand_run(table[0][op], &h, want, NULL);
        for (int i = 0; i < ISAS; i++) if (isa_here(i)) {
            memset(got, 0x55, sizeof got);
            hand_run(table[i][op], &h, got, i & 1 ? NULL : pool);
            int64_t at = bits_differ(want, got, n);
            CHECK_MSG(at < 0, "%s, case %d, element %ld: scalar %a, %s %a", ops[op].name, c, (long)at, at_or_nan(want, at), isa_name[i], at_or_nan(got, at));
            CHECK_MSG(n == BIG || !memcmp(got + n, "UUUU", 4), "%s, case %d: %s wrote past the end", ops[op].name, c, isa_name[i]);
        }
        uint32_t u = canonical(want[n / 2]) ^ (want[n / 2] != want[n / 2] ? 0x00400000u : 1u);   /* planted: the last bit, a NaN becomes inf */
        memcpy(want + n / 2, &u, 4);
        CHECK_MSG(bits_differ(want, got, n) == n / 2, "%s: a planted bit was not seen", ops[op].name);
    }
    lk_pool_free(pool);
}
TEST(broadcasting_equals_spreading_by_hand) {
    load();
    for EACH_EW(op) for (int c = 0; c < CASES && ops[op].n_in > 1; c++) {
        hand_call h = call_of(op, c), full = h;
        int64_t n = count_of(h.node.shape);
        for (int k = 0; k < ops[op].n_in; k++) {
            for (int64_t e = 0; e < n; e++) wide[k][e] = x[k][source(h.node.shape, h.shape[k], e)];
            full.in[k] = wide[k]; full.shape[k] = h.node.shape;
        }
        hand_run(table[1][op], &full, want, NULL);
        hand_run(table[1][op], &h, got, NULL);
        int64_t at = bits_differ(want, got, n);
        CHECK_MSG(at < 0, "%s, case %d, element %ld: spread %a, broadcast %a", ops[op].name, c, (long)at, at_or_nan(want, at), at_or_nan(got, at));
    }
}
TEST(output_may_be_an_input_of_its_shape) {
    load();
    for EACH_EW(op) for (int c = 0; c < CASES; c++) for (int i = 0; i < ISAS; i++) for (int k = 0; k < ops[op].n_in && isa_here(i); k++) {
        hand_call h = call_of(op, c);
        int64_t n = count_of(h.node.shape);
        if (count_of(h.shape[k]) != n) continue;
        hand_run(table[i][op], &h, want, NULL);
        hand_run(table[i][op], &h, h.in[k], NULL);
        int64_t at = bits_differ(want, h.in[k], n);
        CHECK_MSG(at < 0, "%s %s in place of input %d, case %d, element %ld", isa_name[i], ops[op].name, k, c, (long)at);
    }
}
/* Selections by rule 6, at the corners where instruction sets could differ. */
TEST(selections_at_corners) {
    load();
    float a[8] = {0.0f, -0.0f, NAN, 1, INFINITY, -INFINITY, 2, NAN}, b[8] = {-0.0f, 0.0f, 1, NAN, NAN, 3, 2, NAN}, o[8];
    static const struct { int op; float want[8]; } rows[] = {
        {LK_OP_min, {0.0f, -0.0f, NAN, 1, INFINITY, -INFINITY, 2, NAN}}, {LK_OP_max, {0.0f, -0.0f, NAN, 1, INFINITY, 3, 2, NAN}},
        {LK_OP_less, {0, 0, 0, 0, 0, 1, 0, 0}}, {LK_OP_sign, {0.0f, -0.0f, NAN, 1, 1, -1, 1, NAN}}, {LK_OP_abs, {0, 0, NAN, 1, INFINITY, INFINITY, 2, NAN}}};
    for (int i = 0; i < ISAS; i++) for (size_t r = 0; r < sizeof rows / sizeof *rows && isa_here(i); r++) {
        hand_call h = {.node = {.op = (lk_op)rows[r].op, .shape = LK_SHAPE(8), .n_in = ops[rows[r].op].n_in}, .in = {a, b}, .shape = {LK_SHAPE(8), LK_SHAPE(8)}};
        hand_run(table[i][rows[r].op], &h, o, NULL);
        int64_t at = bits_differ(o, rows[r].want, 8);
        CHECK_MSG(at < 0, "%s %s, element %ld: %a", isa_name[i], ops[rows[r].op].name, (long)at, at_or_nan(o, at));
    }
}
/* geglu equals value * gelu(gate), its gradient the two halves, with the elementwise kernels as oracle. */
TEST(geglu_and_its_gradient) {
    load();
    enum { ROWS = 67, D = 53 };
    static float in[ROWS][2][D], dy[ROWS][D], o[ROWS][D], o2[ROWS][2][D], t[D], w[D];
    fill_hard(&in[0][0][0], ROWS * 2 * D, 7); fill_hard(&dy[0][0], ROWS * D, 8);
    lk_pool *pool = lk_pool_new(2);
    for (int i = 0; i < ISAS; i++) if (isa_here(i)) {
        hand_call f = {.node = {.op = LK_OP_geglu, .shape = LK_SHAPE(ROWS, D), .n_in = 1}, .in = {in}, .shape = {LK_SHAPE(ROWS, 2 * D)}};
        hand_call b = {.node = {.op = LK_OP_geglu_dx, .shape = LK_SHAPE(ROWS, 2 * D), .n_in = 2}, .in = {in, dy}, .shape = {LK_SHAPE(ROWS, 2 * D), LK_SHAPE(ROWS, D)}};
        hand_run(table[i][LK_OP_geglu], &f, o, pool);
        hand_run(table[i][LK_OP_geglu_dx], &b, o2, pool);
        for (int r = 0; r < ROWS; r++) {
            hand_call e = {.node = {.op = LK_OP_gelu, .shape = LK_SHAPE(D), .n_in = 1}, .in = {in[r][1], t}, .shape = {LK_SHAPE(D), LK_SHAPE(D)}};
            hand_run(table[0][LK_OP_gelu], &e, t, NULL);
            for (int d = 0; d < D; d++) w[d] = in[r][0][d] * t[d];
            CHECK_MSG(bits_differ(o[r], w, D) < 0, "%s geglu, row %d", isa_name[i], r);
            for (int d = 0; d < D; d++) w[d] = dy[r][d] * t[d];
            CHECK_MSG(bits_differ(o2[r][0], w, D) < 0, "%s geglu_dx, row %d, value half", isa_name[i], r);
            for (int d = 0; d < D; d++) t[d] = dy[r][d] * in[r][0][d];
            e.node.op = LK_OP_gelu_dx; e.node.n_in = 2;
            hand_run(table[0][LK_OP_gelu_dx], &e, w, NULL);
            CHECK_MSG(bits_differ(o2[r][1], w, D) < 0, "%s geglu_dx, row %d, gate half", isa_name[i], r);
        }
    }
    lk_pool_free(pool);
}
/* Activations against libm in binary64 on ordinary inputs: 2e-6 of the largest factor covers a dozen roundings. */
TEST(activations_against_libm) {
    load();
    enum { N = 4000 };
    static float dy[N], o[N];
    fill_normal(x[0], N, 4); fill_normal(dy, N, 5);
    for (int i = 0; i < N; i++) x[0][i] *= 4;
    static const int rows[] = {LK_OP_sigmoid, LK_OP_silu, LK_OP_silu_dx, LK_OP_gelu, LK_OP_gelu_dx, LK_OP_gelu_tanh, LK_OP_gelu_tanh_dx, LK_OP_quick_gelu, LK_OP_quick_gelu_dx};
    for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
        hand_call h = {.node = {.op = (lk_op)rows[r], .shape = LK_SHAPE(N), .n_in = ops[rows[r]].n_in}, .in = {x[0], dy}, .shape = {LK_SHAPE(N), LK_SHAPE(N)}};
        hand_run(table[1][rows[r]], &h, o, NULL);
        for (int i = 0; i < N; i++) {
            double v = (double)x[0][i], g = (double)dy[i], s = 1 / (1 + exp(-v)), q = 1 / (1 + exp(-1.702 * v)), cdf = 0.5 * erfc(-v * M_SQRT1_2), pdf = exp(-0.5 * v * v) / sqrt(2 * M_PI);
            double k = sqrt(2 / M_PI), u = k * (v + 0.044715 * v * v * v), t = tanh(u), dt = (1 - t * t) * k * (1 + 3 * 0.044715 * v * v);
            double w = rows[r] == LK_OP_sigmoid ? s : rows[r] == LK_OP_silu ? v * s : rows[r] == LK_OP_silu_dx ? g * (s + v * s * (1 - s)) : rows[r] == LK_OP_gelu ? v * cdf
                     : rows[r] == LK_OP_gelu_dx ? g * (cdf + v * pdf) : rows[r] == LK_OP_gelu_tanh ? 0.5 * v * (1 + t) : rows[r] == LK_OP_gelu_tanh_dx ? g * (0.5 * (1 + t) + 0.5 * v * dt)
                     : rows[r] == LK_OP_quick_gelu ? v * q : g * (q + 1.702 * v * q * (1 - q));
            CHECK_MSG(fabs((double)o[i] - w) <= 2e-6 * (1 + fabs(v)) * (1 + fabs(g)), "%s(%g, %g) = %.9g, want %.9g", ops[rows[r]].name, v, g, (double)o[i], w);
        }
    }
}
