/* The fast tier, in make check over the emulated cuBLASLt: the sequence of calls is the device's, the sums are another order's. Each operation
 * that contracts stays within a tolerance of the exact tier, values, gradients and gradients of gradients; a whole step too;
 * bits repeat; frozen weights are kept in bf16; what the library would refuse is refused. */
#include "tests/backend/cuda/where.h"
#include "tests/lib/lk_test.h"
#include "tests/lib/opcheck.h"
#include <cublasLt.h>

static const lk_backend *fast(lk_cuda_precision p) {
    const lk_backend *b;
    CHECK_OK(lk_backend_cuda(p, &b));
    return b;
}
static void expect_nothing_left(void) {
    lk_cuda_close();
    char *left = leaks();
    CHECK_MSG(!*left, "%s", left);
    free(left);
}
/* Of a value, relative to the largest of its tensor. An operand of u rounding (tf32 2^-11, bf16 2^-8) moves a product by at most
 * 2 u of the sum of magnitudes; the cases' sums are short and the gradients of gradients chain up to four of them. */
static const struct { lk_cuda_precision p; const char *name; double tolerance; } tiers[] = {
    {LK_CUDA_FP32, "fp32", 1e-5}, {LK_CUDA_TF32, "tf32", 8 * 0x1p-11}, {LK_CUDA_BF16, "bf16", 8 * 0x1p-8}};
static bool contracts(lk_op op) { return lk_op_traits(op) & T_CONTRACT; }

TEST(contractions_are_close_to_the_exact_tier) {
    bool by_library[LK_OP_COUNT] = {false};
    for (int k = 0; k < 3; k++) {
        const lk_backend *b = fast(tiers[k].p);
        double worst = 0;
        for (int i = 0; i < op_contract.n; i++) {
            const op_case *c = &op_contract.cases[i];
            if (c->big && tiers[k].p != LK_CUDA_BF16) continue;
            int64_t before = library_calls();
            double d = op_distance(c, b);
            by_library[c->op] |= !EMULATED || library_calls() > before;
            CHECK_MSG(d <= tiers[k].tolerance, "%s, %s (case %d, %s): %g", tiers[k].name, lk_op_name(c->op), i, c->what ? c->what : "", d);
            if (d > worst) worst = d;
        }
        printf("  " WHERE ", %s: worst distance %.2e of tolerance %.2e\n", tiers[k].name, worst, tiers[k].tolerance);
        CHECK_MSG(worst > (tiers[k].p == LK_CUDA_FP32 ? 0 : tiers[k].tolerance / 200), "%s differs so little that the library cannot have been called: %g", tiers[k].name, worst);
    }
    for (int op = 0; op < LK_OP_COUNT; op++) CHECK_MSG(!contracts((lk_op)op) || by_library[op], "%s never reached the library", lk_op_name((lk_op)op));
    CHECK(!EMULATED || (blocks_of(LK_CUDA_pack) > 0 && blocks_of(LK_CUDA_finish) > 0));
    expect_nothing_left();
}

/* ---- a small network with frozen weights -------------------------------------------------------------------------------------- */
enum { B = 2, C = 24, H = 10, OUT = 40 };
typedef struct { lk_graph *g; lk_val x, conv, one, linear, norm, y, dx; } network;
static network network_new(void) {
    network n = {.g = lk_graph_new()};
    lk_graph *g = n.g;
    n.x = lk_input(g, "x", LK_F32, LK_SHAPE(B, C, H, H));
    n.conv = lk_param(g, "conv.weight", LK_SHAPE(C, C, 3, 3), LK_MEM_WEIGHT);
    n.one = lk_param(g, "one.weight", LK_SHAPE(C, C, 1, 1), LK_MEM_WEIGHT);
    n.linear = lk_param(g, "linear.weight", LK_SHAPE(OUT, C), LK_MEM_WEIGHT);
    n.norm = lk_param(g, "norm.weight", LK_SHAPE(C), LK_MEM_WEIGHT);
    lk_val h = lk_silu(g, lk_conv2d(g, n.x, n.conv, n.norm, (lk_conv){.stride = {1, 1}, .pad = {1, 1, 1, 1}}));
    h = lk_conv2d(g, h, n.one, LK_NONE, (lk_conv){.stride = {1, 1}});
    h = lk_reshape(g, lk_permute(g, h, (int[]){0, 2, 3, 1}), LK_SHAPE(B, H * H, C));
    n.y = lk_linear(g, lk_layer_norm(g, h, n.norm, LK_NONE, 1e-5), n.linear, LK_NONE);
    lk_val loss = lk_mean_all(g, lk_square(g, n.y));
    lk_vjp(g, loss, LK_NONE, &n.x, 1, &n.dx);
    return n;
}
static float value_of(uint64_t stream, int64_t i) { return .3f * lk_philox_normal(stream, 0, 0, (uint64_t)i); }
static float nearest_bf16(float x) { return lk_of_bf16(lk_bf16_of(x)); }
typedef struct { float y[B * H * H * OUT], dx[B * C * H * H], linear[OUT * C]; int64_t bytes; /* without the workspace */ } outcome;
/* rounded: weights of the products enter as bf16 values. */
static void run_network(const lk_backend *b, bool rounded, outcome *o) {
    network n = network_new();
    lk_exec *e;
    static float w[C * C * 9], x[B * C * H * H];
    CHECK_OK(lk_graph_error(n.g));
    CHECK_OK(lk_exec_new(n.g, (lk_val[]){n.y, n.dx}, 2, (lk_exec_opts){.backend = b}, &e));
    int64_t planned = 0;
    for (int k = 0; k < LK_MEM_CLASSES; k++) planned += lk_exec_plan(e)->by_class[k];
    CHECK_MSG(lk_exec_bytes(e) - planned >= 0 && lk_exec_bytes(e) - planned < 12 * 256, "the plan says %lld bytes, the executor %lld", (long long)planned, (long long)lk_exec_bytes(e));   /* each leaf begins at 256 */
    const lk_val params[] = {n.conv, n.one, n.linear, n.norm};
    for (int k = 0; k < 4; k++) {
        int64_t count = lk_numel(lk_shape_of(n.g, params[k]));
        for (int64_t i = 0; i < count; i++) w[i] = rounded && k < 3 ? nearest_bf16(value_of((uint64_t)k, i)) : value_of((uint64_t)k, i);
        CHECK_OK(lk_exec_set(e, params[k], w, count));
    }
    for (int i = 0; i < B * C * H * H; i++) x[i] = value_of(9, i);
    CHECK_OK(lk_exec_set(e, n.x, x, B * C * H * H));
    for (int k = 0; k < 3; k++) CHECK_OK(lk_exec_run(e));            /* one by one, captured, replayed */
    CHECK_OK(lk_exec_get(e, n.y, o->y, B * H * H * OUT));
    CHECK_OK(lk_exec_get(e, n.dx, o->dx, B * C * H * H));
    CHECK_OK(lk_exec_get(e, n.linear, o->linear, OUT * C));
    int64_t work = 0;
    for (int i = 0; i < lk_graph_count(n.g); i++) {
        int64_t w_i = b->workspace(n.g, lk_graph_node(n.g, (lk_val){i}), 1);
        if (w_i > work) work = w_i;
    }
    o->bytes = lk_exec_bytes(e) - (work + 255) / 256 * 256;
    lk_exec_free(e); lk_graph_free(n.g);
}
static double apart(const float *a, const float *b, int n) {
    double worst = 0, largest = 0;
    for (int i = 0; i < n; i++) { if (!(fabs((double)a[i] - b[i]) <= worst)) worst = fabs((double)a[i] - b[i]); largest = fmax(largest, fabs((double)a[i])); }
    return worst / largest;
}
TEST(frozen_weights_are_kept_in_bf16) {
    static outcome exact, same, half, again;
    run_network(fast(LK_CUDA_EXACT), true, &exact);
    run_network(fast(LK_CUDA_FP32), true, &same);
    CHECK_MSG(apart(exact.y, same.y, B * H * H * OUT) < 1e-5 && apart(exact.dx, same.dx, B * C * H * H) < 1e-5, "fp32: %g %g", apart(exact.y, same.y, B * H * H * OUT), apart(exact.dx, same.dx, B * C * H * H));
    run_network(fast(LK_CUDA_BF16), false, &half);
    run_network(fast(LK_CUDA_BF16), false, &again);
    CHECK_MSG(apart(exact.y, half.y, B * H * H * OUT) < 8 * 0x1p-8 && apart(exact.dx, half.dx, B * C * H * H) < 8 * 0x1p-8, "bf16: %g %g", apart(exact.y, half.y, B * H * H * OUT), apart(exact.dx, half.dx, B * C * H * H));
    CHECK(apart(exact.y, half.y, B * H * H * OUT) > 0x1p-12);                                /* activations are rounded too */
    CHECK(!memcmp(&half, &again, sizeof half));                                              /* own bits repeat */
    CHECK(!memcmp(exact.linear, half.linear, sizeof half.linear));                           /* read back as kept: bf16 values */
    int64_t fp32 = (C * C * 9 + C * C + OUT * C) * 4, saved = same.bytes - half.bytes;
    CHECK_MSG(saved >= fp32 / 2 - 3 * 256 && saved <= fp32 / 2 + 3 * 256, "%lld bytes saved of %lld", (long long)saved, (long long)fp32);
    expect_nothing_left();
}

#ifndef LK_ON_DEVICE
/* ---- what is refused ------------------------------------------------------------------------------------------------------------ */
TEST(a_library_without_an_algorithm_is_an_error_that_names_the_operation) {
    static outcome o;
    network n = network_new();
    lk_exec *e;
    static float x[B * C * H * H];
    const lk_backend *b = fast(LK_CUDA_TF32);
    CHECK_OK(lk_exec_new(n.g, &n.y, 1, (lk_exec_opts){.backend = b}, &e));
    CHECK_OK(lk_exec_set(e, n.x, x, B * C * H * H));
    emu_now.broken_library = true;
    CHECK_FAILS(lk_exec_run(e), "operation conv2d, [2, 24, 10, 10] [24, 24, 3, 3] [24] -> [2, 24, 10, 10]: cuBLASLt: product 24 x 100 x 216");
    emu_now.broken_library = false;
    lk_exec_free(e); lk_graph_free(n.g);
    run_network(b, false, &o);                                                                /* and the device goes on */
    expect_nothing_left();
}
typedef struct { int m, n, k, ld_a; int trans_a; int64_t shift; } planted;
/* One product of matrices on the device by the library's own interface, with a mistake. */
static cublasStatus_t product_with(planted f, float *out) {
    const lk_backend *b = fast(LK_CUDA_FP32);
    enum { N = 64 };
    static float host[N * N];
    cublasLtHandle_t h;
    cublasLtMatmulDesc_t d;
    cublasLtMatrixLayout_t la = NULL, lb, lc;
    cublasLtMatmulPreference_t p;
    cublasLtMatmulHeuristicResult_t found;
    const float one = 1, zero = 0;
    const size_t room = 4 << 20;
    const uint32_t none = CUBLASLT_REDUCTION_SCHEME_NONE;
    void *a, *x, *c, *work;
    int n;
    for (int i = 0; i < N * N; i++) host[i] = value_of(3, i);
    CHECK_OK(b->device->alloc(sizeof host, &a)); CHECK_OK(b->device->alloc(sizeof host, &x)); CHECK_OK(b->device->alloc(sizeof host, &c)); CHECK_OK(b->device->alloc((int64_t)room, &work));
    CHECK_OK(b->device->write(a, host, sizeof host)); CHECK_OK(b->device->write(x, host, sizeof host));
    CHECK(cublasLtCreate(&h) == CUBLAS_STATUS_SUCCESS && cublasLtMatmulDescCreate(&d, CUBLAS_COMPUTE_32F, CUDA_R_32F) == CUBLAS_STATUS_SUCCESS && cublasLtMatmulPreferenceCreate(&p) == CUBLAS_STATUS_SUCCESS);
    cublasLtMatmulPreferenceSetAttribute(p, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &room, sizeof room);
    cublasLtMatmulPreferenceSetAttribute(p, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &none, sizeof none);
    cublasLtMatmulDescSetAttribute(d, CUBLASLT_MATMUL_DESC_TRANSA, &f.trans_a, sizeof f.trans_a);
    cublasStatus_t s = cublasLtMatrixLayoutCreate(&la, CUDA_R_32F, (uint64_t)f.m, (uint64_t)f.k, f.ld_a);
    CHECK(cublasLtMatrixLayoutCreate(&lb, CUDA_R_32F, N, N, N) == CUBLAS_STATUS_SUCCESS && cublasLtMatrixLayoutCreate(&lc, CUDA_R_32F, N, N, N) == CUBLAS_STATUS_SUCCESS);
    if (!s) s = cublasLtMatmulAlgoGetHeuristic(h, d, la, lb, lc, lc, p, 1, &found, &n);
    if (!s) s = cublasLtMatmul(h, d, &one, (char *)a + f.shift, la, x, lb, &zero, c, lc, c, lc, &found.algo, work, room, lk_cuda_now.stream);
    if (!s) CHECK_OK(b->device->read(out, c, sizeof host));
    if (la) cublasLtMatrixLayoutDestroy(la);
    cublasLtMatrixLayoutDestroy(lb); cublasLtMatrixLayoutDestroy(lc); cublasLtMatmulPreferenceDestroy(p); cublasLtMatmulDescDestroy(d); cublasLtDestroy(h);
    b->device->release(a); b->device->release(x); b->device->release(c); b->device->release(work);
    return s;
}
TEST(wrong_layouts_are_caught) {
    static float right[64 * 64], wrong[64 * 64];
    CHECK(product_with((planted){64, 64, 64, 64, CUBLAS_OP_N, 0}, right) == CUBLAS_STATUS_SUCCESS);
    CHECK(product_with((planted){64, 64, 64, 64, CUBLAS_OP_T, 0}, wrong) == CUBLAS_STATUS_SUCCESS);     /* a transposed layout of a square matrix: other numbers */
    CHECK(apart(right, wrong, 64 * 64) > 0.1);
    CHECK(product_with((planted){64, 64, 63, 64, CUBLAS_OP_N, 0}, wrong) == CUBLAS_STATUS_INVALID_VALUE); /* k of one is not k of the other */
    CHECK(product_with((planted){64, 64, 64, 63, CUBLAS_OP_N, 0}, wrong) == CUBLAS_STATUS_INVALID_VALUE); /* a leading dimension below the rows */
    CHECK(product_with((planted){64, 64, 64, 65, CUBLAS_OP_N, 0}, wrong) == CUBLAS_STATUS_INVALID_VALUE); /* one that reaches past the allocation */
    CHECK(product_with((planted){64, 64, 64, 64, CUBLAS_OP_N, 256}, wrong) == CUBLAS_STATUS_INVALID_VALUE); /* so does a shift */
    CHECK(product_with((planted){64, 64, 64, 64, CUBLAS_OP_N, -4}, wrong) == CUBLAS_STATUS_INVALID_VALUE);  /* before it, and not aligned */
    expect_nothing_left();
}
#endif
