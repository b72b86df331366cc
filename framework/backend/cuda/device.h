/* What runtime.c and fast.c share: the open device of this process and the launch under way. Private to this folder. */
#ifndef LK_CUDA_DEVICE_H
#define LK_CUDA_DEVICE_H
#include "backend/cuda/cuda.h"
#include "backend/cuda/kernels.h"
#include <cuda_runtime.h>

typedef struct {
    cudaStream_t stream;              /* everything is enqueued here, so everything is in order */
    lk_err error;                     /* the first one of the run under way */
    const lk_kernel_call *call;       /* the node being enqueued, for messages */
} lk_cuda_device;
extern lk_cuda_device lk_cuda_now;

void lk_cuda_enqueue(void *ctx, lk_cuda_kernel, int64_t blocks, const void *args);   /* an lk_cuda_launch */
/* Remembers the first failure of a run with the node's operation, names and shapes. */
void lk_cuda_failed(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* fast.c */
void    lk_cuda_fast_version(char *text, size_t room);
lk_err  lk_cuda_fast_open(void);
void    lk_cuda_fast_close(void);
void    lk_cuda_fast_node(const lk_kernel_call *, lk_cuda_precision);
int64_t lk_cuda_fast_workspace(const lk_graph *, const lk_node *, lk_cuda_precision);
#endif
