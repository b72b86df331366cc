/* nn: how a model names its parameters while it builds its graph.
 *
 * A net is a view of a graph under a name prefix. lk_nn_linear(&net, "to_q", x, 64, 64, true) makes or finds
 * the params "<prefix>to_q.weight" [out, in] and "<prefix>to_q.bias", and, where an adapter's target matches
 * the module name, adds its branch. Names are the checkpoint's own, so loading needs no mapping; building the same
 * module twice in one graph shares its params. */
#ifndef LK_NN_H
#define LK_NN_H
#include "backend/backend.h"
#include "io/io.h"

typedef struct lk_adapter lk_adapter;                 /* lora.h */
/* What a loss may want to see of a model while it is built: queries [B, T, D] and keys [B, S, D] of its cross-attention layers, in order. */
enum { LK_TAPPED = 128 };
typedef struct { int n; struct { lk_val q, k; int heads; } layer[LK_TAPPED]; } lk_attention_tap;
/* What joins a model's cross-attention while it is built: attend is called with a layer's net, queries [B, T, dim] and heads, and returns [B, T, dim],
 * which is added to what the text gave, before the output projection. */
typedef struct lk_net lk_net;
typedef struct { lk_val (*attend)(void *ctx, const lk_net *, lk_val q, int64_t dim, int heads); void *ctx; } lk_attention_guest;
struct lk_net {
    lk_graph *g;
    const char *prefix;               /* "down_blocks.0." : prepended to names; "" at the root */
    lk_adapter *const *adapters; int n_adapters;      /* applied in order */
    const char *param_prefix;         /* "" or e.g. "teacher/": keeps two copies of a model apart in one graph; not part of the checkpoint's names */
    lk_attention_tap *tap;            /* NULL: none */
    const lk_attention_guest *guest;  /* NULL: none */
};
lk_net lk_net_root(lk_graph *);
lk_net lk_net_sub(const lk_net *, const char *fmt, ...) __attribute__((format(printf, 2, 3)));  /* child prefix: adds "fmt." ; text lives in the graph's arena */
lk_val lk_nn_param(const lk_net *, const char *name, lk_shape);                 /* "<prefix>name" */
lk_val lk_nn_linear(const lk_net *, const char *name, lk_val x, int64_t in, int64_t out, bool bias);
lk_val lk_nn_conv2d(const lk_net *, const char *name, lk_val x, int64_t in, int64_t out, int kernel, int stride, int pad, bool bias);
lk_val lk_nn_conv2d_attr(const lk_net *, const char *name, lk_val x, int64_t in, int64_t out, int kh, int kw, bool bias, lk_conv);
lk_val lk_nn_layer_norm(const lk_net *, const char *name, lk_val x, int64_t dim, double eps, bool affine);
lk_val lk_nn_group_norm(const lk_net *, const char *name, lk_val x, int64_t channels, int groups, double eps, bool silu);
lk_val lk_nn_embedding(const lk_net *, const char *name, lk_val ids, int64_t count, int64_t dim);

/* ---- weights: from a checkpoint to a graph's params ------------------------------------------------------- */
/* Every param of class WEIGHT whose name is param_prefix and a rest without '/' takes the tensor of that rest ("" so leaves a "teacher/" alone): bound without
 * copying where the file has aligned F32, F16 or BF16 (the file must stay open; halves are widened as they are packed), else converted. Refused with file, key, expected and
 * found shape, nearest name: a param without a tensor, a misshapen one, a tensor without a param (unless matched by
 * `ignore`, a NULL-ended list of suffixes such as "position_ids", or prefixes where they end in '.', such as "encoder."). */
lk_err lk_weights_bind(lk_exec *, const lk_st *, const char *param_prefix, const char *const *ignore);
lk_err lk_weights_set(lk_exec *, const lk_st *, const char *param_prefix, const char *const *ignore);  /* copies: params that will be trained */
lk_err lk_weights_save(lk_exec *, const char *param_prefix, const char *path, const char *const *meta); /* every WEIGHT param, names without param_prefix */
/* Seeded initial values as torch's defaults (linear, conv: uniform(+-1/sqrt(fan_in)) weight and bias; norm 1, 0; embedding normal(0, 1)),
 * stream = the param's name. `zero`: NULL-ended list of name suffixes set to 0. */
lk_err lk_weights_init(lk_exec *, const char *param_prefix, uint64_t seed, const char *const *zero);

/* ---- which base an adapter was trained on (base_digest.c) --------------------------------------------------- */
/* Key in an adapter file's header. The digest is SHA-256 over the base's tensors in name order: name with its 0, axes as int64, values as F32. */
#define LK_BASE_KEY "base_sha256"
lk_err lk_base_digest(const lk_st *base, char hex[65]);
/* Refuses an adapter file whose header names another base. A file without the key passes: nothing is known. */
lk_err lk_base_check(const lk_st *adapter, const lk_st *base);
#endif
