/* graph: values, operations, gradients, plans. Arithmetic lives in backend/; this folder never
 * touches an element.
 *
 * A graph is built once by calls that add a node and infer its shape:
 *     lk_val h = lk_conv2d(g, x, w, b, (lk_conv){.stride = {1, 1}, .pad = {1, 1, 1, 1}});
 * Nodes run in the order they were built. Equal calls give the same node (unless an effect was built between them:
 * a param may have changed). Errors are sticky: a bad call returns an invalid value,
 * every later call on it returns an invalid value, and lk_graph_error(g), asked once at the end,
 * tells of the first one with operation, names and shapes.
 *
 * Every value is contiguous, row-major, at most 6 axes, F32 or I64. Axis arguments may be
 * negative (from the end). Images are [N, C, H, W], token sequences [B, T, D]. */
#ifndef LK_GRAPH_H
#define LK_GRAPH_H
#include "base/base.h"

enum { LK_MAX_RANK = 6 };
typedef enum { LK_F32, LK_I64 } lk_dtype;
typedef struct { int rank; int64_t d[LK_MAX_RANK]; } lk_shape;
#define LK_SHAPE(...) ((lk_shape){(int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)), {__VA_ARGS__}})
#define LK_SCALAR ((lk_shape){0, {0}})
typedef struct lk_graph lk_graph;
typedef struct { int32_t id; } lk_val;               /* id < 0: invalid */
#define LK_NONE ((lk_val){-1})                       /* "no bias", "no mask" */
static inline bool lk_ok(lk_val v) { return v.id >= 0; }

/* ---- attributes ------------------------------------------------------------------------------ */
typedef struct { int stride[2], pad[4] /* top, left, bottom, right */, dilation[2], groups;   /* 0 means 1 for stride, dilation, groups */
                 int size[2]; /* conv2d_dx: H, W of x; conv2d_dw: kh, kw. Filled by the builders */ } lk_conv;
typedef struct { int kernel[2], stride[2], pad[4]; bool count_pad; /* average: padding counts in the divisor */
                 int size[2]; /* _dx: H, W of x */ } lk_pool2d;   /* output size: floor; ceil is written as bottom/right pad (max pads with -inf) */
typedef struct { bool ta, tb; double alpha; /* matmul_add's */ } lk_mm;
typedef struct { int groups; /* group_norm */ double eps; bool silu; } lk_norm;
typedef struct { int heads; double scale; /* 0 means 1/sqrt(D) */ bool causal; } lk_sdpa_attr;
typedef struct { int n; int axis[LK_MAX_RANK]; bool keep; } lk_axes;
typedef struct { int64_t lo[LK_MAX_RANK], hi[LK_MAX_RANK]; } lk_window;  /* slice: [lo, hi); pad: zeros before, after */
typedef struct { int size[2]; bool clamp; /* outside: nearest edge pixel, else 0 */ } lk_warp; /* size: output H, W (_dx: of x) */
typedef struct { int dim; bool flip_sin_to_cos; double freq_shift, scale, max_period; } lk_tembed; /* scale 0 means 1, max_period 0 means 10000 */
typedef struct { int n; int dims[4]; double theta; } lk_rtable;
typedef struct { char stream[48]; lk_shape shape; } lk_random;
typedef struct { double beta1, beta2, eps, weight_decay; } lk_adamw_attr;
typedef union {
    lk_conv conv; lk_pool2d pool; lk_mm matmul; lk_norm norm; lk_sdpa_attr sdpa; lk_axes axes; lk_window window;
    lk_warp warp; lk_tembed tembed; lk_rtable rtable; lk_random random; lk_adamw_attr adamw;
    lk_shape shape; int perm[LK_MAX_RANK]; int axis; int64_t count; int size[2];
    struct { int64_t offset; lk_shape shape; } view;
} lk_attr;                                           /* zeroed before use: nodes are compared by memcmp */

typedef enum {
#define OP(name, lo, hi, attr, grad, dec, traits) LK_OP_##name,
#include "graph/ops.def"
#undef OP
    LK_OP_COUNT
} lk_op;
enum { T_EW = 1, T_VIEW = 2, T_EFFECT = 4, T_LEAF = 8, T_CONTRACT = 16, T_ONTO = 32 };   /* traits in ops.def */

/* Memory classes of the plan's table. */
typedef enum { LK_MEM_INPUT, LK_MEM_WEIGHT, LK_MEM_ADAPTER, LK_MEM_OPTIMISER, LK_MEM_CONSTANT, LK_MEM_GRADIENT, LK_MEM_ACTIVATION, LK_MEM_WORKSPACE, LK_MEM_CLASSES } lk_mem;

typedef struct {
    lk_op op; lk_dtype dtype; lk_mem mem;
    lk_shape shape; lk_attr attr;
    int n_in; const lk_val *in;
    const char *name;        /* leaves: given; others NULL or a label set by lk_label */
    const void *data;        /* constant: its values (owned by the graph) */
} lk_node;

/* ---- life, leaves, looking ------------------------------------------------------------------- */
lk_graph *lk_graph_new(void);
void      lk_graph_free(lk_graph *);
/* From here on these operations, and those of their gradients, are built from primitives: the same bits, more nodes, time and memory.
 * For measuring what fusing is worth. Operations without a decomposition stay as they are. */
void      lk_graph_unfuse(lk_graph *, const lk_op *, int n);
lk_err    lk_graph_error(const lk_graph *);          /* a fresh copy of the first error, or NULL; caller frees */
void      lk_graph_fail(lk_graph *, lk_code, const char *fmt, ...) __attribute__((format(printf, 3, 4))); /* for builders on top of this one (models) */
lk_arena *lk_graph_arena(lk_graph *);
int            lk_graph_count(const lk_graph *);
const lk_node *lk_graph_node(const lk_graph *, lk_val);     /* NULL if invalid; moves when nodes are added: copy what you keep */
lk_shape       lk_shape_of(const lk_graph *, lk_val);       /* rank 0 if invalid */
int64_t        lk_dim(const lk_graph *, lk_val, int axis);  /* 0 if invalid */
int64_t        lk_numel(lk_shape);
bool           lk_shape_eq(lk_shape, lk_shape);
const char    *lk_op_name(lk_op);
int            lk_op_traits(lk_op);
char          *lk_shape_text(lk_arena *, lk_shape);         /* "[2, 320, 64, 64]" */
lk_val         lk_label(lk_graph *, lk_val, const char *name); /* a name for messages and plans; returns the value */

lk_val lk_input(lk_graph *, const char *name, lk_dtype, lk_shape);                   /* set before each run */
lk_val lk_param(lk_graph *, const char *name, lk_shape, lk_mem);                     /* persistent F32 state; the same name again returns the same value (shapes must agree) */
lk_val lk_find(const lk_graph *, const char *name);                                  /* leaf of that name or LK_NONE */
lk_val lk_const(lk_graph *, lk_dtype, lk_shape, const void *values);                 /* copied: float or int64_t */
lk_val lk_scalar(lk_graph *, double);                                                /* F32 [], rounded; equal ones are shared */
lk_val lk_zeros(lk_graph *, lk_shape), lk_ones(lk_graph *, lk_shape);                /* broadcast scalars */

/* ---- elementwise: numpy broadcasting ----------------------------------------------------------- */
lk_val lk_neg(lk_graph *, lk_val), lk_abs(lk_graph *, lk_val), lk_sign(lk_graph *, lk_val), lk_exp(lk_graph *, lk_val), lk_log(lk_graph *, lk_val),
       lk_sqrt(lk_graph *, lk_val), lk_rsqrt(lk_graph *, lk_val), lk_recip(lk_graph *, lk_val), lk_sin(lk_graph *, lk_val), lk_cos(lk_graph *, lk_val),
       lk_tanh(lk_graph *, lk_val), lk_erf(lk_graph *, lk_val), lk_sigmoid(lk_graph *, lk_val), lk_silu(lk_graph *, lk_val), lk_gelu(lk_graph *, lk_val),
       lk_gelu_tanh(lk_graph *, lk_val), lk_quick_gelu(lk_graph *, lk_val), lk_detach(lk_graph *, lk_val);
lk_val lk_add(lk_graph *, lk_val, lk_val), lk_sub(lk_graph *, lk_val, lk_val), lk_mul(lk_graph *, lk_val, lk_val), lk_div(lk_graph *, lk_val, lk_val),
       lk_min(lk_graph *, lk_val, lk_val), lk_max(lk_graph *, lk_val, lk_val), lk_less(lk_graph *, lk_val, lk_val), lk_pow(lk_graph *, lk_val, lk_val);
lk_val lk_where(lk_graph *, lk_val c, lk_val a, lk_val b);
lk_val lk_scale(lk_graph *, lk_val, double);         /* x * s */
lk_val lk_shift(lk_graph *, lk_val, double);         /* x + s */
lk_val lk_square(lk_graph *, lk_val);                /* x * x */
lk_val lk_relu(lk_graph *, lk_val);                  /* max(0, x): 0 and no gradient at x = 0 */
lk_val lk_leaky_relu(lk_graph *, lk_val, double slope);
lk_val lk_prelu(lk_graph *, lk_val x, lk_val alpha); /* x > 0 ? x : alpha x; alpha [C] over axis 1 */
lk_val lk_lerp(lk_graph *, lk_val a, lk_val b, lk_val t);   /* a + t (b - a) */

/* ---- movement ---------------------------------------------------------------------------------- */
lk_val lk_reshape(lk_graph *, lk_val, lk_shape);     /* one d may be -1 */
lk_val lk_view(lk_graph *, lk_val flat, int64_t offset, lk_shape);
lk_val lk_permute(lk_graph *, lk_val, const int *perm);   /* out axis i is in axis perm[i] */
lk_val lk_transpose(lk_graph *, lk_val, int a, int b);
lk_val lk_slice(lk_graph *, lk_val, int axis, int64_t lo, int64_t hi);   /* [lo, hi) of one axis */
lk_val lk_slice_nd(lk_graph *, lk_val, lk_window);
lk_val lk_pad(lk_graph *, lk_val, lk_window);        /* lo/hi zeros before/after each axis */
lk_val lk_concat(lk_graph *, const lk_val *, int n, int axis);
lk_val lk_broadcast(lk_graph *, lk_val, lk_shape);
lk_val lk_gather_rows(lk_graph *, lk_val table, lk_val ids);
lk_val lk_scatter_add_rows(lk_graph *, lk_val rows, lk_val ids, int64_t count);

/* ---- reductions and losses ------------------------------------------------------------------------ */
lk_val lk_reduce_sum(lk_graph *, lk_val, lk_axes), lk_reduce_max(lk_graph *, lk_val, lk_axes), lk_max_mask(lk_graph *, lk_val, lk_axes);
lk_val lk_sum_to(lk_graph *, lk_val, lk_shape);      /* adjoint of broadcasting to the value's shape */
lk_val lk_sum_all(lk_graph *, lk_val);               /* -> [] */
lk_val lk_mean(lk_graph *, lk_val, lk_axes);         /* sum / n */
lk_val lk_mean_all(lk_graph *, lk_val);
lk_val lk_mse(lk_graph *, lk_val a, lk_val b);       /* mean over everything of (a-b)^2 -> [] */
lk_val lk_huber(lk_graph *, lk_val a, lk_val b, double delta);  /* torch's huber_loss, mean -> [] */
lk_val lk_cosine(lk_graph *, lk_val a, lk_val b, double eps);   /* over the last axis: a.b / max(|a||b|, eps) */
lk_val lk_normalize(lk_graph *, lk_val, double eps); /* x / max(|x|, eps) over the last axis */
lk_val lk_log_softmax(lk_graph *, lk_val);           /* last axis */
lk_val lk_cross_entropy(lk_graph *, lk_val logits /* [B, V] */, lk_val onehot /* [B, V] */);   /* mean -> [] */
lk_val lk_global_norm(lk_graph *, const lk_val *, int n);       /* sqrt of the sum, in list order, of each value's sum of squares -> [] */

/* ---- contractions ---------------------------------------------------------------------------------- */
/* a [..., M, K] (ta: [..., K, M]) times b [..., K, N] (tb: [..., N, K]) + bias [N]. Leading axes broadcast;
 * a 2-D b against an a without ta is one product over all rows of a. */
lk_val lk_matmul(lk_graph *, lk_val a, lk_val b, lk_val bias, lk_mm);
/* c + alpha (a b), c of the product's shape; the bits of lk_add(c, lk_scale(lk_matmul(a, b), alpha)), but the product is never stored:
 * the plan puts the result where c lay, if nothing reads c later. mm.alpha is not looked at. */
lk_val lk_matmul_add(lk_graph *, lk_val c, lk_val a, lk_val b, double alpha, lk_mm mm);
lk_val lk_linear(lk_graph *, lk_val x /* [..., K] */, lk_val w /* [N, K] */, lk_val bias /* [N] or LK_NONE */);
lk_val lk_conv2d(lk_graph *, lk_val x, lk_val w /* [O, C/groups, kh, kw] */, lk_val bias /* [O] or LK_NONE */, lk_conv);
lk_val lk_conv2d_dx(lk_graph *, lk_val dy, lk_val w, lk_conv);       /* attr.size = H, W of x */
lk_val lk_conv2d_dw(lk_graph *, lk_val x, lk_val dy, lk_conv);       /* attr.size = kh, kw */
/* x [N,C,D,H,W], w [O,C,kd,kh,kw]: composed of conv2d (one product when kh = kw = 1, else a sum over kd). */
lk_val lk_conv3d(lk_graph *, lk_val x, lk_val w, lk_val bias, const int stride[3], const int pad[3]);

/* ---- pictures --------------------------------------------------------------------------------------- */
lk_val lk_max_pool2d(lk_graph *, lk_val, lk_pool2d), lk_avg_pool2d(lk_graph *, lk_val, lk_pool2d);
lk_val lk_max_pool2d_dx(lk_graph *, lk_val x, lk_val dy, lk_pool2d), lk_max_pool2d_at(lk_graph *, lk_val x, lk_val z, lk_pool2d), lk_avg_pool2d_dx(lk_graph *, lk_val dy, lk_pool2d);
lk_val lk_upsample_nearest(lk_graph *, lk_val, int h, int w), lk_upsample_nearest_dx(lk_graph *, lk_val, int h, int w);
lk_val lk_affine_warp(lk_graph *, lk_val x, lk_val m /* [N,2,3]: source (x, y) = m * (dest x, dest y, 1), pixel centres at integers */, lk_warp);
lk_val lk_affine_warp_dx(lk_graph *, lk_val dy, lk_val m, lk_warp);
/* torch's interpolate with align_corners=False: pixel centres at halves. Bicubic is Keys (1981), a = -0.75; _AA: antialias=True, a = -0.5. Weights are
 * computed in binary64 and rounded; two products, so it can be differentiated as often as they can. */
typedef enum { LK_RESIZE_BILINEAR, LK_RESIZE_BICUBIC, LK_RESIZE_BILINEAR_AA, LK_RESIZE_BICUBIC_AA } lk_resample;
lk_val lk_resize(lk_graph *, lk_val x /* [N,C,H,W] */, int h, int w, lk_resample);
lk_val lk_resize_matrix(lk_graph *, lk_val x /* [N,C,H,W] */, lk_val rows /* [OH,H] */, lk_val cols /* [OW,W] */); /* rows x cols^T */

/* ---- fused ------------------------------------------------------------------------------------------- */
lk_val lk_softmax(lk_graph *, lk_val), lk_softmax_dx(lk_graph *, lk_val y, lk_val dy);
lk_val lk_layer_norm(lk_graph *, lk_val x, lk_val gamma, lk_val beta, double eps);      /* gamma and beta may both be LK_NONE */
lk_val lk_rms_norm(lk_graph *, lk_val x, lk_val gamma, double eps);
lk_val lk_group_norm(lk_graph *, lk_val x, lk_val gamma, lk_val beta, lk_norm);
lk_val lk_sdpa(lk_graph *, lk_val q, lk_val k, lk_val v, lk_val bias, lk_sdpa_attr);
lk_val lk_rope(lk_graph *, lk_val x, lk_val cos, lk_val sin, int heads);
lk_val lk_geglu(lk_graph *, lk_val);
lk_val lk_swiglu(lk_graph *, lk_val);                /* [gate | up] -> silu(gate) * up */
lk_val lk_modulate(lk_graph *, lk_val x /* [B,T,D] */, lk_val shift /* [B,D] */, lk_val scale);  /* x (1 + scale) + shift */

/* ---- services ----------------------------------------------------------------------------------------- */
lk_val lk_timestep_embed(lk_graph *, lk_val t, lk_tembed);
lk_val lk_rope_table(lk_graph *, lk_val ids, lk_rtable);
/* The shape is the whole result's and begins with the number of sample ids; an element is counted within its sample. */
lk_val lk_randn(lk_graph *, lk_val seed, lk_val step, lk_val samples, const char *stream, lk_shape);
lk_val lk_randu(lk_graph *, lk_val seed, lk_val step, lk_val samples, const char *stream, lk_shape);
/* Effects write a param's storage when they run: values read by nodes built earlier are the old ones. */
void lk_assign(lk_graph *, lk_val state, lk_val value);
void lk_ema(lk_graph *, lk_val average, lk_val value, lk_val decay);
void lk_adamw(lk_graph *, lk_val p, lk_val m, lk_val v, lk_val grad, lk_val lr, lk_val bc1, lk_val bc2, lk_adamw_attr);

/* ---- gradients ------------------------------------------------------------------------------------------ */
/* Emits the nodes of d<cotangent, y>/d wrt[i] into out[i]; LK_NONE where wrt[i] does not reach y.
 * cotangent has y's shape (LK_NONE: y is [] and the cotangent 1). Only paths that lead to wrt are
 * emitted. The result is made of ordinary operations and can be differentiated again. */
void   lk_vjp(lk_graph *, lk_val y, lk_val cotangent, const lk_val *wrt, int n, lk_val *out);
lk_val lk_decompose(lk_graph *, lk_val);             /* the same value from primitives (same bits); LK_NONE if the operation has none */

/* ---- plan: memory known before anything is allocated ---------------------------------------------------- */
enum { LK_MAX_FORMS = 4 };                         /* packed forms one frozen weight may have (forward, dx, ...); a fifth is read unpacked */
typedef struct lk_plan_opts {
    int element_bytes;                      /* 4; the fp64 oracle plans with 8 */
    int64_t (*workspace)(const lk_graph *, const lk_node *, int threads);  /* from the backend; NULL: 0 */
    int threads;
    int64_t arena_budget;                   /* 0: none. Else forward values are computed again in the gradient, cheapest first, until arena_bytes is no larger; */
                                            /* a budget that cannot be met gives the smallest plan found */
    bool (*keeps_bf16)(const lk_graph *, const lk_node *, int input);      /* from the backend; NULL: never. Frozen params that only such inputs read count 2 bytes an element */
    /* From the backend; NULL: none. The packed form in which a bound frozen weight is wanted at an input (0: as it is), and one that will do there where it exists anyway. */
    int (*pack_form)(const lk_graph *, const lk_node *, int input);
    int (*pack_other)(const lk_graph *, const lk_node *, int input);
} lk_plan_opts;
typedef struct {
    int node;              /* value id */
    int64_t offset, bytes; /* in the activation arena; views share their source's */
    int last;              /* id of the last node that reads it */
} lk_slot;
typedef struct {           /* how a param that no effect writes is read where it is bound: in packed forms, each with a turn and an input that want it, and as it is */
    int n, form[LK_MAX_FORMS], turn[LK_MAX_FORMS], input[LK_MAX_FORMS];
    bool as_is;
} lk_weight_use;
typedef struct {
    int n_nodes;
    bool   *live;          /* node is needed for the outputs or is an effect */
    lk_slot *slot;         /* by node id; bytes 0 for leaves */
    int64_t arena_bytes;   /* what the executor allocates, exactly */
    int64_t alive_bytes;   /* the most that is alive at once: no arena for this order can be smaller */
    int64_t packed_bytes;  /* packed copies of frozen params, beside by_class; made where they are bound and memory allows */
    int64_t unpacked_bytes;/* of by_class[LK_MEM_WEIGHT], what is read as it is; the rest of a mapped file is given back once it is packed, and of one in fp16 or bf16 all */
    int64_t by_class[LK_MEM_CLASSES];
    int64_t flops;         /* recomputation included */
    lk_arena *memory;
    /* What is executed, in order: the graph's nodes, and those that are computed again where the budget asked for it. The
     * inputs of turn[i] are turns. Without recomputation turn i is node i. */
    int n_turns; const lk_node *turn;
    const int *node_of;    /* by turn */
    const int *turn_of;    /* by node: its first turn */
    const bool *turn_live;
    const bool *turn_half; /* a frozen param that is kept in bf16 */
    const lk_slot *place;  /* by turn; node and last are turns */
    const lk_weight_use *use;   /* by turn: of params */
    int64_t recomputed_flops; int recomputed;   /* nodes computed a second time */
    int n_outputs; const lk_val *output; struct lk_plan_opts opts;   /* what was asked for */
} lk_plan;
/* by_class counts live leaves; ACTIVATION + GRADIENT = arena_bytes. An output that is LK_NONE is an error. */
lk_err lk_plan_new(lk_graph *, const lk_val *outputs, int n, lk_plan_opts, lk_plan **);
void   lk_plan_free(lk_plan *);
int64_t lk_node_flops(const lk_graph *, const lk_node *);   /* of a contraction, a multiply and an add counting two; 0 for the rest */
/* Table by class; with largest > 0 also the largest values and what would make the plan smaller. */
char  *lk_plan_text(lk_arena *, const lk_graph *, const lk_plan *, int largest);
/* The smallest arena that recomputing can reach, and the contractions that costs (some ten plans' time). False: this plan is it. */
bool   lk_plan_least(const lk_graph *, const lk_plan *, int64_t *arena_bytes, int64_t *flops);
#endif
