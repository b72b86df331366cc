/* The bodies as device kernels, one __global__ function a row of LK_CUDA_KERNELS, and their addresses by number for the
 * runtime. Compiled with -fmad=false -ftz=false -prec-div=true -prec-sqrt=true (docs/numerics.md rule 1). */
#include "backend/cuda/kernels.h"

#define KERNEL(name, type, threads) \
    __global__ void __launch_bounds__(threads) lk_cuda_##name(const __grid_constant__ type args) { lk_block b; b.index = (int64_t)blockIdx.x; lk_body_##name(&b, &args); }
LK_CUDA_KERNELS
#undef KERNEL

const lk_cuda_row lk_cuda_table[LK_CUDA_COUNT] = {
#define KERNEL(name, type, threads) {(const void *)lk_cuda_##name, threads, #name},
    LK_CUDA_KERNELS
#undef KERNEL
};
