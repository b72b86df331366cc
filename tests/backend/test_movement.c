/* permute, slice, pad, concat, broadcast, gather and scatter against element-by-element loops written here. */
#include "tests/backend/kernel_call.h"

static void coordinates(lk_shape s, int64_t i, int64_t *at) { for (int k = s.rank - 1; k >= 0; k--) { at[k] = i % s.d[k]; i /= s.d[k]; } }
static int64_t place(lk_shape s, const int64_t *at) { int64_t i = 0; for (int k = 0; k < s.rank; k++) i = i * s.d[k] + at[k]; return i; }
/* Values that name their index, of either size. */
static void *numbered(lk_dtype t, int64_t n, int64_t from) {
    char *x = lk_xmalloc((size_t)(n + 1) * 8);
    for (int64_t i = 0; i < n; i++) { if (t == LK_I64) ((int64_t *)x)[i] = from + i; else ((float *)x)[i] = (float)(from + i); }
    return x;
}
static void put(lk_dtype t, void *to, int64_t i, const void *from, int64_t j) {
    if (t == LK_I64) ((int64_t *)to)[i] = ((const int64_t *)from)[j]; else ((float *)to)[i] = ((const float *)from)[j];
}
#define EACH_TYPE(t) for (lk_dtype t = LK_F32; t <= LK_I64; t++)

TEST(permute_moves_every_element) {
    static const struct { lk_shape in; int perm[6]; } cases[] = {
        {{2, {5, 7}}, {1, 0}}, {{2, {64, 48}}, {1, 0}}, {{2, {33, 129}}, {1, 0}}, {{4, {2, 3, 4, 5}}, {0, 2, 3, 1}}, {{4, {2, 5, 17, 33}}, {0, 3, 1, 2}},
        {{4, {2, 17, 3, 16}}, {0, 2, 1, 3}}, {{4, {2, 3, 4, 5}}, {3, 2, 1, 0}}, {{3, {4, 1, 6}}, {2, 1, 0}}, {{6, {2, 3, 2, 3, 2, 3}}, {5, 0, 4, 1, 3, 2}},
        {{4, {2, 64, 16, 16}}, {0, 2, 3, 1}}, {{1, {9}}, {0}}, {{3, {2, 3, 4}}, {0, 1, 2}}, {{3, {20, 18, 1}}, {1, 0, 2}},
    };
    EACH_TYPE(t) for (int k = 0; k < (int)(sizeof cases / sizeof *cases); k++) {
        lk_shape in = cases[k].in, out = in;
        int64_t n = kc_numel(in), from[6], to[6];
        lk_attr attr = {{{0}}};
        for (int i = 0; i < in.rank; i++) { attr.perm[i] = cases[k].perm[i]; out.d[i] = in.d[attr.perm[i]]; }
        void *x = numbered(t, n, 1), *want = lk_xmalloc((size_t)n * 8);
        for (int64_t i = 0; i < n; i++) { coordinates(out, i, to); for (int a = 0; a < in.rank; a++) from[attr.perm[a]] = to[a]; put(t, want, i, x, place(in, from)); }
        kc_case c = {LK_OP_permute, attr, t, out, 1, {in}, {x}};
        char what[40]; snprintf(what, sizeof what, "permute case %d", k);
        kc_check(what, &c, want, NULL);
        free(x); free(want);
    }
}
TEST(slice_and_pad_are_windows) {
    static const struct { lk_shape big; lk_window w; } cases[] = {      /* w: what lies before and after the small box */
        {{1, {9}}, {{2}, {3}}}, {{4, {2, 3, 8, 9}}, {{0, 0, 1, 1}, {0, 0, 1, 1}}}, {{4, {5, 6, 7, 8}}, {{1, 2, 3, 4}, {1, 0, 2, 1}}}, {{3, {4, 9, 33}}, {{0, 4, 0}, {0, 2, 0}}},
        {{3, {4, 9, 33}}, {{1, 0, 0}, {0, 0, 0}}}, {{2, {3, 5}}, {{0, 0}, {0, 0}}}, {{3, {7, 70, 40}}, {{0, 0, 39}, {0, 0, 0}}},
    };
    EACH_TYPE(t) for (int k = 0; k < (int)(sizeof cases / sizeof *cases); k++) {
        lk_shape big = cases[k].big, small = big;
        lk_attr slice = {{{0}}}, pad = {.window = cases[k].w};
        for (int i = 0; i < big.rank; i++) {
            small.d[i] -= pad.window.lo[i] + pad.window.hi[i];
            slice.window.lo[i] = pad.window.lo[i]; slice.window.hi[i] = pad.window.lo[i] + small.d[i];
        }
        int64_t nb = kc_numel(big), ns = kc_numel(small), at[6];
        void *x = numbered(t, nb, 1), *cut = lk_xcalloc((size_t)nb, 8), *padded = lk_xcalloc((size_t)nb, 8);
        for (int64_t i = 0; i < ns; i++) {
            coordinates(small, i, at);
            for (int a = 0; a < big.rank; a++) at[a] += pad.window.lo[a];
            put(t, cut, i, x, place(big, at)); put(t, padded, place(big, at), x, place(big, at));
        }
        kc_case c = {LK_OP_slice, slice, t, small, 1, {big}, {x}};
        kc_check("slice", &c, cut, NULL);
        kc_case d = {LK_OP_pad, pad, t, big, 1, {small}, {cut}};
        kc_check("pad", &d, padded, NULL);
        free(x); free(cut); free(padded);
    }
}
TEST(concat_puts_inputs_in_order) {
    for (int axis = -3; axis < 3; axis++) EACH_TYPE(t) {
        int a = (axis + 3) % 3;
        lk_shape out = {3, {4, 5, 6}}, in[3];
        static const int64_t lengths[3] = {3, 1, 7};
        out.d[a] = 11;
        void *x[3], *want = lk_xmalloc((size_t)kc_numel(out) * 8);
        int64_t before = 0, at[6];
        for (int k = 0; k < 3; before += lengths[k++]) {
            in[k] = out; in[k].d[a] = lengths[k];
            x[k] = numbered(t, kc_numel(in[k]), 1000 * k);
            for (int64_t i = 0; i < kc_numel(in[k]); i++) { coordinates(in[k], i, at); at[a] += before; put(t, want, place(out, at), x[k], i); }
        }
        kc_case c = {LK_OP_concat, {.axis = axis}, t, out, 3, {in[0], in[1], in[2]}, {x[0], x[1], x[2]}};
        kc_check("concat", &c, want, NULL);
        for (int k = 0; k < 3; k++) free(x[k]);
        free(want);
    }
}
TEST(broadcast_repeats) {
    static const struct { lk_shape in, out; } cases[] = {
        {{0, {0}}, {3, {2, 3, 37}}}, {{1, {6}}, {2, {5, 6}}}, {{4, {1, 7, 1, 1}}, {4, {3, 7, 4, 5}}}, {{3, {4, 1, 6}}, {3, {4, 5, 6}}}, {{2, {3, 1}}, {3, {2, 3, 70}}}, {{2, {3, 4}}, {2, {3, 4}}},
    };
    EACH_TYPE(t) for (int k = 0; k < (int)(sizeof cases / sizeof *cases); k++) {
        lk_shape in = cases[k].in, out = cases[k].out;
        int64_t n = kc_numel(out), at[6];
        void *x = numbered(t, kc_numel(in), 1), *want = lk_xmalloc((size_t)n * 8);
        for (int64_t i = 0; i < n; i++) {
            int64_t from[6];
            coordinates(out, i, at);
            for (int a = 0; a < in.rank; a++) from[a] = in.d[a] == 1 ? 0 : at[a + out.rank - in.rank];
            put(t, want, i, x, place(in, from));
        }
        kc_case c = {LK_OP_broadcast, {.shape = out}, t, out, 1, {in}, {x}};
        kc_check("broadcast", &c, want, NULL);
        free(x); free(want);
    }
}
TEST(rows_by_index_gather_and_scatter_in_source_order) {
    enum { V = 11, N = 6 * 9 };
    static const int64_t widths[] = {1, 5, 64, 133};
    bool told = false;
    for (int w = 0; w < 4; w++) {
        int64_t d = widths[w], id[N];
        float *table = kc_fill(V * d, 3), *rows = kc_fill(N * d, 4), *want = lk_xmalloc((size_t)(N * d) * 4), *sum = lk_xcalloc((size_t)(V * d), 4), *back = lk_xcalloc((size_t)(V * d), 4);
        for (int i = 0; i < N; i++) id[i] = (i * i + 3 * i) % (V - 1);                 /* row V - 1 is never named */
        for (int i = 0; i < N; i++) for (int64_t k = 0; k < d; k++) { want[i * d + k] = table[id[i] * d + k]; sum[id[i] * d + k] += rows[i * d + k]; }
        for (int i = N - 1; i >= 0; i--) for (int64_t k = 0; k < d; k++) back[id[i] * d + k] += rows[i * d + k];
        told |= kc_first_difference(sum, back, V * d) >= 0;
        kc_case c = {LK_OP_gather_rows, {{{0}}}, LK_F32, LK_SHAPE(6, 9, d), 2, {LK_SHAPE(V, d), LK_SHAPE(6, 9)}, {table, id}};
        kc_check("gather_rows", &c, want, NULL);
        kc_case s = {LK_OP_scatter_add_rows, {.count = V}, LK_F32, LK_SHAPE(V, d), 2, {LK_SHAPE(6, 9, d), LK_SHAPE(6, 9)}, {rows, id}};
        kc_check("scatter_add_rows", &s, sum, NULL);
        id[3] = -1; id[4] = V; id[5] = INT64_MAX;                                       /* outside: NaN when read, dropped when written */
        for (int i = 3; i < 6; i++) for (int64_t k = 0; k < d; k++) want[i * d + k] = NAN;
        kc_check("gather_rows outside", &c, want, NULL);
        memset(sum, 0, (size_t)(V * d) * 4);
        for (int i = 0; i < N; i++) for (int64_t k = 0; k < d && (i < 3 || i > 5); k++) sum[id[i] * d + k] += rows[i * d + k];
        kc_check("scatter_add_rows outside", &s, sum, NULL);
        free(table); free(rows); free(want); free(sum); free(back);
    }
    CHECK(told);
}
