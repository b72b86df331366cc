/* The executor: what it refuses and how it says so, where its bytes go, binding, packing and sharing of leaves. */
#include "tests/lib/lk_test.h"
#include "tests/lib/opcheck.h"
#include "io/io.h"

static void numbers(float *x, int64_t n, uint64_t seed) { op_rng r = {seed}; for (int64_t i = 0; i < n; i++) x[i] = (float)op_normal(&r); }

/* y = x w^T + b, and what a test needs of it. */
typedef struct { lk_graph *g; lk_val x, w, b, y; } linear;
static linear linear_new(int64_t rows, int64_t k, int64_t n) {
    linear l = {.g = lk_graph_new()};
    l.x = lk_input(l.g, "x", LK_F32, LK_SHAPE(rows, k));
    l.w = lk_param(l.g, "proj.weight", LK_SHAPE(n, k), LK_MEM_WEIGHT);
    l.b = lk_param(l.g, "proj.bias", LK_SHAPE(n), LK_MEM_WEIGHT);
    l.y = lk_linear(l.g, l.x, l.w, l.b);
    return l;
}

TEST(mistakes_are_named) {
    linear l = linear_new(2, 3, 4);
    lk_val mid = lk_exp(l.g, l.y), top = lk_neg(l.g, mid), unused = lk_param(l.g, "unused", LK_SHAPE(5), LK_MEM_WEIGHT), ids = lk_input(l.g, "ids", LK_I64, LK_SHAPE(2));
    lk_exec *e;
    float x[12] = {0};
    CHECK_OK(lk_exec_new(l.g, &top, 1, (lk_exec_opts){0}, &e));
    CHECK_FAILS(lk_exec_run(e), "input x was never set");
    CHECK_FAILS(lk_exec_set(e, l.x, x, 5), "x has shape [2, 3], 6 elements; found 5");
    CHECK_FAILS(lk_exec_set(e, (lk_val){99}, x, 5), "unknown");
    CHECK_FAILS(lk_exec_set(e, LK_NONE, x, 5), "unknown");
    CHECK_FAILS(lk_exec_set(e, mid, x, 8), "not an input or a param");
    CHECK_FAILS(lk_exec_set(e, ids, x, 2), "lk_exec_set_i64");
    CHECK_FAILS(lk_exec_set_i64(e, l.x, (int64_t[6]){0}, 6), "holds F32");
    CHECK_FAILS(lk_exec_set_scalar(e, ids, 0.5), "whole number");
    CHECK_OK(lk_exec_set(e, unused, x, 5));                                /* nothing needs it */
    CHECK_OK(lk_exec_set(e, l.x, x, 6));
    CHECK_OK(lk_exec_run(e));
    CHECK_FAILS(lk_exec_get(e, mid, x, 8), "neither an output nor a leaf");
    CHECK_FAILS(lk_exec_get(e, unused, x, 5), "not needed for any output");
    CHECK_FAILS(lk_exec_get(e, top, x, 7), "8 elements");
    CHECK_OK(lk_exec_get(e, top, x, 8));
    for (int i = 0; i < 8; i++) CHECK(x[i] == -1);
    lk_exec_free(e); lk_graph_free(l.g);
}

TEST(a_broken_graph_is_not_run) {
    linear l = linear_new(2, 3, 4);
    lk_exec *e;
    lk_val bad = lk_add(l.g, l.x, l.b);                                    /* [2, 3] + [4] */
    CHECK_FAILS(lk_exec_new(l.g, &bad, 1, (lk_exec_opts){0}, &e), "add");
    CHECK(!e);
    lk_graph_free(l.g);
}

TEST(an_unsupported_operation_is_named_and_nothing_else_runs_it) {
    linear l = linear_new(2, 3, 4);
    lk_backend lacking = *lk_backend_ref();
    lacking.name = "lacking"; lacking.kernel[LK_OP_matmul] = NULL;
    lk_exec *e;
    CHECK_FAILS(lk_exec_new(l.g, &l.y, 1, (lk_exec_opts){.backend = &lacking}, &e), "matmul");
    CHECK_FAILS(lk_exec_new(l.g, &l.y, 1, (lk_exec_opts){.backend = &lacking}, &e), "lacking");
    lk_graph_free(l.g);
}

TEST(too_big_is_refused_before_anything_is_allocated) {
    lk_graph *g = lk_graph_new();
    lk_exec *e;
    lk_val x = lk_input(g, "x", LK_F32, LK_SHAPE(1 << 20, 1 << 20)), y = lk_label(g, lk_neg(g, x), "latents");       /* 4 TiB each */
    CHECK_FAILS(lk_exec_new(g, &y, 1, (lk_exec_opts){0}, &e), "latents");
    CHECK_FAILS(lk_exec_new(g, &y, 1, (lk_exec_opts){0}, &e), "GiB");
    CHECK(!e);
    lk_graph_free(g);
    linear l = linear_new(64, 32, 16);
    CHECK_FAILS(lk_exec_new(l.g, &l.y, 1, (lk_exec_opts){.memory_limit = 1000}, &e), "memory_limit allows 1000");
    CHECK_OK(lk_exec_new(l.g, &l.y, 1, (lk_exec_opts){.memory_limit = 1 << 20}, &e));
    lk_exec_free(e); lk_graph_free(l.g);
}

TEST(predicted_bytes_are_allocated_bytes) {
    linear l = linear_new(64, 300, 32);
    lk_exec *e;
    lk_val top = lk_sum_all(l.g, lk_silu(l.g, l.y));
    CHECK_OK(lk_exec_new(l.g, &top, 1, (lk_exec_opts){0}, &e));
    const lk_plan *p = lk_exec_plan(e);
    int64_t leaves = p->by_class[LK_MEM_INPUT] + p->by_class[LK_MEM_WEIGHT];
    CHECK(leaves == 4 * (64 * 300 + 32 * 300 + 32));
    int64_t all = 0;
    for (int i = 0; i < LK_MEM_CLASSES; i++) all += p->by_class[i];
    CHECK_MSG(lk_exec_bytes(e) == all, "allocated %lld, planned %lld", (long long)lk_exec_bytes(e), (long long)all);
    CHECK(p->arena_bytes > 0 && p->arena_bytes <= all - leaves);
    lk_exec_free(e); lk_graph_free(l.g);
}

TEST(binding_borrows_packs_and_changes_no_bit) {
    enum { R = 9, K = 300, N = 70 };
    static float x[R * K], w[N * K], b[N], want[R * N], got[R * N];
    numbers(x, R * K, 1); numbers(w, N * K, 2); numbers(b, N, 3);
    op_variant v[OP_MAX_VARIANTS];
    for (int i = 0, n = op_variants(v); i < n; i++) {
        const lk_backend *backend;
        CHECK_OK(lk_backend_cpu(v[i].isa, &backend));
        linear l = linear_new(R, K, N);
        lk_pool *pool = lk_pool_new(v[i].threads);
        lk_exec *set, *bound;
        lk_exec_opts opts = {.backend = backend, .pool = pool};
        uint64_t before = lk_kernel_count(backend);
        CHECK_OK(lk_exec_new(l.g, &l.y, 1, opts, &set)); CHECK_OK(lk_exec_new(l.g, &l.y, 1, opts, &bound));
        CHECK_OK(lk_exec_set(set, l.x, x, R * K)); CHECK_OK(lk_exec_set(set, l.w, w, N * K)); CHECK_OK(lk_exec_set(set, l.b, b, N));
        CHECK_OK(lk_exec_set(bound, l.x, x, R * K)); CHECK_OK(lk_exec_bind(bound, l.w, w, N * K)); CHECK_OK(lk_exec_bind(bound, l.b, b, N));
        CHECK(lk_exec_bytes(bound) == lk_exec_bytes(set) - 4 * (N * K + N));
        CHECK_FAILS(lk_exec_set(bound, l.w, w, N * K), "bound");
        CHECK_OK(lk_exec_run(set)); CHECK_OK(lk_exec_run(bound));
        CHECK_MSG(lk_kernel_count(backend) >= before + 2, "the kernels of %s did not run", v[i].name);
        CHECK_OK(lk_exec_get(set, l.y, got, R * N));
        if (!i) memcpy(want, got, sizeof want);
        CHECK_MSG(!memcmp(want, got, sizeof want), "%s: other bits", v[i].name);
        CHECK_OK(lk_exec_get(bound, l.y, got, R * N));
        CHECK_MSG(!memcmp(want, got, sizeof want), "%s, bound: other bits", v[i].name);
        w[5] += 1; CHECK_OK(lk_exec_bind(bound, l.w, w, N * K)); CHECK_OK(lk_exec_run(bound)); w[5] -= 1;    /* bound anew: packed anew */
        CHECK_OK(lk_exec_get(bound, l.y, got, R * N));
        CHECK(memcmp(want, got, sizeof want));
        lk_exec_free(set); lk_exec_free(bound); lk_pool_free(pool); lk_graph_free(l.g);
    }
}

/* ---- weights in halves ----------------------------------------------------------------------------------------------------------- */
/* sum gelu(x w^T + b) and its gradient to x. Under few rows the forward product wants w packed, and the backward one takes it so too; else both take it as it lies. */
enum { FEW = 9, HR = 37, HK = 300, HN = 70 };
typedef struct { lk_graph *g; int64_t rows; lk_val x, w, b, out[2]; } layer;
static layer layer_new(int64_t rows) {
    layer l = {.g = lk_graph_new(), .rows = rows};
    l.x = lk_input(l.g, "x", LK_F32, LK_SHAPE(rows, HK));
    l.w = lk_param(l.g, "proj.weight", LK_SHAPE(HN, HK), LK_MEM_WEIGHT);
    l.b = lk_param(l.g, "proj.bias", LK_SHAPE(HN), LK_MEM_WEIGHT);
    l.out[0] = lk_sum_all(l.g, lk_gelu(l.g, lk_linear(l.g, l.x, l.w, l.b)));
    lk_vjp(l.g, l.out[0], LK_NONE, &l.x, 1, &l.out[1]);
    return l;
}
static int64_t all_classes(const lk_plan *p) {
    int64_t sum = 0;
    for (int c = 0; c < LK_MEM_CLASSES; c++) sum += p->by_class[c];
    return sum;
}
typedef struct { float x[HR * HK], w[HN * HK], b[HN], back[HN * HK], got[HR * HK + 1], want[HR * HK + 1]; uint16_t hw[HN * HK], hb[HN]; } layer_data;
static void layer_run(lk_exec *e, const layer *l, layer_data *d, float *to) {
    CHECK_OK(lk_exec_set(e, l->x, d->x, l->rows * HK));
    CHECK_OK(lk_exec_run(e));
    CHECK_OK(lk_exec_get(e, l->out[0], to, 1));
    CHECK_OK(lk_exec_get(e, l->out[1], to + 1, l->rows * HK));
}
static void round_to(layer_data *d, lk_float_as as) {
    numbers(d->x, HR * HK, 1); numbers(d->w, HN * HK, 2); numbers(d->b, HN, 3);
    for (int i = 0; i < HN * HK; i++) d->hw[i] = as == LK_AS_F16 ? lk_half_of(d->w[i]) : (uint16_t)(lk_bits_of(d->w[i]) >> 16);
    for (int i = 0; i < HN; i++) d->hb[i] = as == LK_AS_F16 ? lk_half_of(d->b[i]) : (uint16_t)(lk_bits_of(d->b[i]) >> 16);
    lk_widen_halves(d->w, d->hw, HN * HK, as);
    lk_widen_halves(d->b, d->hb, HN, as);
}
TEST(halves_are_packed_from_where_they_lie_and_change_no_bit) {
    layer_data *d = lk_xcalloc(1, sizeof *d);
    op_variant v[OP_MAX_VARIANTS];
    for (int round = 0; round < 4; round++) {
        const lk_float_as as = round % 2 ? LK_AS_BF16 : LK_AS_F16;
        const bool few = round < 2;
        round_to(d, as);
        for (int i = 0, n = op_variants(v); i < n; i++) {
            const lk_backend *backend;
            CHECK_OK(lk_backend_cpu(v[i].isa, &backend));
            layer l = layer_new(few ? FEW : HR);
            lk_pool *pool = lk_pool_new(v[i].threads);
            lk_exec *floats, *halves;
            lk_exec_opts opts = {.backend = backend, .pool = pool};
            CHECK_OK(lk_exec_new(l.g, l.out, 2, opts, &floats)); CHECK_OK(lk_exec_new(l.g, l.out, 2, opts, &halves));
            CHECK_OK(lk_exec_set(floats, l.w, d->w, HN * HK)); CHECK_OK(lk_exec_set(floats, l.b, d->b, HN));
            lk_stored w = {.data = d->hw, .as = as}, b = {.data = d->hb, .as = as};
            CHECK_OK(lk_exec_bind_stored(halves, l.w, w, HN * HK)); CHECK_OK(lk_exec_bind_stored(halves, l.b, b, HN));
            layer_run(floats, &l, d, d->want); layer_run(halves, &l, d, d->got);
            CHECK_MSG(!memcmp(d->want, d->got, sizeof d->want), "%s, %s: other bits", v[i].name, as == LK_AS_F16 ? "fp16" : "bf16");
            const lk_plan *p = lk_exec_plan(halves);       /* w packed once or widened, never both; b widened */
            CHECK(p->packed_bytes == (few ? 4 * HN * HK : 0) && p->unpacked_bytes == 4 * (few ? HN : HN * HK + HN));
            int64_t planned = all_classes(p) - p->by_class[LK_MEM_WEIGHT] + p->packed_bytes + p->unpacked_bytes;
            CHECK_MSG(lk_exec_bytes(halves) == planned, "planned %lld, counted %lld", (long long)planned, (long long)lk_exec_bytes(halves));
            CHECK_OK(lk_exec_get(halves, l.w, d->back, HN * HK));                                           /* read back: widened for the caller */
            CHECK(!memcmp(d->back, d->w, sizeof d->w) && lk_exec_bytes(halves) == planned);
            d->hw[7] ^= 1;                                                                                  /* planted: the last place of one weight */
            CHECK_OK(lk_exec_bind_stored(halves, l.w, w, HN * HK)); layer_run(halves, &l, d, d->got); d->hw[7] ^= 1;
            CHECK(memcmp(d->want, d->got, sizeof d->want));
            CHECK_OK(lk_exec_set(halves, l.w, d->w, HN * HK)); layer_run(halves, &l, d, d->got);               /* replaced by floats of its own */
            CHECK(!memcmp(d->want, d->got, sizeof d->want) && lk_exec_bytes(halves) == planned);
            lk_exec_free(floats); lk_exec_free(halves); lk_pool_free(pool); lk_graph_free(l.g);
        }
    }
    free(d);
}
/* An output shows the weight, so it is needed as it is, and packed besides only where memory allows; a second executor shares what the first has made. */
TEST(halves_keep_to_the_limit_and_are_shared) {
    layer_data *d = lk_xcalloc(1, sizeof *d);
    round_to(d, LK_AS_F16);
    layer l = layer_new(FEW);
    lk_val out[] = {l.out[0], l.out[1], l.w};
    lk_exec *plenty, *tight, *other;
    lk_stored w = {.data = d->hw, .as = LK_AS_F16}, b = {.data = d->hb, .as = LK_AS_F16};
    CHECK_OK(lk_exec_new(l.g, out, 3, (lk_exec_opts){0}, &plenty));
    const lk_plan *p = lk_exec_plan(plenty);
    CHECK(p->packed_bytes == 4 * HN * HK && p->unpacked_bytes == 4 * (HN * HK + HN));
    CHECK_OK(lk_exec_bind_stored(plenty, l.w, w, HN * HK)); CHECK_OK(lk_exec_bind_stored(plenty, l.b, b, HN));
    layer_run(plenty, &l, d, d->want);
    CHECK(lk_exec_bytes(plenty) == all_classes(p) + p->packed_bytes);
    CHECK_OK(lk_exec_new(l.g, out, 3, (lk_exec_opts){.memory_limit = all_classes(p)}, &tight));
    CHECK_OK(lk_exec_bind_stored(tight, l.w, w, HN * HK)); CHECK_OK(lk_exec_bind_stored(tight, l.b, b, HN));
    layer_run(tight, &l, d, d->got);
    CHECK(lk_exec_bytes(tight) == all_classes(p) && !memcmp(d->want, d->got, sizeof d->want));
    CHECK_OK(lk_exec_new(l.g, l.out, 2, (lk_exec_opts){0}, &other));
    CHECK_OK(lk_exec_share(other, l.w, plenty, l.w)); CHECK_OK(lk_exec_share(other, l.b, plenty, l.b));
    lk_exec_free(plenty);
    layer_run(other, &l, d, d->got);
    CHECK(!memcmp(d->want, d->got, sizeof d->want));
    lk_exec_free(tight); lk_exec_free(other);
    lk_exec *ref;
    double wide[HN];
    CHECK_OK(lk_exec_new(l.g, out, 3, (lk_exec_opts){.backend = lk_backend_ref()}, &ref));                    /* binary64: widened and set */
    CHECK_OK(lk_exec_bind_stored(ref, l.b, b, HN));
    CHECK_OK(lk_exec_get_f64(ref, l.b, wide, HN));
    for (int i = 0; i < HN; i++) CHECK(wide[i] == d->b[i]);
    lk_exec_free(ref); lk_graph_free(l.g);
    free(d);
}

TEST(a_param_an_effect_writes_is_not_bound) {
    lk_graph *g = lk_graph_new();
    lk_exec *e;
    lk_val p = lk_param(g, "lora_A.weight", LK_SHAPE(4), LK_MEM_ADAPTER);
    float x[4] = {1, 2, 3, 4};
    lk_assign(g, p, lk_scale(g, p, 2));
    CHECK_OK(lk_exec_new(g, &p, 1, (lk_exec_opts){0}, &e));
    CHECK_FAILS(lk_exec_bind(e, p, x, 4), "lora_A.weight is written by an effect");
    lk_exec_free(e); lk_graph_free(g);
}

/* A training graph writes an adapter that a sampling graph reads, and outlives it. */
TEST(executors_share_a_leaf) {
    lk_graph *train = lk_graph_new(), *sample = lk_graph_new();
    lk_val p = lk_param(train, "lora_A.weight", LK_SHAPE(4), LK_MEM_ADAPTER), q = lk_param(sample, "lora_A.weight", LK_SHAPE(4), LK_MEM_ADAPTER), wrong = lk_param(sample, "other", LK_SHAPE(5), LK_MEM_ADAPTER);
    lk_assign(train, p, lk_scale(train, p, 2));
    lk_val y[] = {lk_neg(sample, q), lk_neg(sample, wrong)};
    lk_exec *a, *b;
    float x[4] = {1, 2, 3, 4};
    CHECK_OK(lk_exec_new(train, &p, 1, (lk_exec_opts){0}, &a)); CHECK_OK(lk_exec_new(sample, y, 2, (lk_exec_opts){0}, &b));
    CHECK_OK(lk_exec_set(a, p, x, 4));
    CHECK_FAILS(lk_exec_share(b, wrong, a, p), "5 elements; found 4");
    CHECK_OK(lk_exec_share(b, q, a, p));
    for (int run = 1; run <= 2; run++) {
        CHECK_OK(lk_exec_run(a)); CHECK_OK(lk_exec_run(b)); CHECK_OK(lk_exec_get(b, y[0], x, 4));
        for (int i = 0; i < 4; i++) CHECK(x[i] == -(float)((i + 1) << run));
    }
    lk_exec_free(a);
    CHECK_OK(lk_exec_run(b)); CHECK_OK(lk_exec_get(b, y[0], x, 4));
    CHECK(x[3] == -16);
    lk_exec_free(b); lk_graph_free(train); lk_graph_free(sample);
}
