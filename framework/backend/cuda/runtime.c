/* The device of a process: one stream, two halves of pinned memory through which values go up, one through which they come
 * down, and the step of an executor as a CUDA graph.
 *
 * Everything is enqueued on one stream, so copies and runs follow each other as they were called and no executor waits for
 * another. The first run of an executor enqueues its kernels one by one; the second captures them; from then on a run is one
 * launch of the graph. Inputs are written in place between runs, so the graph never goes stale but by new addresses, and then
 * the executor forgets it.
 *
 * Errors of a launch are known at once and name operation and shapes. What goes wrong on the device itself is known at the
 * next read; LK_CUDA_SYNC=1 waits after each operation and so names it. */
#include "backend/cuda/device.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { STAGING = 16 << 20, LEAST_MAJOR = 8 };
typedef struct { char *memory; cudaEvent_t free; bool waiting; } half;
static struct {
    bool open; pid_t owner;
    half up[2]; int which; int64_t used;      /* of up[which] */
    char *down;
    bool sync;                                /* LK_CUDA_SYNC */
    char description[1200];
} device;
lk_cuda_device lk_cuda_now;

/* ---- errors --------------------------------------------------------------------------------------------------------- */
#define CU(call, what) do { cudaError_t cu_ = (call); if (cu_ != cudaSuccess) return lk_error(LK_ESTATE, "cuda: %s: %s", what, cudaGetErrorString(cu_)); } while (0)
static void node_text(lk_buf *b) {
    const lk_kernel_call *c = lk_cuda_now.call;
    lk_arena *a = lk_arena_new();
    lk_buf_fmt(b, "operation %s%s%s, ", lk_op_name(c->node->op), c->node->name ? " " : "", c->node->name ? c->node->name : "");
    for (int i = 0; i < c->node->n_in; i++) lk_buf_fmt(b, "%s%s", i ? " " : "", lk_ok(c->node->in[i]) ? lk_shape_text(a, c->in_shape[i]) : "none");
    lk_buf_fmt(b, " -> %s", lk_shape_text(a, c->node->shape));
    lk_arena_free(a);
}
void lk_cuda_failed(const char *fmt, ...) {
    if (lk_cuda_now.error) return;
    lk_buf b = {0};
    va_list ap; va_start(ap, fmt);
    lk_arena *a = lk_arena_new();
    node_text(&b);
    lk_cuda_now.error = lk_error(LK_ESTATE, "cuda: %s: %s", b.s, lk_vfmt(a, fmt, ap));
    va_end(ap);
    lk_arena_free(a);
    free(b.s);
}
static lk_err finished(cudaError_t e) {
    return e == cudaSuccess ? LK_OK : lk_error(LK_ESTATE, "cuda: the device stopped: %s; set LK_CUDA_SYNC=1 and run again to learn in which operation", cudaGetErrorString(e));
}

/* ---- opening --------------------------------------------------------------------------------------------------------------- */
static lk_err find_device(int *driver, int *runtime) {
    int count = 0;
    if (cudaDriverGetVersion(driver) != cudaSuccess || *driver == 0)
        return lk_error(LK_ESTATE, "backend=cuda: no NVIDIA driver is loaded here; install one (nvidia-smi then lists the GPU), or take backend=cpu");
    CU(cudaRuntimeGetVersion(runtime), "cudaRuntimeGetVersion");
    cudaError_t e = cudaGetDeviceCount(&count);
    if (e == cudaErrorInsufficientDriver || *driver / 1000 < *runtime / 1000)
        return lk_error(LK_ESTATE, "backend=cuda: the driver is for CUDA %d.%d and this program is built with toolkit %d.%d; update the driver, or build with a toolkit that old (12 at least)",
                        *driver / 1000, *driver % 1000 / 10, *runtime / 1000, *runtime % 1000 / 10);
    if (e == cudaErrorNoDevice || (e == cudaSuccess && count == 0)) {
        const char *visible = getenv("CUDA_VISIBLE_DEVICES");
        return lk_error(LK_ESTATE, "backend=cuda: the driver finds no GPU%s%s%s; take a machine with one, or backend=cpu", visible ? " (CUDA_VISIBLE_DEVICES is \"" : "", visible ? visible : "",
                        visible ? "\": unset it to see all)" : "");
    }
    CU(e, "backend=cuda: cudaGetDeviceCount");
    return LK_OK;
}
static lk_err check_device(char *name, size_t room, int *major, int *minor) {
    struct cudaDeviceProp p;
    CU(cudaGetDeviceProperties(&p, 0), "cudaGetDeviceProperties");
    snprintf(name, room, "%s", p.name);
    CU(cudaDeviceGetAttribute(major, cudaDevAttrComputeCapabilityMajor, 0), "cudaDeviceGetAttribute");
    CU(cudaDeviceGetAttribute(minor, cudaDevAttrComputeCapabilityMinor, 0), "cudaDeviceGetAttribute");
    if (*major < LEAST_MAJOR)
        return lk_error(LK_ESTATE, "backend=cuda: %s has compute capability %d.%d and %d.0 is the least; take a newer GPU (CUDA_VISIBLE_DEVICES chooses), or backend=cpu", name, *major, *minor, LEAST_MAJOR);
    CU(cudaSetDevice(0), "cudaSetDevice");
    struct cudaFuncAttributes attributes;
    cudaError_t e = cudaFuncGetAttributes(&attributes, lk_cuda_table[0].entry);
    if (e == cudaErrorNoKernelImageForDevice)
        return lk_error(LK_ESTATE, "backend=cuda: this program has no code for %s, compute capability %d.%d; build it again: make cuda CUDA_ARCHS=\"%d%d\"", name, *major, *minor, *major, *minor);
    CU(e, "cudaFuncGetAttributes");
    return LK_OK;
}
/* Threads of a block by kernel, kernels of one number together. */
static void launch_shapes(lk_buf *b) {
    bool told[LK_CUDA_COUNT] = {false};
    for (int k = 0; k < LK_CUDA_COUNT; k++) {
        const int threads = lk_cuda_table[k].threads;
        if (told[k]) continue;
        lk_buf_fmt(b, "%s%d:", b->n ? "; " : "", threads);
        for (int i = k; i < LK_CUDA_COUNT; i++) {
            if (lk_cuda_table[i].threads != threads) continue;
            told[i] = true;
            if (i >= LK_CUDA_geglu) lk_buf_fmt(b, " %s", lk_cuda_table[i].name);
        }
        if (k < LK_CUDA_geglu) lk_buf_fmt(b, " elementwise");
    }
}
static lk_err open_memory(void) {
    CU(cudaStreamCreateWithFlags(&lk_cuda_now.stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
    for (int i = 0; i < 2; i++) {
        CU(cudaMallocHost((void **)&device.up[i].memory, STAGING), "pinned memory");
        CU(cudaEventCreateWithFlags(&device.up[i].free, cudaEventDisableTiming), "cudaEventCreateWithFlags");
    }
    CU(cudaMallocHost((void **)&device.down, STAGING), "pinned memory");
    return LK_OK;
}
static lk_err open_device(void) {
    int driver = 0, runtime = 0, major, minor;
    char name[256], library[64];
    size_t free_bytes, total;
    const char *sync = getenv("LK_CUDA_SYNC");
    LK_TRY(find_device(&driver, &runtime));
    LK_TRY(check_device(name, sizeof name, &major, &minor));
    LK_TRY(open_memory());
    CU(cudaMemGetInfo(&free_bytes, &total), "cudaMemGetInfo");
    lk_cuda_fast_version(library, sizeof library);
    device.sync = sync && *sync && strcmp(sync, "0");
    device.owner = getpid();
    device.open = true;
    lk_buf shapes = {0};
    launch_shapes(&shapes);
    snprintf(device.description, sizeof device.description, "%s, compute capability %d.%d, %.1f GiB, driver %d.%d, runtime %d.%d, %s; threads of a block %s", name, major, minor, (double)total / 0x1p30,
             driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10, library, shapes.s);
    free(shapes.s);
    return LK_OK;
}
void lk_cuda_close(void) {
    lk_cuda_fast_close();
    if (lk_cuda_now.stream) { cudaStreamSynchronize(lk_cuda_now.stream); cudaStreamDestroy(lk_cuda_now.stream); }
    for (int i = 0; i < 2; i++) {
        if (device.up[i].memory) cudaFreeHost(device.up[i].memory);
        if (device.up[i].free) cudaEventDestroy(device.up[i].free);
    }
    if (device.down) cudaFreeHost(device.down);
    memset(&device, 0, sizeof device);
    lk_cuda_now = (lk_cuda_device){0};
}
const char *lk_cuda_description(void) { return device.description; }

/* ---- memory ---------------------------------------------------------------------------------------------------------------- */
static lk_err room(int64_t *bytes, const char **who) {
    size_t free_bytes, total;
    CU(cudaMemGetInfo(&free_bytes, &total), "cudaMemGetInfo");
    *bytes = (int64_t)free_bytes;
    *who = "the device";
    return LK_OK;
}
static lk_err allocate(int64_t bytes, void **out) {
    int64_t have = 0;
    const char *who;
    *out = NULL;
    cudaError_t e = cudaMalloc(out, (size_t)bytes);
    if (e == cudaSuccess) return LK_OK;
    cudaGetLastError();                                      /* an allocation that failed leaves nothing broken */
    lk_err_free(room(&have, &who));
    return lk_error(LK_ENOMEM, "cuda: %lld bytes (%.2f GiB) could not be had, the device has %.2f GiB free: %s; make batch, picture or rank smaller, or free the device (nvidia-smi lists who uses it)",
                    (long long)bytes, (double)bytes / 0x1p30, (double)have / 0x1p30, cudaGetErrorString(e));
}
static void release(void *p) { cudaFree(p); }               /* waits for what is enqueued */
static lk_err clear(void *to, int64_t bytes) { CU(cudaMemsetAsync(to, 0, (size_t)bytes, lk_cuda_now.stream), "cudaMemsetAsync"); return LK_OK; }
/* Turns to the other half, and waits until the copies out of it are done. */
static lk_err next_half(void) {
    half *full = &device.up[device.which];
    CU(cudaEventRecord(full->free, lk_cuda_now.stream), "cudaEventRecord");
    full->waiting = true;
    device.which ^= 1; device.used = 0;
    half *h = &device.up[device.which];
    if (h->waiting) LK_TRY(finished(cudaEventSynchronize(h->free)));
    h->waiting = false;
    return LK_OK;
}
static lk_err write_up(void *to, const void *host, int64_t bytes) {
    for (int64_t at = 0; at < bytes;) {
        if (device.used == STAGING) LK_TRY(next_half());
        int64_t n = bytes - at < STAGING - device.used ? bytes - at : STAGING - device.used;
        char *stage = device.up[device.which].memory + device.used;
        memcpy(stage, (const char *)host + at, (size_t)n);
        CU(cudaMemcpyAsync((char *)to + at, stage, (size_t)n, cudaMemcpyHostToDevice, lk_cuda_now.stream), "copy to the device");
        device.used += (n + 63) / 64 * 64;
        at += n;
    }
    return LK_OK;
}
static lk_err read_down(void *host, const void *from, int64_t bytes) {
    for (int64_t at = 0; at < bytes; at += STAGING) {
        int64_t n = bytes - at < STAGING ? bytes - at : STAGING;
        cudaError_t e = cudaMemcpyAsync(device.down, (const char *)from + at, (size_t)n, cudaMemcpyDeviceToHost, lk_cuda_now.stream);
        if (e == cudaSuccess) e = cudaStreamSynchronize(lk_cuda_now.stream);
        LK_TRY(finished(e));
        memcpy((char *)host + at, device.down, (size_t)n);
    }
    return LK_OK;
}

/* ---- running ---------------------------------------------------------------------------------------------------------------- */
void lk_cuda_enqueue(void *ctx, lk_cuda_kernel kernel, int64_t blocks, const void *args) {
    const int threads = lk_cuda_table[kernel].threads;
    const char *name = lk_cuda_table[kernel].name;
    (void)ctx;
    if (lk_cuda_now.error) return;
    if (blocks > 0x7fffffff) { lk_cuda_failed("kernel %s would need %lld blocks and a grid has 2147483647 at most", name, (long long)blocks); return; }
    void *arguments[] = {(void *)(uintptr_t)args};
    cudaError_t e = cudaLaunchKernel(lk_cuda_table[kernel].entry, (dim3){(unsigned)blocks, 1, 1}, (dim3){(unsigned)threads, 1, 1}, arguments, 0, lk_cuda_now.stream);
    if (e != cudaSuccess) lk_cuda_failed("launch of kernel %s, %lld blocks of %d threads: %s", name, (long long)blocks, threads, cudaGetErrorString(e));
}
static void exact(const lk_kernel_call *c) { lk_cuda_lower[c->node->op](c, lk_cuda_enqueue, NULL); }
static void fp32(const lk_kernel_call *c)  { lk_cuda_fast_node(c, LK_CUDA_FP32); }
static void tf32(const lk_kernel_call *c)  { lk_cuda_fast_node(c, LK_CUDA_TF32); }
static void bf16(const lk_kernel_call *c)  { lk_cuda_fast_node(c, LK_CUDA_BF16); }

typedef struct { int runs; cudaGraphExec_t graph; } replay_state;
static lk_err enqueue_all(const lk_kernel *kernel, const lk_kernel_call *const *call, int n) {
    for (int i = 0; i < n && !lk_cuda_now.error; i++) {
        lk_cuda_now.call = call[i];
        kernel[i](call[i]);
        if (!device.sync || lk_cuda_now.error) continue;
        cudaError_t e = cudaStreamSynchronize(lk_cuda_now.stream);
        if (e != cudaSuccess) lk_cuda_failed("%s", cudaGetErrorString(e));
    }
    lk_err e = lk_cuda_now.error;
    lk_cuda_now.error = LK_OK;
    return e;
}
static lk_err capture(const lk_kernel *kernel, const lk_kernel_call *const *call, int n, replay_state *r) {
    cudaGraph_t graph = NULL;
    CU(cudaStreamBeginCapture(lk_cuda_now.stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
    lk_err e = enqueue_all(kernel, call, n);
    cudaError_t ended = cudaStreamEndCapture(lk_cuda_now.stream, &graph);
    if (!e && ended != cudaSuccess) e = lk_error(LK_ESTATE, "cuda: capture of a step of %d operations: %s", n, cudaGetErrorString(ended));
    if (!e) {
        ended = cudaGraphInstantiateWithFlags(&r->graph, graph, 0);
        if (ended != cudaSuccess) e = lk_error(LK_ESTATE, "cuda: a graph of %d operations: %s", n, cudaGetErrorString(ended));
    }
    if (graph) cudaGraphDestroy(graph);
    return e;
}
static lk_err run(const lk_kernel *kernel, const lk_kernel_call *const *call, int n, void **replay) {
    if (n == 0) return LK_OK;
    replay_state *r = *replay;
    if (!r) *replay = r = lk_xcalloc(1, sizeof *r);
    if (r->runs++ == 0 || device.sync) return enqueue_all(kernel, call, n);
    if (!r->graph) LK_TRY(capture(kernel, call, n, r));
    CU(cudaGraphLaunch(r->graph, lk_cuda_now.stream), "launch of a captured step");
    return LK_OK;
}
static void forget(void *replay) {
    replay_state *r = replay;
    if (r->graph) { cudaStreamSynchronize(lk_cuda_now.stream); cudaGraphExecDestroy(r->graph); }
    free(r);
}

/* ---- the backends -------------------------------------------------------------------------------------------------------- */
static const lk_device device_calls = {room, allocate, release, clear, write_up, read_down, run, forget};
static int64_t workspace_fp32(const lk_graph *g, const lk_node *n, int threads) { (void)threads; return lk_cuda_fast_workspace(g, n, LK_CUDA_FP32); }
static int64_t workspace_tf32(const lk_graph *g, const lk_node *n, int threads) { (void)threads; return lk_cuda_fast_workspace(g, n, LK_CUDA_TF32); }
static int64_t workspace_bf16(const lk_graph *g, const lk_node *n, int threads) { (void)threads; return lk_cuda_fast_workspace(g, n, LK_CUDA_BF16); }
static lk_backend backends[] = {
    [LK_CUDA_EXACT] = {.name = "cuda", .element_bytes = 4, .workspace = lk_cuda_workspace, .device = &device_calls},
    [LK_CUDA_FP32] = {.name = "cuda-fp32", .element_bytes = 4, .workspace = workspace_fp32, .device = &device_calls},
    [LK_CUDA_TF32] = {.name = "cuda-tf32", .element_bytes = 4, .workspace = workspace_tf32, .device = &device_calls},
    [LK_CUDA_BF16] = {.name = "cuda-bf16", .element_bytes = 4, .workspace = workspace_bf16, .device = &device_calls, .keeps_bf16 = lk_takes_bf16}};
void lk_cuda_plan_opts(lk_cuda_precision p, lk_plan_opts *o) { o->workspace = backends[p].workspace; o->keeps_bf16 = backends[p].keeps_bf16; }
lk_err lk_backend_cuda(lk_cuda_precision p, const lk_backend **out) {
    static const lk_kernel kernels[] = {exact, fp32, tf32, bf16};
    *out = NULL;
    if (device.open && device.owner != getpid())
        return lk_error(LK_ESTATE, "backend=cuda: the device was opened before this process was forked; a device belongs to the process that opened it");
    if (!device.open) {
        lk_err e = open_device();
        if (e) { lk_cuda_close(); return e; }
    }
    if (p != LK_CUDA_EXACT) LK_TRY(lk_cuda_fast_open());
    for (int op = 0; op < LK_OP_COUNT; op++) backends[p].kernel[op] = lk_cuda_lower[op] ? kernels[p] : NULL;
    *out = &backends[p];
    return LK_OK;
}
