/* Service kernels of the CPU: scalar = AVX2 = AVX-512 bit for bit, random tensors equal the single-element calls of
 * base.h, and each against independent arithmetic in binary64. */
#include "tests/backend/isa_tables.h"

#define ISA(isa) void lk_kernels_services_##isa(lk_kernel *);
ISA(scalar) ISA(avx2) ISA(avx512)
#undef ISA
static lk_kernel table[ISAS][LK_OP_COUNT];
static void load(void) {
    int i = 0;
#define ISA(isa) if (isa_here(i)) lk_kernels_services_##isa(table[i]); i++;
    ISA(scalar) ISA(avx2) ISA(avx512)
#undef ISA
}
/* Runs on all sets and two thread counts; out holds the scalar result, which the others must equal. */
static void run_all(hand_call *h, float *out, int64_t n) {
    float *other = lk_xaligned((size_t)n * 4 + 64);
    lk_pool *pool = lk_pool_new(3);
    hand_run(table[0][h->node.op], h, out, NULL);
    for (int i = 0; i < ISAS; i++) if (isa_here(i)) {
        memset(other, 0x55, (size_t)n * 4);
        hand_run(table[i][h->node.op], h, other, pool);
        int64_t at = bits_differ(out, other, n);
        CHECK_MSG(at < 0, "%s differs at %ld: scalar %a, %a", isa_name[i], (long)at, at_or_nan(out, at), at_or_nan(other, at));
    }
    lk_pool_free(pool);
    free(other);
}

/* Angles up to 3.5e6 in binary64: libm's sin and cos of the same angle differ by the angle's own rounding, 1e-9,
 * and the result's, 6e-8. A wrong frequency or order is off by 1e-2 and more. */
TEST(timestep_embed) {
    load();
    static const lk_tembed attrs[] = {{.dim = 32}, {.dim = 320, .flip_sin_to_cos = true}, {.dim = 33, .freq_shift = 1}, {.dim = 256, .flip_sin_to_cos = true, .scale = 1000, .max_period = 777}};
    float t[5] = {0, 1, 17.25f, 999, 3500};
    static float out[5 * 320];
    for (size_t a = 0; a < sizeof attrs / sizeof *attrs; a++) {
        lk_tembed e = attrs[a];
        hand_call h = {.node = {.op = LK_OP_timestep_embed, .shape = LK_SHAPE(5, e.dim), .n_in = 1, .attr.tembed = e}, .in = {t}, .shape = {LK_SHAPE(5)}};
        run_all(&h, out, 5 * e.dim);
        int half = e.dim / 2;
        for (int b = 0; b < 5; b++) for (int k = 0; k < half; k++) {
            double angle = (double)t[b] * (e.scale != 0 ? e.scale : 1) * pow(e.max_period != 0 ? e.max_period : 10000, -k / (half - e.freq_shift));
            CHECK_CLOSE((double)out[b * e.dim + k], e.flip_sin_to_cos ? cos(angle) : sin(angle), 7e-8);
            CHECK_CLOSE((double)out[b * e.dim + half + k], e.flip_sin_to_cos ? sin(angle) : cos(angle), 7e-8);
        }
        if (e.dim & 1) for (int b = 0; b < 5; b++) CHECK(out[b * e.dim + e.dim - 1] == 0);
    }
}
TEST(rope_table_and_rope) {
    load();
    enum { T = 11, W = 4 + 6 + 6, H = 3, B = 2 };
    float ids[T][3], table_out[2][T][W]; static float x[B][T][H][W][2], o[B][T][H][W][2];
    for (int t = 0; t < T; t++) { ids[t][0] = 0; ids[t][1] = (float)(t - 5); ids[t][2] = (float)(t * t * 40); }
    hand_call h = {.node = {.op = LK_OP_rope_table, .shape = LK_SHAPE(2, T, W), .n_in = 1, .attr.rtable = {3, {8, 12, 12}, 10000}}, .in = {ids}, .shape = {LK_SHAPE(T, 3)}};
    run_all(&h, &table_out[0][0][0], 2 * T * W);
    for (int t = 0; t < T; t++) for (int a = 0, at = 0; a < 3; a++) for (int k = 0; k < (a ? 6 : 4); k++, at++) {
        double angle = (double)ids[t][a] * pow(10000, -2.0 * k / (a ? 12 : 8));
        CHECK_CLOSE((double)table_out[0][t][at], cos(angle), 7e-8);
        CHECK_CLOSE((double)table_out[1][t][at], sin(angle), 7e-8);
    }
    fill_normal(&x[0][0][0][0][0], B * T * H * W * 2, 6);
    hand_call r = {.node = {.op = LK_OP_rope, .shape = LK_SHAPE(B, T, H * W * 2), .n_in = 3, .attr.sdpa = {.heads = H}}, .in = {x, table_out[0], table_out[1]},
                   .shape = {LK_SHAPE(B, T, H * W * 2), LK_SHAPE(T, W), LK_SHAPE(T, W)}};
    run_all(&r, &o[0][0][0][0][0], B * T * H * W * 2);
    for (int b = 0; b < B; b++) for (int t = 0; t < T; t++) for (int g = 0; g < H; g++) for (int k = 0; k < W; k++) {
        double c = (double)table_out[0][t][k], s = (double)table_out[1][t][k], x0 = (double)x[b][t][g][k][0], x1 = (double)x[b][t][g][k][1];
        CHECK_CLOSE((double)o[b][t][g][k][0], x0 * c - x1 * s, 3e-7 * (fabs(x0) + fabs(x1)));
        CHECK_CLOSE((double)o[b][t][g][k][1], x0 * s + x1 * c, 3e-7 * (fabs(x0) + fabs(x1)));
    }
    hand_run(table[1][LK_OP_rope], &r, x, NULL);                          /* in place */
    CHECK(bits_differ(&x[0][0][0][0][0], &o[0][0][0][0][0], B * T * H * W * 2) < 0);
}
TEST(random_tensors_equal_single_elements) {
    load();
    enum { B = 3, N = 1733 };                                             /* neither a multiple of 4 nor of 256 */
    int64_t seed = 12345, step = ((int64_t)1 << 33) + 7, samples[B] = {0, 4000000000, 17};
    static float out[B][N];
    for (int normal = 0; normal < 2; normal++) {
        lk_attr attr = {.random = {.stream = "noise", .shape = LK_SHAPE(N)}};
        hand_call h = {.node = {.op = normal ? LK_OP_randn : LK_OP_randu, .shape = LK_SHAPE(B, N), .n_in = 3, .attr = attr}, .in = {&seed, &step, samples},
                       .shape = {{0, {0}}, {0, {0}}, LK_SHAPE(B)}};
        run_all(&h, &out[0][0], B * N);
        uint64_t key = lk_stream_key((uint64_t)seed, "noise");
        for (int b = 0; b < B; b++) for (int i = 0; i < N; i++) {
            float want = (normal ? lk_philox_normal : lk_philox_uniform)(key, (uint64_t)step, (uint32_t)samples[b], (uint64_t)i);
            CHECK_MSG(canonical(out[b][i]) == canonical(want), "sample %d element %d: %a, want %a", b, i, (double)out[b][i], (double)want);
        }
        CHECK(canonical(out[0][1]) != canonical(lk_philox_normal(key, (uint64_t)step + 1, 0, 1)));
    }
}
TEST(effects) {
    load();
    enum { N = 20011 };
    static float p[N], m[N], v[N], g[N], first[3][N], start[3][N];
    fill_normal(start[0], N, 1); fill_normal(start[1], N, 2); fill_normal(start[2], N, 3); fill_normal(g, N, 4);
    for (int i = 0; i < N; i++) start[2][i] *= start[2][i];
    float lr = 1e-2f, bc1 = 0.19f, bc2 = 0.002f, decay = 0.9f;
    lk_adamw_attr a = {0.9, 0.999, 1e-8, 0.05};
    lk_pool *pool = lk_pool_new(2);
    for (int i = 0; i < ISAS; i++) if (isa_here(i)) {
        memcpy(p, start[0], sizeof p); memcpy(m, start[1], sizeof m); memcpy(v, start[2], sizeof v);
        hand_call h = {.node = {.op = LK_OP_adamw, .shape = LK_SHAPE(N), .n_in = 7, .attr.adamw = a}, .in = {p, m, v, g, &lr, &bc1, &bc2}, .shape = {LK_SHAPE(N), LK_SHAPE(N), LK_SHAPE(N), LK_SHAPE(N)}};
        hand_run(table[i][LK_OP_adamw], &h, p, i ? pool : NULL);
        for (int k = 0; k < N && !i; k++) {
            double m1 = 0.9 * (double)start[1][k] + 0.1 * (double)g[k], v1 = 0.999 * (double)start[2][k] + 0.001 * (double)g[k] * (double)g[k];
            double step = (double)lr * (m1 / (double)bc1) / (sqrt(v1 / (double)bc2) + 1e-8), p1 = (double)start[0][k] * (1 - (double)lr * 0.05) - step;
            CHECK_CLOSE((double)m[k], m1, 3e-7 * (fabs((double)start[1][k]) + fabs((double)g[k])));
            CHECK_CLOSE((double)v[k], v1, 3e-7 * v1);
            CHECK_CLOSE((double)p[k], p1, 3e-7 * fabs((double)start[0][k]) + 1e-6 * (double)lr * (fabs((double)start[1][k]) + fabs((double)g[k])) / (double)bc1 / sqrt(v1 / (double)bc2));
        }
        if (!i) { memcpy(first[0], p, sizeof p); memcpy(first[1], m, sizeof m); memcpy(first[2], v, sizeof v); }
        CHECK_MSG(bits_differ(first[0], p, N) < 0 && bits_differ(first[1], m, N) < 0 && bits_differ(first[2], v, N) < 0, "adamw: %s differs", isa_name[i]);
        memcpy(p, start[0], sizeof p);
        hand_call e = {.node = {.op = LK_OP_ema, .shape = LK_SHAPE(N), .n_in = 3}, .in = {p, g, &decay}, .shape = {LK_SHAPE(N), LK_SHAPE(N), {0, {0}}}};
        hand_run(table[i][LK_OP_ema], &e, p, i ? pool : NULL);
        for (int k = 0; k < N; k++) CHECK_CLOSE((double)p[k], 0.9 * (double)start[0][k] + 0.1 * (double)g[k], 3e-7 * (fabs((double)start[0][k]) + fabs((double)g[k])));
        hand_call s = {.node = {.op = LK_OP_assign, .shape = LK_SHAPE(N), .n_in = 2}, .in = {p, g}, .shape = {LK_SHAPE(N), LK_SHAPE(N)}};
        hand_run(table[i][LK_OP_assign], &s, p, NULL);
        CHECK(bits_differ(p, g, N) < 0);
        int64_t from[3] = {1, -2, (int64_t)1 << 40}, to[3] = {0};
        hand_call n = {.node = {.op = LK_OP_assign, .dtype = LK_I64, .shape = LK_SHAPE(3), .n_in = 2}, .in = {to, from}, .shape = {LK_SHAPE(3), LK_SHAPE(3)}};
        hand_run(table[i][LK_OP_assign], &n, to, NULL);
        CHECK(!memcmp(to, from, sizeof to));
    }
    lk_pool_free(pool);
}
