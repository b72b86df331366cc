/* The one product every contraction is made of: c[i][j] = sum over k of a(i, k) b(k, j) by numerics.md rule 2,
 * for a rectangle of outputs. What a and b are (a matrix, its transpose, the taps of a convolution) is the
 * operand's business: it hands over pieces of at most 256 k, which are laid out for the kernel as they come.
 *
 * Invariant: the only floating-point operations on an output are, per block of 256 k, a chain of fma from +0,
 * then one addition to what the blocks before gave, then one addition of the bias or, onto a value, the product
 * with alpha and one addition. Tiles, packing and threads choose when, never what. */
#ifndef LK_GEMM_H
#define LK_GEMM_H
#include "backend/cpu/kernels/kernels.h"

enum { LK_PANEL = 32,                                  /* lanes of a panel laid out by a caller: whole vectors of every instruction set */
       LK_KC = 256,                                    /* the block of rule 2 */
       LK_ROW_LD = LK_KC + 16,                         /* distance of packed rows: room for a vector's overhang */
       LK_MC = 252,                                    /* rows of a laid out at a time: 268 KiB, a part of a common L2; whole panels of every instruction set */
       LK_NC = 512,                                    /* columns of a thread's piece at most */
       LK_SCRATCH = LK_NC * LK_KC + (32 + LK_MC) * LK_ROW_LD };   /* floats lk_gemm needs: the panels of b, rows of one, the panels of a */

/* One side of the product: outputs r (rows of c for a, columns for b) by k. It speaks one of two layouts, the
 * one its memory has: BY_ROW k runs fastest, BY_LANE r runs fastest. A plain matrix is p with a stride (BY_ROW:
 * element (r, k) at p[r * stride + k]; BY_LANE: at p[k * stride + r]); anything else gives a copy function that
 * writes nr x nk elements from (r, k): BY_ROW to to[i * ld + j], BY_LANE (b only) to to[j * ld + i]. It may write whole
 * vectors past the end of a run where a later run or nothing comes, never past ld; BY_LANE zero-fills up to ld. */
typedef struct lk_operand lk_operand;
typedef void (*lk_operand_copy)(const lk_operand *, int64_t r, int nr, int64_t k, int nk, float *to, int64_t ld);
struct lk_operand {
    enum { LK_BY_ROW, LK_BY_LANE } layout;
    const float *p; int64_t stride;
    int64_t period, jump;                              /* BY_ROW, period > 0: k counts through pieces of `period` elements, `jump` apart */
    int64_t panel;                                     /* BY_LANE and b, panel > 0: element (r, k) at p[r / 32 * panel + k * stride + r % 32]; read where it lies */
    lk_operand_copy copy;                              /* NULL: plain matrix */
    /* BY_LANE, offset set: element (r, k) at p[offset[k] + r / grid_w * band_w + r % grid_w], grid_w a multiple of the
     * vector and whole vectors asked for: a convolution's taps are read where they lie in a padded band. */
    const int32_t *offset; int64_t grid_w, band_w;
    const void *ctx;                                   /* the copy function's */
    int64_t item, group;                               /* which picture, which group: the copy function's */
};
typedef struct {
    lk_operand a, b;
    int64_t k;
    float *c; int64_t ldc;                             /* element (i, j) at c[i * ldc + j] */
    int64_t c_lanes, c_panel;                          /* c_lanes > 0: at c[j / c_lanes * c_panel + i * ldc + j % c_lanes], c_lanes in whole vectors and in fours */
    const float *bias_row, *bias_col;                  /* by i, by j; NULL: none */
    bool add;                                          /* the first block is added to c too: k goes on from whole blocks before */
    const float *onto; float alpha;                    /* onto set: c = onto + alpha * sum, onto laid out as c and maybe c itself; k <= LK_KC, no bias */
} lk_product;

/* Computes rows [m0, m1) x columns [n0, n1); with panels n0 is a multiple of 32. scratch: LK_SCRATCH floats, 64-byte aligned. One thread. */
void LK_KNAME(lk_gemm)(const lk_product *, int64_t m0, int64_t m1, int64_t n0, int64_t n1, float *scratch);
#define lk_gemm LK_KNAME(lk_gemm)
/* to[c * ld_to + r] = from[r * ld_from + c]. */
void LK_KNAME(lk_transpose)(const float *from, int64_t ld_from, int64_t rows, int64_t cols, float *to, int64_t ld_to);
#define lk_transpose LK_KNAME(lk_transpose)

/* How many batches x rows x columns are cut for threads: pieces of mc x nc outputs. */
typedef struct { int64_t mc, nc, mt, nt; } lk_split;   /* piece, pieces */
lk_split LK_KNAME(lk_split_make)(int64_t batches, int64_t m, int64_t n, int threads);
#define lk_split_make LK_KNAME(lk_split_make)
/* True if putting b's outputs on rows and a's on lanes wastes clearly fewer lanes (then c comes out transposed). */
bool LK_KNAME(lk_swap_pays)(int64_t m, int64_t n);
#define lk_swap_pays LK_KNAME(lk_swap_pays)

/* The kernels, by file; each fills its rows of the table. contract.c calls them and answers for workspaces. */
void LK_KNAME(lk_kernels_matmul)(lk_kernel *), LK_KNAME(lk_kernels_conv)(lk_kernel *), LK_KNAME(lk_kernels_attention)(lk_kernel *);
int64_t LK_KNAME(lk_matmul_workspace)(const lk_node *, const lk_shape *in_shape, int threads);
int64_t LK_KNAME(lk_conv_workspace)(const lk_node *, const lk_shape *in_shape, int threads);
int64_t LK_KNAME(lk_attention_workspace)(const lk_node *, const lk_shape *in_shape, int threads);
void LK_KNAME(lk_contract_counted)(void);              /* one contraction kernel call more */
#define lk_contract_counted LK_KNAME(lk_contract_counted)
#endif
