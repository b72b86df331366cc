/* The runner: every kernel's body through one function of type emu_body, orders of blocks and threads. */
#include "tests/emulation/emulation.h"
#include <stdlib.h>

const char *const emu_order_name[EMU_ORDERS] = {"forward", "reversed", "shuffled"};
enum { MAX_THREADS = 256, SHUFFLES = 61 };           /* shuffled orders prepared once; phases take one after another */
static int orders[EMU_ORDERS][SHUFFLES][MAX_THREADS];
static int prepared[EMU_ORDERS];                     /* threads the table holds orders of */

static uint64_t mix(uint64_t z) {
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}
static void prepare(emu_order o, int threads) {
    if (prepared[o] == threads) return;
    prepared[o] = threads;
    for (int k = 0; k < SHUFFLES; k++) {
        int *order = orders[o][k];
        for (int i = 0; i < threads; i++) order[i] = o == EMU_REVERSED ? threads - 1 - i : i;
        for (int i = threads - 1; o == EMU_SHUFFLED && i > 0; i--) {
            int j = (int)(mix((uint64_t)(k * MAX_THREADS + i + 1) * 0x9E3779B97F4A7C15u) % (uint64_t)(i + 1)), was = order[i];
            order[i] = order[j]; order[j] = was;
        }
    }
}
typedef struct { lk_block block; emu_order order; uint64_t phase; } running;   /* block first: next() gets its address */
static void next_phase(lk_block *b) {
    running *r = (running *)b;
    b->order = orders[r->order][r->phase++ % SHUFFLES];
}
void emu_run(emu_body body, const void *args, int64_t blocks, int threads, emu_order order, uint64_t seed) {
    prepare(order, threads);
    for (int64_t i = 0; i < blocks; i++) {
        int64_t at = order == EMU_FORWARD ? i : blocks - 1 - i;
        if (order == EMU_SHUFFLED) at = (at + (int64_t)(mix(seed) % (uint64_t)blocks)) % blocks;
        running r = {.block = {.index = at, .threads = threads, .next = next_phase}, .order = order, .phase = mix(seed + (uint64_t)at)};
        body(&r.block, args);
    }
}

#define KERNEL(name, type, threads) static void run_##name(lk_block *b, const void *args) { lk_body_##name(b, args); }
LK_CUDA_KERNELS
#undef KERNEL
static const struct { emu_body body; int threads; size_t bytes; } kernels[LK_CUDA_COUNT] = {
#define KERNEL(name, type, threads) {run_##name, threads, sizeof(type)},
    LK_CUDA_KERNELS
#undef KERNEL
};
/* What kernels.cu gives the runtime: an address that stands for the kernel. */
const lk_cuda_row lk_cuda_table[LK_CUDA_COUNT] = {
#define KERNEL(name, type, threads) {&kernels[LK_CUDA_##name], threads, #name},
    LK_CUDA_KERNELS
#undef KERNEL
};
static int64_t blocks_run[LK_CUDA_COUNT];
static uint64_t launches;
int64_t emu_blocks(lk_cuda_kernel k) { return blocks_run[k]; }
void emu_kernel(lk_cuda_kernel k, const void *args, int64_t blocks, emu_order order) {
    blocks_run[k] += blocks;
    emu_run(kernels[k].body, args, blocks, kernels[k].threads, order, ++launches);
}
size_t emu_args_bytes(lk_cuda_kernel k) { return kernels[k].bytes; }
static void launch(void *ctx, lk_cuda_kernel k, int64_t blocks, const void *args) { emu_kernel(k, args, blocks, *(const emu_order *)ctx); }
int emu_kernel_of(const void *entry) {
    for (int k = 0; k < LK_CUDA_COUNT; k++) if (entry == &kernels[k]) return k;
    return -1;
}

static void run(const lk_kernel_call *c, emu_order order) { lk_cuda_lower[c->node->op](c, launch, &order); }
static void run_forward(const lk_kernel_call *c)  { run(c, EMU_FORWARD); }
static void run_reversed(const lk_kernel_call *c) { run(c, EMU_REVERSED); }
static void run_shuffled(const lk_kernel_call *c) { run(c, EMU_SHUFFLED); }
const lk_backend *emu_backend(emu_order order) {
    static const lk_kernel runs[EMU_ORDERS] = {run_forward, run_reversed, run_shuffled};
    static lk_backend backend[EMU_ORDERS];
    backend[order] = (lk_backend){.name = "emulated", .element_bytes = 4, .workspace = lk_cuda_workspace};
    for (int op = 0; op < LK_OP_COUNT; op++) if (lk_cuda_lower[op]) backend[order].kernel[op] = runs[order];
    return &backend[order];
}
