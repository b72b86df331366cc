/* The CUDA backend: the graph's operations on one NVIDIA GPU, compute capability 8.0 or later, toolkit 12 or 13. Linked
 * into programs of `make cuda` only, and over an emulated runtime into tests.
 *
 * exact   the kernels of kernels.h: the bits of backend/cpu.
 * fast    matmul, attention's products and convolutions through cuBLASLt (fast.h), the rest as in exact. Sums are in the
 *         library's order: its own bits repeat on one device, driver and toolkit, and are close to the exact ones. */
#ifndef LK_CUDA_H
#define LK_CUDA_H
#include "backend/backend.h"

/* Of a contraction's operands: binary32; tf32 (10 bits of mantissa); bf16 (7 bits). Sums are binary32 always. */
typedef enum { LK_CUDA_EXACT, LK_CUDA_FP32, LK_CUDA_TF32, LK_CUDA_BF16 } lk_cuda_precision;
/* Opens the first visible device for this process at the first call. Errors, one line each: no driver, one too old for the
 * toolkit, no device, compute capability below 8.0, no code for the device in this program, opened before a fork. */
lk_err lk_backend_cuda(lk_cuda_precision, const lk_backend **);
/* Of the open device: name, capability, memory, versions, launch shapes. For the run file. "" before it is open. */
const char *lk_cuda_description(void);
/* What plans for it need, of the device's part: workspace and what is kept in bf16. Needs no device. */
void lk_cuda_plan_opts(lk_cuda_precision, lk_plan_opts *);
/* Gives back stream, staging memory and library handles; the next lk_backend_cuda opens anew. All executors must be freed. */
void lk_cuda_close(void);
#endif
