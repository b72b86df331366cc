/* The contractions' entry in the table: counts the calls of this instruction set, answers for workspaces and
 * for the packed form of frozen weights (their transposition as floats, one form for every instruction set):
 *   1       b [N, K] of matmul and matmul_add with tb, under few rows of a: [K, N], read in place. More rows share the turning of a panel, and
 *           [K, N] by columns would fall into few sets of a cache
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
enum { FEW_ROWS = 16 };
/* The input that is the right factor of a product; -1: no product, or no matrix there. */
static int right_factor(const lk_node *n, const lk_shape *in) {
    const int side = n->op == LK_OP_matmul ? 1 : n->op == LK_OP_matmul_add ? 2 : -1;
    return side > 0 && in[side].rank == 2 ? side : -1;
}
int LK_KNAME(lk_contract_pack_form)(const lk_node *n, const lk_shape *in, int input) {
    if (n->op == LK_OP_matmul || n->op == LK_OP_matmul_add) return input == right_factor(n, in) && n->attr.matmul.tb && lk_k_numel(in[input - 1]) <= FEW_ROWS * in[input].d[1];
    if (input != 1) return 0;
    if (n->op != LK_OP_conv2d && n->op != LK_OP_conv2d_dx) return 0;
    lk_conv_geometry g = lk_conv_geometry_of(n, in);
    return lk_conv_packs(&g) ? 1 + (int)g.groups : 0;
}
/* A product reads a matrix as it lies, or turned where that is all there is. */
int LK_KNAME(lk_contract_pack_other)(const lk_node *n, const lk_shape *in, int input) { return input == right_factor(n, in); }

typedef struct { lk_conv_geometry g; int64_t rows, columns; const lk_stored *w; float *packed; } pack_job;
enum { ROWS = 64 };                                    /* of a matrix at a time: whole cache lines of its transposition */
/* Halves are widened a square at a time. */
static void turn(const lk_stored *w, const lk_turn *t, float *packed) {
    if (w->as == LK_AS_F32) { lk_transpose((const float *)w->data + t->from, t->ld_from, t->rows, t->columns, packed + t->to, t->ld_to); return; }
    float square[ROWS * ROWS];
    for (int64_t r = 0; r < t->rows; r += ROWS)
        for (int64_t c = 0; c < t->columns; c += ROWS) {
            const int64_t rows = lk_k_min(ROWS, t->rows - r), columns = lk_k_min(ROWS, t->columns - c);
            const uint16_t *from = (const uint16_t *)w->data + t->from + r * t->ld_from + c;
            for (int64_t i = 0; i < rows; i++, from += t->ld_from) lk_widen_halves(square + i * ROWS, from, columns, w->as);
            lk_transpose(square, ROWS, rows, columns, packed + t->to + c * t->ld_to + r, t->ld_to);
        }
}
static void pack_rows(void *ctx, int64_t begin, int64_t end, int thread) {
    const pack_job *j = ctx; (void)thread;
    const int64_t from = begin * ROWS, rows = lk_k_min(j->rows, end * ROWS) - from;
    turn(j->w, &(lk_turn){from * j->columns, j->columns, rows, j->columns, from, j->rows}, j->packed);
}
static void pack_channels(void *ctx, int64_t begin, int64_t end, int thread) {
    const pack_job *j = ctx; (void)thread;
    for (int64_t c = begin; c < end; c++) { const lk_turn t = lk_conv_channel_turn(&j->g, c); turn(j->w, &t, j->packed); }
}
void LK_KNAME(lk_contract_pack)(const lk_node *n, const lk_shape *in, int input, const lk_stored *w, float *packed, lk_pool *pool) {
    pack_job j = {.w = w, .packed = packed};
    if (n->op == LK_OP_matmul || n->op == LK_OP_matmul_add) {
        j.rows = in[input].d[0]; j.columns = in[input].d[1];
        lk_parallel(pool, (j.rows + ROWS - 1) / ROWS, lk_k_max(1, LK_GRAIN / (ROWS * j.columns)), pack_rows, &j);
        return;
    }
    j.g = lk_conv_geometry_of(n, in);
    lk_parallel(pool, j.g.groups * j.g.cg, lk_k_max(1, LK_GRAIN / (j.g.og * j.g.kh * j.g.kw)), pack_channels, &j);
}
