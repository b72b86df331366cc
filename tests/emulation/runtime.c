/* The CUDA runtime's entry points over host memory (emulation.h says what is checked).
 *
 * An allocation is pages of its own between two closed ones, its end at a page's end, and closed itself except while queued
 * work runs. Work is done in order at the next wait; a fault inside it becomes an illegal address, which, as on a device,
 * every later call repeats. */
#include "tests/emulation/emulation.h"
#include "backend/cuda/device.h"
#include <cuda_runtime.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

emu_device emu_now = {.driver = 13000, .runtime = 13000, .count = 1, .major = 9, .memory = (int64_t)8 << 30, .order = EMU_SHUFFLED};
emu_tally emu_count;
int emu_descriptors;
__attribute__((constructor)) static void read_environment(void) {
    const char *text = getenv("LK_EMULATE");
    static const struct { const char *key; int *to; } table[] = {{"driver=", &emu_now.driver}, {"runtime=", &emu_now.runtime}, {"count=", &emu_now.count}, {"major=", &emu_now.major}};
    for (size_t i = 0; text && i < sizeof table / sizeof *table; i++) {
        const char *at = strstr(text, table[i].key);
        if (at) *table[i].to = atoi(at + strlen(table[i].key));
    }
    const char *memory = text ? strstr(text, "memory=") : NULL;
    if (memory) emu_now.memory = atoll(memory + 7);
}

/* ---- what is alive ------------------------------------------------------------------------------------------------ */
typedef struct allocation { char *data, *pages; size_t bytes, mapped; bool pinned; struct allocation *next; } allocation;
static allocation *allocations;
enum { PAGE = 4096 };
typedef struct work { emu_work run; void *arg; size_t bytes; struct work *next; } work;
typedef struct { work *first, **end; } queue;
struct CUstream_st { queue todo, captured; bool capturing, capture_broken; int64_t queued, done; };
struct CUevent_st { int64_t after; bool recorded; };        /* after: so many pieces of work */
struct CUgraph_st { queue work; };
struct CUgraphExec_st { queue work; };
static int streams, events, graphs, instances;
static cudaError_t stuck;                           /* the device is gone for this process */
static struct CUstream_st *the_stream;              /* the last made: what cudaMalloc checks for a capture */
static pid_t opened_by;

char *emu_leaks(void) {
    lk_buf b = {0};
    lk_buf_add(&b, "", 0);
    for (allocation *a = allocations; a; a = a->next) lk_buf_fmt(&b, "%zu bytes %s; ", a->bytes, a->pinned ? "pinned" : "on the device");
    const struct { const char *name; int n; } handles[] = {{"streams", streams}, {"events", events}, {"graphs", graphs}, {"graph instances", instances}, {"cuBLASLt handles and descriptors", emu_descriptors}};
    for (size_t i = 0; i < sizeof handles / sizeof *handles; i++) if (handles[i].n) lk_buf_fmt(&b, "%d %s; ", handles[i].n, handles[i].name);
    return b.s;
}
/* As CUDA: whoever was forked from a process that has a context has none. */
static cudaError_t context(void) {
    if (emu_now.driver == 0 || emu_now.driver / 1000 < emu_now.runtime / 1000) return cudaErrorInsufficientDriver;
    if (!opened_by) opened_by = getpid();
    if (opened_by != getpid()) return cudaErrorInitializationError;
    return stuck;
}

/* ---- memory ---------------------------------------------------------------------------------------------------------- */
static allocation *find(const void *p) {
    for (allocation *a = allocations; a; a = a->next) if ((const char *)p >= a->data && (const char *)p < a->data + a->bytes) return a;
    return NULL;
}
bool emu_on_device(const void *p, int64_t bytes) {
    const allocation *a = find(p);
    return a && !a->pinned && (const char *)p + bytes <= a->data + a->bytes;
}
static void protect(int how) { for (allocation *a = allocations; a; a = a->next) if (!a->pinned) mprotect(a->pages + PAGE, a->mapped - 2 * PAGE, how); }
static cudaError_t allocate(void **out, size_t bytes, bool pinned) {
    cudaError_t e = context();
    if (e) return e;
    if (the_stream && the_stream->capturing) { the_stream->capture_broken = true; return cudaErrorStreamCaptureUnsupported; }
    if (!pinned && emu_count.allocated + (int64_t)bytes > emu_now.memory) return cudaErrorMemoryAllocation;
    size_t inside = (bytes + PAGE - 1) / PAGE * PAGE, mapped = inside + 2 * PAGE;
    char *pages = mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED) return cudaErrorMemoryAllocation;
    allocation *a = lk_xcalloc(1, sizeof *a);
    *a = (allocation){pages + PAGE + (inside - bytes) / 256 * 256, pages, bytes, mapped, pinned, allocations};
    allocations = a;
    memset(pages, 0xff, mapped);
    mprotect(pages, PAGE, PROT_NONE); mprotect(pages + mapped - PAGE, PAGE, PROT_NONE);
    if (!pinned) {
        mprotect(pages + PAGE, inside, PROT_NONE);
        emu_count.allocated += (int64_t)bytes;
        if (emu_count.allocated > emu_count.most) emu_count.most = emu_count.allocated;
    }
    *out = a->data;
    return cudaSuccess;
}
static void drain(void);
static cudaError_t give_back(void *p, bool pinned) {
    if (!p) return cudaSuccess;
    drain();
    for (allocation **at = &allocations; *at; at = &(*at)->next) {
        allocation *a = *at;
        if (a->data != p || a->pinned != pinned) continue;
        *at = a->next;
        if (!pinned) emu_count.allocated -= (int64_t)a->bytes;
        munmap(a->pages, a->mapped);
        free(a);
        return stuck;
    }
    return cudaErrorInvalidValue;
}
cudaError_t cudaMalloc(void **p, size_t n) { return allocate(p, n, false); }
cudaError_t cudaFree(void *p) { return give_back(p, false); }
cudaError_t cudaMallocHost(void **p, size_t n) { return allocate(p, n, true); }
cudaError_t cudaFreeHost(void *p) { return give_back(p, true); }
cudaError_t cudaMemGetInfo(size_t *have, size_t *total) {
    cudaError_t e = context();
    *have = (size_t)(emu_now.memory - emu_count.allocated); *total = (size_t)emu_now.memory;
    return e;
}

/* ---- queued work -------------------------------------------------------------------------------------------------------- */
static void push(queue *q, emu_work run, const void *arg, size_t bytes) {
    work *w = lk_xcalloc(1, sizeof *w);
    *w = (work){.run = run, .arg = lk_xmalloc(bytes ? bytes : 1), .bytes = bytes};
    memcpy(w->arg, arg, bytes);
    if (!q->end) q->end = &q->first;
    *q->end = w; q->end = &w->next;
}
static void clear(queue *q) {
    for (work *w = q->first, *next; w; w = next) { next = w->next; free(w->arg); free(w); }
    *q = (queue){0};
}
bool emu_enqueue(void *stream, emu_work run, const void *arg, size_t bytes) {
    struct CUstream_st *s = stream;
    if (!s || s != the_stream) return false;
    push(s->capturing ? &s->captured : &s->todo, run, arg, bytes);
    s->queued += !s->capturing;
    return true;
}
static sigjmp_buf out_of_kernel;
static void on_fault(int signal) {
    (void)signal;
    siglongjmp(out_of_kernel, 1);
}
/* Does what was queued, up to so many pieces of work since the stream began. A fault ends it and the device. */
static void drain_to(int64_t last) {
    struct CUstream_st *s = the_stream;
    if (!s || !s->todo.first || stuck || s->done >= last) return;
    struct sigaction fault = {.sa_handler = on_fault, .sa_flags = SA_NODEFER}, segv, bus;
    sigaction(SIGSEGV, &fault, &segv); sigaction(SIGBUS, &fault, &bus);
    protect(PROT_READ | PROT_WRITE);
    if (!sigsetjmp(out_of_kernel, 1))
        while (s->todo.first && !stuck && s->done < last) {
            work *w = s->todo.first;
            w->run(w->arg);
            s->todo.first = w->next;
            s->done++;
            free(w->arg); free(w);
        }
    else stuck = cudaErrorIllegalAddress;
    protect(PROT_NONE);
    sigaction(SIGSEGV, &segv, NULL); sigaction(SIGBUS, &bus, NULL);
    if (!s->todo.first) s->todo.end = NULL;
}
static void drain(void) { drain_to(INT64_MAX); }

typedef struct { void *to; const void *from; size_t n; int value; } copy_work;
static void do_copy(void *arg) { const copy_work *c = arg; memcpy(c->to, c->from, c->n); }
static void do_set(void *arg)  { const copy_work *c = arg; memset(c->to, c->value, c->n); }
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t n, enum cudaMemcpyKind kind, cudaStream_t s) {
    const void *there = kind == cudaMemcpyHostToDevice ? to : from;
    cudaError_t e = context();
    if (e) return e;
    if (!emu_on_device(there, (int64_t)n)) return cudaErrorInvalidValue;
    emu_count.copies_up += kind == cudaMemcpyHostToDevice;
    return emu_enqueue(s, do_copy, &(copy_work){to, from, n, 0}, sizeof(copy_work)) ? cudaSuccess : cudaErrorInvalidResourceHandle;
}
cudaError_t cudaMemsetAsync(void *to, int value, size_t n, cudaStream_t s) {
    cudaError_t e = context();
    if (e) return e;
    if (!emu_on_device(to, (int64_t)n)) return cudaErrorInvalidValue;
    return emu_enqueue(s, do_set, &(copy_work){to, NULL, n, value}, sizeof(copy_work)) ? cudaSuccess : cudaErrorInvalidResourceHandle;
}
typedef struct { int kernel; int64_t blocks; char args[PAGE]; } launch_work;
static void do_launch(void *arg) {
    const launch_work *l = arg;
    emu_kernel((lk_cuda_kernel)l->kernel, l->args, l->blocks, emu_now.order);
}
/* A word of the arguments that is the address of something here must be one on the device. Programs, heaps and mappings lie
 * from 2^44 to 2^47; sizes and pairs of small integers are below, doubles above, an integer beside padding has a small lower half. */
static bool takes_host_memory(const char *args, size_t n) {
    for (size_t i = 0; i + 8 <= n; i += 8) {
        uint64_t word;
        unsigned char resident;
        memcpy(&word, args + i, 8);
        if (!(word >> 44) || word >> 47 || (uint32_t)word < 1 << 16 || find((const void *)(uintptr_t)word)) continue;
        if (!mincore((void *)(uintptr_t)(word / PAGE * PAGE), 1, &resident)) return true;
    }
    return false;
}
cudaError_t cudaLaunchKernel(const void *f, dim3 grid, dim3 block, void **args, size_t shared, cudaStream_t s) {
    cudaError_t e = context();
    launch_work l = {.kernel = emu_kernel_of(f), .blocks = grid.x};
    if (e) return e;
    if (l.kernel < 0) return cudaErrorInvalidValue;
    const int threads = lk_cuda_table[l.kernel].threads;
    if (!grid.x || grid.x > 0x7fffffffu || grid.y != 1 || grid.z != 1 || block.x != (unsigned)threads || block.y != 1 || block.z != 1 || shared) return cudaErrorInvalidConfiguration;
    size_t bytes = emu_args_bytes((lk_cuda_kernel)l.kernel);
    memcpy(l.args, args[0], bytes);
    emu_count.launches++;
    if (takes_host_memory(l.args, bytes)) { stuck = cudaErrorIllegalAddress; return cudaSuccess; }      /* a device tells only later, too */
    return emu_enqueue(s, do_launch, &l, sizeof l) ? cudaSuccess : cudaErrorInvalidResourceHandle;
}

/* ---- streams, events ----------------------------------------------------------------------------------------------------------- */
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *s, unsigned flags) {
    cudaError_t e = context();
    if (e || flags != cudaStreamNonBlocking) return e ? e : cudaErrorInvalidValue;
    *s = the_stream = lk_xcalloc(1, sizeof **s);
    streams++;
    return cudaSuccess;
}
cudaError_t cudaStreamDestroy(cudaStream_t s) {
    if (!s || s != the_stream) return cudaErrorInvalidResourceHandle;
    drain();
    clear(&s->todo); clear(&s->captured);
    free(s);
    the_stream = NULL;
    streams--;
    stuck = cudaSuccess; opened_by = 0;             /* tests end the device so and begin anew */
    return cudaSuccess;
}
cudaError_t cudaStreamSynchronize(cudaStream_t s) {
    if (!s || s != the_stream) return cudaErrorInvalidResourceHandle;
    if (s->capturing) { s->capture_broken = true; return cudaErrorStreamCaptureUnsupported; }
    cudaError_t e = context();
    if (!e) drain();
    return e ? e : stuck;
}
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *v, unsigned flags) {
    cudaError_t e = context();
    if (e || flags != cudaEventDisableTiming) return e ? e : cudaErrorInvalidValue;
    *v = lk_xcalloc(1, sizeof **v);
    events++;
    return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t v, cudaStream_t s) {
    if (!s || s != the_stream) return cudaErrorInvalidResourceHandle;
    v->after = s->queued; v->recorded = true;
    return context();
}
cudaError_t cudaEventSynchronize(cudaEvent_t v) {
    if (the_stream && the_stream->capturing) { the_stream->capture_broken = true; return cudaErrorStreamCaptureUnsupported; }
    if (v->recorded) drain_to(v->after);
    return context();
}
cudaError_t cudaEventDestroy(cudaEvent_t v) { free(v); events--; return cudaSuccess; }

/* ---- graphs --------------------------------------------------------------------------------------------------------------------- */
cudaError_t cudaStreamBeginCapture(cudaStream_t s, enum cudaStreamCaptureMode mode) {
    (void)mode;
    if (!s || s != the_stream) return cudaErrorInvalidResourceHandle;
    if (s->capturing) return cudaErrorStreamCaptureUnsupported;
    s->capturing = true; s->capture_broken = false;
    return context();
}
cudaError_t cudaStreamEndCapture(cudaStream_t s, cudaGraph_t *g) {
    *g = NULL;
    if (!s || s != the_stream || !s->capturing) return cudaErrorInvalidValue;
    s->capturing = false;
    if (s->capture_broken) { clear(&s->captured); return cudaErrorStreamCaptureInvalidated; }
    *g = lk_xcalloc(1, sizeof **g);
    (*g)->work = s->captured;
    s->captured = (queue){0};
    graphs++;
    return context();
}
static int copy_queue(queue *to, const queue *from) {
    int n = 0;
    for (const work *w = from->first; w; w = w->next, n++) push(to, w->run, w->arg, w->bytes);
    return n;
}
cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t *x, cudaGraph_t g, unsigned long long flags) {
    if (!g || flags) return cudaErrorInvalidValue;
    *x = lk_xcalloc(1, sizeof **x);
    copy_queue(&(*x)->work, &g->work);
    instances++;
    return context();
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t x, cudaStream_t s) {
    if (!x || !s || s != the_stream) return cudaErrorInvalidResourceHandle;
    cudaError_t e = context();
    emu_count.graph_launches++;
    if (!e) s->queued += copy_queue(&s->todo, &x->work);
    return e;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t x) { clear(&x->work); free(x); instances--; return cudaSuccess; }
cudaError_t cudaGraphDestroy(cudaGraph_t g) { clear(&g->work); free(g); graphs--; return cudaSuccess; }

/* ---- the device ------------------------------------------------------------------------------------------------------------------ */
cudaError_t cudaDriverGetVersion(int *v)  { *v = emu_now.driver; return cudaSuccess; }
cudaError_t cudaRuntimeGetVersion(int *v) { *v = emu_now.runtime; return cudaSuccess; }
cudaError_t cudaGetDeviceCount(int *n) {
    *n = emu_now.count;
    if (emu_now.driver / 1000 < emu_now.runtime / 1000) return cudaErrorInsufficientDriver;
    return emu_now.count ? context() : cudaErrorNoDevice;
}
cudaError_t cudaSetDevice(int i) { return i ? cudaErrorInvalidValue : context(); }
cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int i) {
    memset(p, 0, sizeof *p);
    snprintf(p->name, sizeof p->name, "emulated device");
    return i ? cudaErrorInvalidValue : context();
}
cudaError_t cudaDeviceGetAttribute(int *v, enum cudaDeviceAttr a, int i) {
    *v = a == cudaDevAttrComputeCapabilityMajor ? emu_now.major : emu_now.minor;
    return i ? cudaErrorInvalidValue : context();
}
cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *f, const void *entry) {
    memset(f, 0, sizeof *f);
    return emu_now.no_image ? cudaErrorNoKernelImageForDevice : emu_kernel_of(entry) < 0 ? cudaErrorInvalidValue : context();
}
cudaError_t cudaGetLastError(void) { return stuck; }
const char *cudaGetErrorString(cudaError_t e) {
    static const struct { cudaError_t code; const char *text; } table[] = {
        {cudaSuccess, "no error"}, {cudaErrorInvalidValue, "invalid argument"}, {cudaErrorMemoryAllocation, "out of memory"}, {cudaErrorInitializationError, "initialization error"},
        {cudaErrorInvalidConfiguration, "invalid configuration argument"}, {cudaErrorInsufficientDriver, "CUDA driver version is insufficient for CUDA runtime version"}, {cudaErrorNoDevice, "no CUDA-capable device is detected"},
        {cudaErrorIllegalAddress, "an illegal memory access was encountered"}, {cudaErrorStreamCaptureUnsupported, "operation not permitted when stream is capturing"},
        {cudaErrorStreamCaptureInvalidated, "operation failed due to a previous error during capture"}, {cudaErrorInvalidResourceHandle, "invalid resource handle"}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) if (table[i].code == e) return table[i].text;
    return "unknown error";
}
