/* How a kernel of this folder is written: a body is a function of one block and its arguments, cut into phases.
 * In a phase every thread of the block runs the same text; between phases there is a barrier.
 *
 *     LK_BEGIN(b, t)
 *         shared[t] = ...;                  t: this thread's index
 *     LK_SYNC(b, t)                         a barrier, then the next phase
 *         ... shared[t + 1] ...
 *     LK_END
 *
 * nvcc makes a phase the block's threads plus __syncthreads(); the host compiler makes it a loop over the threads,
 * in whatever order the runner says (tests/emulation: forward, reversed, shuffled anew each phase). A thread that
 * reads what another writes in the same phase then gives different bits in different orders: that is how a race is
 * seen without a device. Rules a body keeps: control flow around phases is the same for all threads; what lives
 * from one phase to the next is in LK_SHARED or in an array of LK_EACH(n) indexed by LK_MINE(t) (a thread's own
 * registers); values are written in C that C++ reads too; every product and sum is one rounding (-fmad=false). */
#ifndef LK_CUDA_PHASE_H
#define LK_CUDA_PHASE_H
#include "backend/activation.h"

#ifdef __CUDACC__
#define LK_BODY static __device__ __forceinline__
#define LK_SHARED(type, name) __shared__ type name
#define LK_EACH(threads) 1
#define LK_MINE(t) 0
typedef struct lk_block { int64_t index; } lk_block;
#define LK_THREADS(b, t) for (int t = (int)threadIdx.x, once_ = 1; once_; __syncthreads(), once_ = 0)
LK_BODY float lk_floorf(float x) { return floorf(x); }
#else
#define LK_BODY static inline __attribute__((unused))
/* Unwritten shared memory holds NaN. */
#define LK_SHARED(type, name) type name; __builtin_memset(&name, 0xff, sizeof name)
#define LK_EACH(threads) (threads)
#define LK_MINE(t) (t)
/* order: of the threads in this phase; next sets the one of the phase that begins. */
typedef struct lk_block { int64_t index; int threads; const int *order; void (*next)(struct lk_block *); } lk_block;
#define LK_THREADS(b, t) \
    for (int i_ = ((b)->next(b), 0), t = (b)->order[0]; i_ < (b)->threads; i_++, t = i_ < (b)->threads ? (b)->order[i_] : 0)
LK_BODY float lk_floorf(float x) { return __builtin_floorf(x); }
#endif

#define LK_BEGIN(b, t) LK_THREADS(b, t) { {
#define LK_END } }
#ifdef LK_PLANT_MISSING_BARRIER            /* tests/backend/cuda only: two phases run as one */
#define LK_SYNC(b, t) } {
#else
#define LK_SYNC(b, t) } } LK_THREADS(b, t) { {
#endif

LK_BODY int64_t lk_lesser(int64_t a, int64_t b) { return a < b ? a : b; }
LK_BODY int64_t lk_greater(int64_t a, int64_t b) { return a > b ? a : b; }

/* One thread an element: LK_FLAT_BLOCK of them a block. */
enum { LK_FLAT_BLOCK = 256, LK_AXES = 6 };
#define LK_EVERY(b, t, i, n) for (int64_t i = (b)->index * LK_FLAT_BLOCK + t; i < (n); i = (n))
#endif
