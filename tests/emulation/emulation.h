/* backend/cuda on the host, for tests only; nothing of it is linked into the product. Two layers:
 *
 * kernels.c   the bodies compiled by the host compiler, run block after block, the threads of a phase in the order asked
 *             for; and a backend that runs launches at once on host memory.
 * runtime.c   the entry points of the CUDA runtime over host memory, so that runtime.c and fast.c of the backend run
 *             unchanged; cublaslt.c those of cuBLASLt. Work is queued and done at the next wait, as on a device. They answer
 *             what a device would punish with the error it would give, or worse luck made visible:
 *               host code that touches device memory           the process stops (the pages are closed outside kernels)
 *               a kernel that reads or writes outside           an illegal address, as the device says it
 *               a host pointer given to a kernel                the same
 *               pinned memory written again before its copy     wrong values
 *               an unwritten device value                       NaN
 *               allocation or waiting while a step is captured  the capture is broken
 *               a handle that is gone, a leak                   an error; emu_leaks() */
#ifndef LK_EMULATION_H
#define LK_EMULATION_H
#include "backend/cuda/kernels.h"

typedef enum { EMU_FORWARD, EMU_REVERSED, EMU_SHUFFLED, EMU_ORDERS } emu_order;
extern const char *const emu_order_name[EMU_ORDERS];
/* One static backend an order, named "emulated". */
const lk_backend *emu_backend(emu_order);
/* Blocks run by a kernel since the program began. */
int64_t emu_blocks(lk_cuda_kernel);
/* Runs a body over blocks and threads in an order; what emu_backend does for its launches. */
typedef void (*emu_body)(lk_block *, const void *args);
void emu_run(emu_body, const void *args, int64_t blocks, int threads, emu_order, uint64_t seed);
/* The same by number: the bodies of the list. */
void emu_kernel(lk_cuda_kernel, const void *args, int64_t blocks, emu_order);
size_t emu_args_bytes(lk_cuda_kernel);
int  emu_kernel_of(const void *entry);              /* -1: none of ours */

/* ---- the emulated device --------------------------------------------------------------------------------------- */
typedef struct {
    int driver, runtime, count, major, minor;      /* versions as the runtime has them: 12040 */
    bool no_image;                                 /* the program has no code for it */
    int64_t memory;                                /* bytes */
    emu_order order;
    bool broken_library;                           /* cuBLASLt has no algorithm */
} emu_device;
extern emu_device emu_now;                         /* one of 13.0, 9.0, 8 GiB, shuffled; LK_EMULATE="driver=0 count=0 major=7 memory=..." changes it */
typedef struct { int64_t allocated, most, launches, graph_launches, copies_up, library_calls; } emu_tally;
extern emu_tally emu_count;
/* Everything alive (allocations, pinned memory, streams, events, graphs, descriptors) as text; "" if nothing is. malloc */
char *emu_leaks(void);

/* Between runtime.c and cublaslt.c. */
bool emu_on_device(const void *, int64_t bytes);   /* the whole range lies in one live allocation */
typedef void (*emu_work)(void *arg);
/* Queues work on a stream; the bytes are copied. False: the stream is gone. */
bool emu_enqueue(void *stream, emu_work, const void *arg, size_t bytes);
extern int emu_descriptors;                        /* of cuBLASLt, alive */
#endif
