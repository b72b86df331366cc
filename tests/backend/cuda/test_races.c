/* A missing barrier must be seen. The body of reduce_sum is compiled here once as it is and once with the phases that
 * LK_SYNC parts run as one (phase.h, LK_PLANT_MISSING_BARRIER): forward order may happen to hide it, shuffled must not. */
#define LK_PLANT_MISSING_BARRIER
#include "backend/cuda/body_row.h"
#include "backend/cuda/body_product.h"
#include "tests/emulation/emulation.h"
#include "tests/lib/lk_test.h"

enum { N = 300 };
static void planted_sum(lk_block *b, const void *args)     { lk_body_reduce_sum(b, args); }
static void planted_product(lk_block *b, const void *args) { lk_body_product(b, args); }

static float x[N * N], y[N * N];
static void fill(void) { for (int i = 0; i < N * N; i++) { x[i] = lk_philox_normal(1, 0, 0, (uint64_t)i); y[i] = lk_philox_normal(2, 0, 0, (uint64_t)i); } }
static bool same(const float *a, const float *b, int64_t n) { return !memcmp(a, b, (size_t)n * sizeof *a); }

/* Rows [N, N] -> [N] by the real kernel (through its launch) and by the planted one. */
TEST(a_sum_without_barriers_is_caught) {
    static float want[N], got[N];
    fill();
    const lk_val in[] = {{0}};
    const lk_shape shape = LK_SHAPE(N, N);
    lk_node node = {.op = LK_OP_reduce_sum, .shape = LK_SHAPE(N), .n_in = 1, .in = in, .attr = {.axes = {1, {1}, false}}};
    void *data[] = {x};
    lk_kernel_call c = {.node = &node, .out = want, .in = data, .in_shape = &shape};
    emu_backend(EMU_FORWARD)->kernel[LK_OP_reduce_sum](&c);
    for (emu_order o = EMU_REVERSED; o < EMU_ORDERS; o++) {
        c.out = got; emu_backend(o)->kernel[LK_OP_reduce_sum](&c);
        CHECK_MSG(same(want, got, N), "the whole kernel differs, %s", emu_order_name[o]);
    }
    lk_reduce_args a = {.out = got, .x = x, .n_kept = 1, .n_red = 1, .kept = {N}, .kept_stride = {N}, .red = {N}, .red_stride = {1}, .outputs = N, .count = N};
    emu_run(planted_sum, &a, N, LK_ROW_THREADS, EMU_SHUFFLED, 3);
    CHECK(!same(want, got, N));
}
TEST(a_product_without_barriers_is_caught) {
    static float want[N * N], got[N * N];
    fill();
    const lk_val in[] = {{0}, {1}};
    const lk_shape shape[] = {LK_SHAPE(N, N), LK_SHAPE(N, N)};
    lk_node node = {.op = LK_OP_matmul, .shape = LK_SHAPE(N, N), .n_in = 2, .in = in};
    void *data[] = {x, y};
    lk_kernel_call c = {.node = &node, .out = want, .in = data, .in_shape = shape};
    emu_backend(EMU_SHUFFLED)->kernel[LK_OP_matmul](&c);
    lk_product_args p = {.a = x, .b = y, .c = got, .m = N, .n = N, .k = N, .a_m = N, .a_k = 1, .a_period = N, .b_n = 1, .b_k = N, .b_period = N, .c_m = N, .c_n = 1, .c_period = N,
                         .tiles_m = (N + LK_TILE - 1) / LK_TILE, .tiles_n = (N + LK_TILE - 1) / LK_TILE};
    emu_run(planted_product, &p, p.tiles_m * p.tiles_n, LK_PRODUCT_THREADS, EMU_SHUFFLED, 3);
    CHECK(!same(want, got, N * N));
    /* A transposed layout is other numbers too. */
    node.attr.matmul.tb = true; c.out = got;
    emu_backend(EMU_FORWARD)->kernel[LK_OP_matmul](&c);
    CHECK(!same(want, got, N * N));
}
