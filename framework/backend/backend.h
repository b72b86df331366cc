/* backend: runs a planned graph. Three behind one vtable:
 *   ref   binary64, naive loops: the oracle of tests. Every F32 value is a double.
 *   cpu   binary32 by docs/numerics.md; scalar, AVX2, AVX-512 kernels with the same bits.
 *   cuda  the same arithmetic on a GPU; only in programs of `make cuda` (docs/cuda.md).
 * No backend falls back to another: an operation it lacks is an error that names it. */
#ifndef LK_BACKEND_H
#define LK_BACKEND_H
#include "base/halves.h"
#include "graph/graph.h"

typedef struct lk_exec lk_exec;
typedef enum { LK_ISA_AUTO, LK_ISA_SCALAR, LK_ISA_AVX2, LK_ISA_AVX512 } lk_isa;

typedef struct lk_kernel_call {       /* what a kernel receives */
    const lk_node *node;
    void *out; void *const *in;       /* in[i] NULL for LK_NONE */
    const lk_shape *in_shape;
    void *work;                       /* workspace(node) bytes, 64-byte aligned */
    const void *const *packed;        /* packed form of in[i] if it is a frozen weight, else NULL */
    lk_pool *pool;
    const bool *half;                 /* by input: kept in bf16; NULL: none is */
} lk_kernel_call;
typedef void (*lk_kernel)(const lk_kernel_call *);

/* Where a backend keeps its values when that is not host memory. Kernels then only enqueue: their errors are told by `run`
 * or by the next `read`. What is enqueued runs in order, so a write after a run is seen by the next run alone. */
typedef struct lk_device {
    lk_err (*room)(int64_t *bytes, const char **who);                     /* free now; who: a name for messages */
    lk_err (*alloc)(int64_t bytes, void **out);                           /* aligned to 256 bytes, not cleared */
    void   (*release)(void *);
    lk_err (*clear)(void *to, int64_t bytes);
    lk_err (*write)(void *to, const void *host, int64_t bytes);           /* the host's memory is free again on return */
    lk_err (*read)(void *host, const void *from, int64_t bytes);          /* waits for everything enqueued */
    /* Runs n kernels in order. *replay: NULL at first; what it becomes may run the same calls again, until `forget`. */
    lk_err (*run)(const lk_kernel *, const lk_kernel_call *const *, int n, void **replay);
    void   (*forget)(void *replay);
} lk_device;

/* A frozen weight as its owner keeps it: floats, or halves, which are widened where they are packed or read. mapped: pages of a file,
 * given back to the kernel once nothing reads them. */
typedef struct { const void *data; lk_float_as as; bool mapped; } lk_stored;

typedef struct lk_backend {
    const char *name; int element_bytes;
    lk_kernel kernel[LK_OP_COUNT];    /* NULL: not supported */
    int64_t (*workspace)(const lk_graph *, const lk_node *, int threads);
    /* Packing of frozen weights (all NULL: none). pack_form: 0 = input i is best read as it is; else the number of a
     * packed form, as large as the input in floats: equal numbers on one param share one copy. pack_other: a form that will do as well
     * where some other reader has it made, 0: none. pack: the weight as it is kept -> packed. */
    int  (*pack_form)(const lk_graph *, const lk_node *, int input);
    int  (*pack_other)(const lk_graph *, const lk_node *, int input);
    void (*pack)(const lk_graph *, const lk_node *, int input, const lk_stored *, void *packed, lk_pool *);
    const lk_device *device;          /* NULL: values live in host memory */
    /* Fast tiers of a device: whether a node reads a frozen param in bf16 at this input. Where all its readers do, it is kept so. */
    bool (*keeps_bf16)(const lk_graph *, const lk_node *, int input);
} lk_backend;
bool lk_takes_bf16(const lk_graph *, const lk_node *, int input);   /* the bf16 tier's keeps_bf16, here so that plans need no device */
const lk_backend *lk_backend_ref(void);
lk_err lk_backend_cpu(lk_isa, const lk_backend **);   /* AUTO: LK_ISA from the environment, else the best this machine has */
lk_err lk_backend_cpu_fast(lk_isa, const lk_backend **);   /* the same with Winograd's F(4,3): its bits depend on nothing but shapes, but are not the exact tier's */
const char *lk_isa_name(const lk_backend *);          /* "avx512" */
uint64_t lk_kernel_count(const lk_backend *);         /* contraction kernels run so far by this instruction set: proof that it did the work */

/* ---- the backend of a process (choose.c): what an executor without one of its own takes ---- */
/* cpu, cuda (the exact tier), or a fast tier: cpu-fast, cuda-fp32, cuda-tf32, cuda-bf16. Before anything runs; nothing is opened yet,
 * so a parent may choose and its children run. cuda is an error in a program built without it. */
lk_err      lk_backend_choose(const char *name);
const char *lk_backend_chosen(void);                  /* "cpu" where nothing was chosen */
const char *lk_backend_tier(const char *name);        /* "exact"; "fast tf32" and so on: part of a run's identity */
lk_err      lk_backend_default(const lk_backend **);  /* opens it: a device belongs to the process that opened it and not to its children */
lk_err      lk_backend_plan_opts(lk_plan_opts *);      /* what its plans are made with, one thread; opens nothing */
/* What the chosen backend is, asked in a process of its own: text ("NVIDIA H100, compute capability 9.0, ...", malloc) and free bytes of
 * its memory. Errors as lk_backend_default. */
lk_err      lk_backend_probe(char **text, int64_t *room);

typedef struct {
    const lk_backend *backend;        /* NULL: lk_backend_default */
    lk_pool *pool;                    /* borrowed; NULL: one thread */
    int64_t memory_limit;             /* refuse a plan above this many bytes; 0: what the machine and its cgroup, or the device, have */
} lk_exec_opts;
/* Plans and allocates; outputs stay readable after a run. Params start as zero (constants as given); an input must be set before
 * the first run, or the run is an error. Setting a leaf that no output needs is allowed and does nothing. */
lk_err lk_exec_new(lk_graph *, const lk_val *outputs, int n, lk_exec_opts, lk_exec **);
void   lk_exec_free(lk_exec *);
const lk_plan *lk_exec_plan(const lk_exec *);
lk_graph *lk_exec_graph(const lk_exec *);
int64_t lk_exec_bytes(const lk_exec *);               /* everything allocated: arena, leaves not borrowed, weights packed or widened, workspaces */
lk_err lk_exec_run(lk_exec *);
/* Leaves: write before a run. Values are converted for a binary64 backend. n elements must match the shape. */
lk_err lk_exec_set(lk_exec *, lk_val leaf, const float *, int64_t n);
lk_err lk_exec_set_f64(lk_exec *, lk_val leaf, const double *, int64_t n);
lk_err lk_exec_set_i64(lk_exec *, lk_val leaf, const int64_t *, int64_t n);
lk_err lk_exec_set_scalar(lk_exec *, lk_val leaf, double);
/* Frozen params: borrowed, not copied (cpu; other backends copy, a device once for all executors that bind the same memory).
 * Lives as long as the executor. The param must not be written by an effect; it may be packed once. One that no output needs can be read back. */
lk_err lk_exec_bind(lk_exec *, lk_val param, const float *, int64_t n);
/* The same of a weight stored in halves or in a mapped file: packed straight from there at the first run, and widened only if something reads it unpacked.
 * Aligned to its elements. The values are those of lk_exec_set after widening, to the bit. Bound floats cannot be set; halves can, and are replaced. */
lk_err lk_exec_bind_stored(lk_exec *, lk_val param, lk_stored, int64_t n);
/* Outputs and leaves: read after a run. */
lk_err lk_exec_get(lk_exec *, lk_val, float *, int64_t n);
lk_err lk_exec_get_f64(lk_exec *, lk_val, double *, int64_t n);
/* Two executors share a leaf's storage (adapter weights in a training and in a sampling graph). */
lk_err lk_exec_share(lk_exec *to, lk_val leaf, lk_exec *from, lk_val source);
#endif
