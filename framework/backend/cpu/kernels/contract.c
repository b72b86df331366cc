/* The contractions' entry in the table: counts the calls of this instruction set, answers for workspaces and
 * for the packed form of frozen weights (their transposition, one form for every instruction set):
 *   1       b [N, K] of matmul and matmul_add with tb: [K, N]
 *   1 + g   conv weights [O, C/g, kh, kw] of g groups: [g, kh, kw, C/g, O/g], which conv2d reads by columns
 *           and conv2d_dx by rows
 * A 1 x 1 convolution and a depthwise one read their weights as they are. */
#include "backend/cpu/kernels/gemm.h"
#include "backend/cpu/kernels/conv.h"
#include <stdatomic.h>

static atomic_uint_fast64_t calls;
void lk_contract_counted(void) { atomic_fetch_add_explicit(&calls, 1, memory_order_relaxed); }
uint64_t LK_KNAME(lk_contract_calls)(void) { return atomic_load(&calls); }

void LK_KNAME(lk_kernels_contract)(lk_kernel *table) {
    LK_KNAME(lk_kernels_matmul)(table);
    LK_KNAME(lk_kernels_conv)(table);
    LK_KNAME(lk_kernels_attention)(table);
}
int64_t LK_KNAME(lk_contract_workspace)(const lk_node *n, const lk_shape *in, int threads) {
    switch (n->op) {
        case LK_OP_matmul: case LK_OP_matmul_add: return LK_KNAME(lk_matmul_workspace)(n, in, threads);
        case LK_OP_conv2d: case LK_OP_conv2d_dx: case LK_OP_conv2d_dw: return LK_KNAME(lk_conv_workspace)(n, in, threads);
        default: return LK_KNAME(lk_attention_workspace)(n, in, threads);
    }
}
int LK_KNAME(lk_contract_pack_form)(const lk_node *n, const lk_shape *in, int input) {
    if (n->op == LK_OP_matmul_add) return input == 2 && n->attr.matmul.tb && in[2].rank == 2;
    if (input != 1) return 0;
    if (n->op == LK_OP_matmul) return n->attr.matmul.tb && in[1].rank == 2;
    if (n->op != LK_OP_conv2d && n->op != LK_OP_conv2d_dx) return 0;
    lk_conv_geometry g = lk_conv_geometry_of(n, in);
    return lk_conv_packs(&g) ? 1 + (int)g.groups : 0;
}
typedef struct { lk_conv_geometry g; int64_t rows, columns; const float *values; float *packed; } pack_job;
enum { ROWS = 64 };                                    /* of a matrix at a time: whole cache lines of its transposition */
static void pack_rows(void *ctx, int64_t begin, int64_t end, int thread) {
    const pack_job *j = ctx; (void)thread;
    const int64_t from = begin * ROWS, rows = lk_k_min(j->rows, end * ROWS) - from;
    lk_transpose(j->values + from * j->columns, j->columns, rows, j->columns, j->packed + from, j->rows);
}
static void pack_channels(void *ctx, int64_t begin, int64_t end, int thread) {
    const pack_job *j = ctx; (void)thread;
    for (int64_t c = begin; c < end; c++) lk_conv_pack_channel(&j->g, j->values, j->packed, c);
}
void LK_KNAME(lk_contract_pack)(const lk_node *n, const lk_shape *in, int input, const float *values, float *packed, lk_pool *pool) {
    pack_job j = {.values = values, .packed = packed};
    if (n->op == LK_OP_matmul || n->op == LK_OP_matmul_add) {
        j.rows = in[input].d[0]; j.columns = in[input].d[1];
        lk_parallel(pool, (j.rows + ROWS - 1) / ROWS, lk_k_max(1, LK_GRAIN / (ROWS * j.columns)), pack_rows, &j);
        return;
    }
    j.g = lk_conv_geometry_of(n, in);
    lk_parallel(pool, j.g.groups * j.g.cg, lk_k_max(1, LK_GRAIN / (j.g.og * j.g.kh * j.g.kw)), pack_channels, &j);
}
