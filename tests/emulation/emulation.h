/* The kernels of backend/cuda on the host, for tests only: the bodies compiled by the host compiler, their launches run
 * block after block, the threads of a phase in the order asked for. Nothing of it is linked into the product. */
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
#endif
