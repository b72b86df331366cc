/* The kernels of the CUDA backend: their list, their arguments, and how a node becomes launches. Plain C, needs no
 * toolkit: tests run the same launches on the host.
 *
 * A node is lowered to launches of kernels (lower.c): each a kernel's number, a count of blocks and one struct of
 * arguments by value. Who launches is the caller's: the runtime on a device, tests/emulation on the host. */
#ifndef LK_CUDA_KERNELS_H
#define LK_CUDA_KERNELS_H
#include "backend/cuda/body_elementwise.h"
#include "backend/cuda/body_fast.h"
#include "backend/cuda/body_move.h"
#include "backend/cuda/body_picture.h"
#include "backend/cuda/body_product.h"
#include "backend/cuda/body_row.h"
#include "backend/cuda/body_service.h"

/* KERNEL(name, arguments, threads of a block): body lk_body_<name>. */
#define LK_CUDA_EW(name, expr) KERNEL(name, lk_ew_args, LK_FLAT_BLOCK)
#define LK_CUDA_KERNELS \
    LK_EW1(LK_CUDA_EW) LK_EW2(LK_CUDA_EW) LK_EW3(LK_CUDA_EW) \
    KERNEL(geglu, lk_geglu_args, LK_FLAT_BLOCK) KERNEL(geglu_dx, lk_geglu_args, LK_FLAT_BLOCK) \
    KERNEL(product, lk_product_args, LK_PRODUCT_THREADS) KERNEL(conv, lk_product_args, LK_PRODUCT_THREADS) \
    KERNEL(conv_dx, lk_product_args, LK_PRODUCT_THREADS) KERNEL(conv_dw, lk_product_args, LK_PRODUCT_THREADS) \
    KERNEL(reduce_sum, lk_reduce_args, LK_ROW_THREADS) KERNEL(reduce_max, lk_reduce_args, LK_ROW_THREADS) KERNEL(max_mask, lk_reduce_args, LK_ROW_THREADS) \
    KERNEL(softmax, lk_softmax_args, LK_ROW_THREADS) KERNEL(softmax_dx, lk_softmax_args, LK_ROW_THREADS) \
    KERNEL(norm, lk_norm_args, LK_ROW_THREADS) KERNEL(norm_dx, lk_norm_args, LK_ROW_THREADS) \
    KERNEL(box, lk_box_args, LK_FLAT_BLOCK) KERNEL(gather, lk_rows_args, LK_FLAT_BLOCK) KERNEL(scatter, lk_rows_args, LK_FLAT_BLOCK) \
    KERNEL(max_pool, lk_pool_args, LK_FLAT_BLOCK) KERNEL(max_pool_dx, lk_pool_args, LK_FLAT_BLOCK) \
    KERNEL(avg_pool, lk_pool_args, LK_FLAT_BLOCK) KERNEL(avg_pool_dx, lk_pool_args, LK_FLAT_BLOCK) \
    KERNEL(upsample, lk_nearest_args, LK_FLAT_BLOCK) KERNEL(upsample_dx, lk_nearest_args, LK_FLAT_BLOCK) \
    KERNEL(warp, lk_warp_args, LK_FLAT_BLOCK) KERNEL(warp_dx, lk_warp_args, LK_FLAT_BLOCK) \
    KERNEL(timestep_embed, lk_embed_args, LK_FLAT_BLOCK) KERNEL(rope_table, lk_table_args, LK_FLAT_BLOCK) KERNEL(rope, lk_rope_args, LK_FLAT_BLOCK) \
    KERNEL(random, lk_random_args, LK_FLAT_BLOCK) KERNEL(ema, lk_ema_args, LK_FLAT_BLOCK) KERNEL(adamw, lk_adamw_args, LK_FLAT_BLOCK) \
    KERNEL(pack, lk_pack_args, LK_FLAT_BLOCK) KERNEL(finish, lk_product_args, LK_FLAT_BLOCK)

typedef enum {
#define KERNEL(name, args, threads) LK_CUDA_##name,
    LK_CUDA_KERNELS
#undef KERNEL
    LK_CUDA_COUNT
} lk_cuda_kernel;

/* By number: a kernel's address as the runtime takes it, threads of a block, name. In kernels.cu; in tests of the emulation. */
typedef struct { const void *entry; int threads; const char *name; } lk_cuda_row;
#ifdef __cplusplus
extern "C"
#else
extern
#endif
const lk_cuda_row lk_cuda_table[LK_CUDA_COUNT];

#ifndef __CUDACC__
#include "backend/backend.h"
/* Called for each launch in order; args is the kernel's struct, alive during the call. */
typedef void (*lk_cuda_launch)(void *ctx, lk_cuda_kernel, int64_t blocks, const void *args);
/* NULL: the operation has no kernel here. */
typedef void (*lk_cuda_lowering)(const lk_kernel_call *, lk_cuda_launch, void *ctx);
extern const lk_cuda_lowering lk_cuda_lower[LK_OP_COUNT];
/* Bytes of workspace of a node: attention's scores. */
int64_t lk_cuda_workspace(const lk_graph *, const lk_node *, int threads);
/* lower_contract.c */
int64_t lk_cuda_scores(const lk_node *, const lk_shape *in_shape);   /* bytes of attention's scores; 0 for the rest */
void lk_cuda_lower_matmul(const lk_kernel_call *, lk_cuda_launch, void *ctx), lk_cuda_lower_conv(const lk_kernel_call *, lk_cuda_launch, void *ctx),
     lk_cuda_lower_sdpa(const lk_kernel_call *, lk_cuda_launch, void *ctx);
static inline int64_t lk_cuda_span(lk_shape s, int from, int to) { int64_t n = 1; for (int i = from; i < to; i++) n *= s.d[i]; return n; }
static inline int64_t lk_cuda_numel(lk_shape s) { return lk_cuda_span(s, 0, s.rank); }
#endif
#endif
