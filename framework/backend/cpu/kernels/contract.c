/* The contractions' entry in the table: counts the calls of this instruction set, answers for workspaces and
 * for the packed form of frozen weights (their transposition, one form for every instruction set):
 *   1       matmul's b [N, K] with tb: [K, N]
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
        case LK_OP_matmul: return LK_KNAME(lk_matmul_workspace)(n, in, threads);
        case LK_OP_conv2d: case LK_OP_conv2d_dx: case LK_OP_conv2d_dw: return LK_KNAME(lk_conv_workspace)(n, in, threads);
        default: return LK_KNAME(lk_attention_workspace)(n, in, threads);
    }
}
int LK_KNAME(lk_contract_pack_form)(const lk_node *n, const lk_shape *in, int input) {
    if (input != 1) return 0;
    if (n->op == LK_OP_matmul) return n->attr.matmul.tb && in[1].rank == 2;
    if (n->op != LK_OP_conv2d && n->op != LK_OP_conv2d_dx) return 0;
    lk_conv_geometry g = lk_conv_geometry_of(n, in);
    return lk_conv_packs(&g) ? 1 + (int)g.groups : 0;
}
void LK_KNAME(lk_contract_pack)(const lk_node *n, const lk_shape *in, int input, const float *values, float *packed) {
    if (n->op == LK_OP_matmul) { lk_transpose(values, in[input].d[1], in[input].d[0], in[input].d[1], packed, in[input].d[0]); return; }
    lk_conv_geometry g = lk_conv_geometry_of(n, in);
    for (int64_t c = 0; c < g.groups * g.cg; c++) lk_conv_pack_channel(&g, values, packed, c);
}
