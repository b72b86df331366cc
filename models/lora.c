/* Adapters while a graph is built: which modules they join, the nodes they add, their initial values. See lora.h.
 *
 *   LoRA, rsLoRA   y + s B(A(drop(x)))                       s = alpha / r (rsLoRA: alpha / sqrt r), times the adapter's weight
 *   DoRA           m / ||W + s BA|| (W x + s B A x) + bias     the norm per output row, detached from the gradient (Liu et al. 2024, section 4.3)
 *
 *   lora_bias      y + s (B(A(x)) + b)
 *   decompose      y + (W' (m / (||W'|| + eps)) - W) x           W' = W + s delta: LyCORIS' (LoHa, LoKr, DoRA), the norm not detached
 *   tucker         y + s B(M(A(x)))                         A and B 1x1, M with the convolution's kernel, stride and padding
 *
 * A convolution's A has its kernel, stride and padding; B is 1x1. In a convolution of several groups A sees all channels and B is grouped, as PEFT has it
 * (A [r, C, kh, kw], B [O, r / groups, 1, 1]): that delta is no weight of the convolution, so it cannot be merged. Several adapters add their branches to the same base output.
 * An adapter may join several graphs; a module met twice in one graph has one set of params. */
#include "models/lora_internal.h"
#include <stdlib.h>
#include <string.h>

/* ---- life --------------------------------------------------------------------------------------------------------- */

static const char *const *copy_names(lk_arena *arena, const char *const *names, int *n) {
    for (*n = 0; names && names[*n]; ) ++*n;
    const char **copy = lk_alloc(arena, (size_t)(*n + 1) * sizeof *copy);
    for (int i = 0; i < *n; i++) copy[i] = lk_strdup(arena, names[i]);
    return copy;
}

static const void *copy_values(lk_arena *arena, const void *values, size_t bytes) {
    if (!bytes) return NULL;
    return memcpy(lk_alloc(arena, bytes), values, bytes);
}

lk_adapter *lk_adapter_new(lk_lora_config config, const char *prefix) {
    lk_arena *arena = lk_arena_new();
    lk_adapter *a = lk_alloc(arena, sizeof *a);
    int n;
    a->arena = arena;
    a->prefix = lk_strdup(arena, prefix ? prefix : "");
    a->config = config;
    a->config.targets = copy_names(arena, config.targets, &n);
    a->config.rank_names = copy_names(arena, config.rank_names, &n);
    a->config.rank_values = copy_values(arena, config.rank_values, (size_t)n * sizeof(int));
    a->config.alpha_names = copy_names(arena, config.alpha_names, &n);
    a->config.alpha_values = copy_values(arena, config.alpha_values, (size_t)n * sizeof(double));
    a->config.component = config.component ? lk_strdup(arena, config.component) : NULL;
    a->config.modules_to_save = copy_names(arena, config.modules_to_save, &n);
    a->seed = a->step = a->samples = a->weight = LK_NONE;
    return a;
}

void lk_adapter_free(lk_adapter *a) {
    if (!a) return;
    free(a->module);
    free(a->copies);
    free(a->seen);
    free(a->params);
    lk_arena_free(a->arena);
}

void lk_adapter_training(lk_adapter *a, bool on, lk_val seed, lk_val step, lk_val samples) {
    a->training = on; a->seed = seed; a->step = step; a->samples = samples;
}
void lk_adapter_set_base(lk_adapter *a, const lk_st *base) { a->base = base; }
void lk_adapter_weight(lk_adapter *a, lk_val weight) { a->weight = weight; }
const lk_lora_config *lk_adapter_config(const lk_adapter *a) { return &a->config; }

int lk_adapter_modules(const lk_adapter *a) {
    int n = 0;
    for (int i = 0; i < a->n; i++) n += a->module[i].g == a->module[a->n - 1].g;
    return n;
}

int lk_adapter_params(const lk_adapter *adapter, const lk_graph *g, const lk_val **out) {
    lk_adapter *a = (lk_adapter *)adapter;                  /* the list is a cache inside the adapter */
    int n = 0;
    free(a->params);
    a->params = lk_xcalloc((size_t)a->n * LK_SLOT_COUNT + (size_t)a->n_copies + 1, sizeof *a->params);
    for (int i = 0; i < a->n; i++) {
        const lk_lora_module *m = &a->module[i];
        if (m->g != g) continue;
        for (int k = 0; k < LK_SLOT_COUNT; k++) if (lk_ok(m->t[k])) a->params[n++] = m->t[k];
    }
    for (int i = 0; i < a->n_copies; i++) if (a->copies[i].g == g) a->params[n++] = a->copies[i].v;
    *out = a->params;
    return n;
}

/* ---- which modules -------------------------------------------------------------------------------------------------- */

static int find_spelling(const lk_adapter *a, const char *const *names, const char *module) {
    for (int i = 0; names && names[i]; i++) if (lk_lora_spells(names[i], module, a->layers, false)) return i;
    return -1;
}

bool lk_lora_adapts(const lk_adapter *a, const char *module) { return find_spelling(a, a->config.targets, module) >= 0 && !lk_lora_saves(a, module); }

static void note_seen(lk_adapter *a, const char *module) {
    for (int i = a->n_seen - 1; i >= 0; i--) if (!strcmp(a->seen[i], module)) return;
    if (a->n_seen == a->cap_seen) {
        a->cap_seen = a->cap_seen ? 2 * a->cap_seen : 256;
        a->seen = lk_xrealloc(a->seen, (size_t)a->cap_seen * sizeof *a->seen);
    }
    a->seen[a->n_seen++] = lk_strdup(a->arena, module);
    a->layers = lk_lora_layers_after(a->layers, module);
}

static lk_lora_module *known_module(lk_adapter *a, const lk_graph *g, const char *name) {
    for (int i = 0; i < a->n; i++) if (a->module[i].g == g && !strcmp(a->module[i].name, name)) return &a->module[i];
    return NULL;
}

static lk_val adapter_param(lk_graph *g, const lk_adapter *a, const char *module, const char *leaf, lk_shape shape) {
    char *name = lk_xfmt("%s%s.%s", a->prefix, module, leaf);
    lk_val v = lk_param(g, name, shape, LK_MEM_ADAPTER);
    free(name);
    return v;
}

/* The module's record and params, or NULL if no target names it. */
static lk_lora_module *join(lk_adapter *a, lk_graph *g, const char *name, lk_val w, int groups) {
    lk_lora_module *known = known_module(a, g, name);
    note_seen(a, name);
    if (known) return known;
    if (!lk_lora_adapts(a, name)) return NULL;
    int rank_row = find_spelling(a, a->config.rank_names, name), alpha_row = find_spelling(a, a->config.alpha_names, name);
    lk_shape s = lk_shape_of(g, w);
    lk_lora_module m = { .g = g, .name = lk_strdup(a->arena, name), .groups = groups, .conv = s.rank == 4, .w = w };
    m.r = rank_row >= 0 ? a->config.rank_values[rank_row] : a->config.r;
    m.alpha = alpha_row >= 0 ? a->config.alpha_values[alpha_row] : a->config.alpha;
    if (a->config.kind == LK_FULL) { m.r = 1; m.alpha = 1; }
    if (m.r < 1) { lk_graph_fail(g, LK_EINPUT, "LoRA on %s: rank %d; expected at least 1", name, m.r); return NULL; }
    if (a->config.kind < LK_LOHA && m.r % groups) { lk_graph_fail(g, LK_EINPUT, "LoRA on %s: rank %d is not divisible by the convolution's %d groups", name, m.r, groups); return NULL; }
    if (a->config.lora_bias && a->config.kind > LK_RSLORA) { lk_graph_fail(g, LK_EINPUT, "LoRA on %s: only LoRA and rsLoRA have a bias of B (lora_bias)", name); return NULL; }
    if (a->config.decompose && (a->config.kind < LK_DORA || a->config.kind == LK_FULL || (a->config.kind < LK_LOHA && groups > 1))) { lk_graph_fail(g, LK_EINPUT, "LoRA on %s: weight decomposition (decompose) is of LoHa, LoKr and, in one group, DoRA", name); return NULL; }
    if (a->config.biases && a->config.kind > LK_RSDORA) { lk_graph_fail(g, LK_EINPUT, "LoRA on %s: only LoRA, rsLoRA and DoRA train biases of the base (bias)", name); return NULL; }
    if (a->config.tucker && groups > 1 && a->config.kind < LK_LOHA) { lk_graph_fail(g, LK_EINPUT, "LoRA on %s: Tucker's form of a convolution in %d groups is not implemented", name, groups); return NULL; }
    lk_shape shapes[LK_SLOT_COUNT];
    lk_lora_shapes(&a->config, s, groups, m.r, shapes);
    for (int i = 0; i < LK_SLOT_COUNT; i++) m.t[i] = shapes[i].rank ? adapter_param(g, a, name, lk_lora_leaves[i].peft, shapes[i]) : LK_NONE;
    if (a->n == a->cap) {
        a->cap = a->cap ? 2 * a->cap : 128;
        a->module = lk_xrealloc(a->module, (size_t)a->cap * sizeof *a->module);
    }
    a->module[a->n] = m;
    return &a->module[a->n++];
}

/* ---- nodes ---------------------------------------------------------------------------------------------------------- */

static bool drops(const lk_adapter *a) { return a->training && a->config.dropout > 0; }

/* Streams are at most 47 bytes and module names longer: the name's digest stands for it. */
static void dropout_stream(const lk_adapter *a, const char *module, const char *what, char stream[48]) {
    char hex[65];
    char *full = lk_xfmt("%s%s.%s", a->prefix, module, what);
    lk_sha256_of(full, strlen(full), hex);
    free(full);
    memcpy(stream, "dropout.", 8);
    memcpy(stream + 8, hex, 32);
    stream[40] = 0;
}

/* Inverted dropout; x's first axis is the samples' or a multiple of it, sample outermost. */
static lk_val drop_values(lk_graph *g, const lk_adapter *a, const char *module, const char *what, double p, lk_val x) {
    char stream[48];
    dropout_stream(a, module, what, stream);
    double keep = 1.0 - p;
    int64_t batch = lk_dim(g, a->samples, 0), numel = lk_numel(lk_shape_of(g, x));
    if (keep <= 0 || batch < 1 || numel % batch) {
        lk_graph_fail(g, LK_EINPUT, "%s %g on %s: must be below 1, and the %lld elements divisible by the %lld samples", what, p, module, (long long)numel, (long long)batch);
        return LK_NONE;
    }
    lk_val u = lk_reshape(g, lk_randu(g, a->seed, a->step, a->samples, stream, LK_SHAPE(batch, numel / batch)), lk_shape_of(g, x));
    return lk_scale(g, lk_mul(g, x, lk_less(g, u, lk_scalar(g, keep))), 1.0 / keep);
}

static lk_val drop(lk_graph *g, const lk_adapter *a, const char *module, lk_val x) { return drops(a) ? drop_values(g, a, module, "dropout", a->config.dropout, x) : x; }
static lk_val drop_neurons(lk_graph *g, const lk_adapter *a, const char *module, lk_val h) {
    return a->training && a->config.neuron_dropout > 0 ? drop_values(g, a, module, "neuron_dropout", a->config.neuron_dropout, h) : h;
}

/* x times 0 or 1 for each sample and each of n entries of one axis; x is [samples * k, ..] with that axis last (linear) or second (conv). */
static lk_val drop_entries(lk_graph *g, const lk_adapter *a, const char *module, const char *what, double p, lk_val x, int64_t n, bool conv) {
    char stream[48];
    lk_shape s = lk_shape_of(g, x);
    int64_t batch = lk_dim(g, a->samples, 0), numel = lk_numel(s);
    dropout_stream(a, module, what, stream);
    if (p > 1 || batch < 1 || s.rank < 2 || s.d[0] % batch) {
        lk_graph_fail(g, LK_EINPUT, "%s %g on %s: must be at most 1, and the first axis (%lld) a multiple of the %lld samples", what, p, module, (long long)s.d[0], (long long)batch);
        return LK_NONE;
    }
    lk_val kept = lk_less(g, lk_randu(g, a->seed, a->step, a->samples, stream, LK_SHAPE(batch, n)), lk_scalar(g, 1 - p));
    int64_t inner = conv && n > 1 ? s.d[2] * s.d[3] : n > 1 ? 1 : numel / batch, outer = numel / (batch * n * inner);
    lk_val y = lk_mul(g, lk_reshape(g, x, LK_SHAPE(batch, outer, n, inner)), lk_reshape(g, kept, LK_SHAPE(batch, 1, n, 1)));
    return lk_reshape(g, y, s);
}
/* One number a rank and sample, over all its positions; the others make up for it. */
static lk_val drop_ranks(lk_graph *g, const lk_adapter *a, const lk_lora_module *m, lk_val h, bool conv) {
    double p = a->config.rank_dropout;
    if (!a->training || p <= 0) return h;
    if (p >= 1) { lk_graph_fail(g, LK_EINPUT, "rank_dropout %g on %s: must be below 1", p, m->name); return LK_NONE; }
    return lk_scale(g, drop_entries(g, a, m->name, "rank_dropout", p, h, m->r, conv), 1 / (1 - p));
}
static lk_val drop_module(lk_graph *g, const lk_adapter *a, const lk_lora_module *m, lk_val branch) {
    return a->training && a->config.module_dropout > 0 ? drop_entries(g, a, m->name, "module_dropout", a->config.module_dropout, branch, 1, false) : branch;
}

static lk_val times_scale(lk_graph *g, const lk_adapter *a, const lk_lora_module *m, lk_val branch) {
    double s = lk_lora_scale(&a->config, m->r, m->alpha);
    return lk_ok(a->weight) ? lk_mul(g, branch, lk_scale(g, a->weight, s)) : lk_scale(g, branch, s);
}

static lk_val apply(lk_graph *g, lk_val x, lk_val w, lk_val bias, const lk_conv *conv) { return conv ? lk_conv2d(g, x, w, bias, *conv) : lk_linear(g, x, w, bias); }
static lk_val apply_weight(lk_graph *g, lk_val x, lk_val w, const lk_conv *conv) { return apply(g, x, w, LK_NONE, conv); }

/* Norm of each output row of W + s BA, shaped as the magnitude is; a constant to the gradient. In groups PEFT reads B [O, r / groups] as [O / groups, r],
 * whose product with A has as many values as W: no norm of the delta that is applied, but what its DoRA adapters were trained with. */
static lk_val row_norms(lk_graph *g, const lk_adapter *a, const lk_lora_module *m) {
    lk_shape s = lk_shape_of(g, m->w);
    int64_t columns = lk_numel(s) / (s.d[0] ? s.d[0] : 1);
    lk_val ba = lk_ok(m->t[LK_SLOT_MID]) ? lk_lora_delta_node(g, a->config.kind, m->t)
                : lk_matmul(g, lk_reshape(g, m->t[LK_SLOT_B], LK_SHAPE(s.d[0] / m->groups, m->r)), lk_reshape(g, m->t[LK_SLOT_A], LK_SHAPE(m->r, m->groups * columns)), LK_NONE, (lk_mm){ 0 });
    lk_val whole = lk_add(g, lk_reshape(g, m->w, LK_SHAPE(s.d[0], columns)), times_scale(g, a, m, lk_reshape(g, ba, LK_SHAPE(s.d[0], columns))));
    lk_val norm = lk_sqrt(g, lk_reduce_sum(g, lk_square(g, whole), (lk_axes){ .n = 1, .axis = { 1 } }));
    return lk_reshape(g, lk_detach(g, norm), lk_shape_of(g, m->t[LK_SLOT_MAGNITUDE]));
}

/* (m/norm - 1) W x + m/norm s BA x: added to the base output, whose bias stays unscaled. */
static lk_val dora_branch(lk_graph *g, const lk_adapter *a, const lk_lora_module *m, lk_val base, lk_val low_rank) {
    lk_val factor = lk_div(g, m->t[LK_SLOT_MAGNITUDE], row_norms(g, a, m));
    return lk_add(g, lk_mul(g, lk_shift(g, factor, -1), base), lk_mul(g, factor, low_rank));
}

static lk_val base_without_bias(lk_graph *g, const lk_adapter *a, const lk_lora_module *m, lk_val dropped, lk_val bias, lk_val y, const lk_conv *conv) {
    if (drops(a)) return apply_weight(g, dropped, m->w, conv);
    if (!lk_ok(bias)) return y;
    return lk_sub(g, y, conv ? lk_reshape(g, bias, LK_SHAPE(lk_dim(g, bias, 0), 1, 1)) : bias);
}

/* Full fine-tuning costs one product with W + D, not two; only where nothing has been added to the base's output yet and D sees its whole input. */
static bool replaces(const lk_adapter *a, lk_val sum, lk_val y) {
    return a->config.kind == LK_FULL && sum.id == y.id && !lk_ok(a->weight) && !drops(a) && !(a->training && a->config.module_dropout > 0);
}
static lk_val replaced(lk_graph *g, const lk_lora_module *m, lk_val x, lk_val w, lk_val bias, const lk_conv *conv) {
    lk_val all = lk_add(g, w, m->t[LK_SLOT_DIFF]);
    return apply(g, x, all, bias, conv);
}
static lk_conv pointwise(const lk_lora_module *m) { return (lk_conv){ .stride = { 1, 1 }, .groups = m->groups }; }
/* What B is applied to, [..., r] or [N, r, H, W]. */
static lk_val hidden(lk_graph *g, const lk_adapter *a, const lk_lora_module *m, lk_val dropped, const lk_conv *conv) {
    lk_conv down = conv ? *conv : (lk_conv){ 0 }, up = pointwise(m);
    down.groups = 1;
    bool core = lk_ok(m->t[LK_SLOT_MID]);
    lk_val h = apply_weight(g, dropped, m->t[LK_SLOT_A], core ? &up : conv ? &down : NULL);
    if (core) h = apply_weight(g, h, m->t[LK_SLOT_MID], &down);
    return drop_ranks(g, a, m, drop_neurons(g, a, m->name, h), conv != NULL);
}
/* LyCORIS' decomposed weight, less W. */
static lk_val decomposed_branch(lk_graph *g, const lk_adapter *a, const lk_lora_module *m, lk_val x, const lk_conv *conv) {
    lk_val delta = lk_scale(g, lk_lora_delta_node(g, a->config.kind, m->t), lk_lora_scale(&a->config, m->r, m->alpha));
    return apply_weight(g, x, lk_sub(g, lk_lora_decomposed(g, a->config.decompose, m->w, delta, m->t[LK_SLOT_MAGNITUDE], a->weight), m->w), conv);
}
/* LoHa, LoKr and full differences have no low rank to pass x through: their whole delta is a weight. So is that of a decomposed weight. */
static lk_val branch_of(lk_graph *g, lk_adapter *a, const lk_lora_module *m, lk_val x, lk_val bias, lk_val y, const lk_conv *conv) {
    lk_val dropped = drop(g, a, m->name, x);
    if ((a->config.kind >= LK_LOHA || a->config.decompose) && (a->config.rank_dropout > 0 || a->config.neuron_dropout > 0))
        lk_graph_fail(g, LK_EINPUT, "%s on %s: LoHa, LoKr, full differences and decomposed weights have no ranks to drop", a->config.rank_dropout > 0 ? "rank_dropout" : "neuron_dropout", m->name);
    if (a->config.decompose) return decomposed_branch(g, a, m, dropped, conv);
    if (a->config.kind >= LK_LOHA) return apply_weight(g, dropped, times_scale(g, a, m, lk_reshape(g, lk_lora_delta_node(g, a->config.kind, m->t), lk_shape_of(g, m->w))), conv);
    lk_conv up = pointwise(m);
    lk_val low_rank = times_scale(g, a, m, apply(g, hidden(g, a, m, dropped, conv), m->t[LK_SLOT_B], m->t[LK_SLOT_BIAS], conv ? &up : NULL));
    return lk_lora_is_dora(a->config.kind) ? dora_branch(g, a, m, base_without_bias(g, a, m, dropped, bias, y, conv), low_rank) : low_rank;
}

/* A linear layer's branch whose last steps are the up projection, a constant scale and the sum: one operation, the same bits. */
static bool adds_product(const lk_adapter *a, const lk_lora_module *m, const lk_conv *conv) {
    return !conv && a->config.kind < LK_LOHA && !lk_lora_is_dora(a->config.kind) && !lk_ok(a->weight) && !lk_ok(m->t[LK_SLOT_BIAS]) && !(a->training && a->config.module_dropout > 0);
}
static lk_val with_product(lk_graph *g, lk_adapter *a, const lk_lora_module *m, lk_val x, lk_val sum) {
    return lk_matmul_add(g, sum, hidden(g, a, m, drop(g, a, m->name, x), NULL), m->t[LK_SLOT_B], lk_lora_scale(&a->config, m->r, m->alpha), (lk_mm){ .tb = true });
}

static lk_val with_adapters(const lk_net *net, const char *module, lk_val x, lk_val w, lk_val bias, lk_val y, const lk_conv *conv) {
    lk_graph *g = net->g;
    lk_val sum = y;
    char *name = lk_xfmt("%s%s", net->prefix, module);
    for (int i = 0; i < net->n_adapters; i++) {
        const lk_lora_module *m = join(net->adapters[i], g, name, w, conv && conv->groups ? conv->groups : 1);
        if (!m) continue;
        lk_lora_module copy = *m;
        if (replaces(net->adapters[i], sum, y)) { sum = replaced(g, &copy, x, w, bias, conv); continue; }
        if (adds_product(net->adapters[i], &copy, conv)) { sum = with_product(g, net->adapters[i], &copy, x, sum); continue; }
        sum = lk_add(g, sum, drop_module(g, net->adapters[i], &copy, branch_of(g, net->adapters[i], &copy, x, bias, y, conv)));
    }
    free(name);
    return sum;
}

lk_val lk_adapter_linear(const lk_net *net, const char *module, lk_val x, lk_val w, lk_val bias, lk_val y) { return with_adapters(net, module, x, w, bias, y, NULL); }
lk_val lk_adapter_conv2d(const lk_net *net, const char *module, lk_val x, lk_val w, lk_val bias, lk_val y, lk_conv conv) {
    return with_adapters(net, module, x, w, bias, y, &conv);
}

/* ---- initial values --------------------------------------------------------------------------------------------------- */

static lk_err init_kaiming(lk_exec *exec, const lk_lora_module *m, int slot, uint64_t seed) {
    lk_shape s = lk_shape_of(m->g, m->t[slot]);
    int64_t n = lk_numel(s);
    float bound = (float)(1.0 / __builtin_sqrt((double)(n / s.d[0])));       /* Kaiming with a = sqrt 5: sqrt(6 / ((1 + 5) fan_in)) */
    char *stream = lk_xfmt("%s.%s", m->name, lk_lora_leaves[slot].peft);
    uint64_t key = lk_stream_key(seed, stream);
    float *x = lk_xaligned((size_t)n * sizeof *x);
    for (int64_t i = 0; i < n; i++) x[i] = bound * (2.0f * lk_philox_uniform(key, 0, 0, (uint64_t)i) - 1.0f);
    lk_err err = lk_exec_set(exec, m->t[slot], x, n);
    free(x);
    free(stream);
    return err;
}

static lk_err set_zero(lk_exec *exec, lk_val v, int64_t n) {
    float *x = lk_xcalloc((size_t)n, sizeof *x);
    lk_err err = lk_exec_set(exec, v, x, n);
    free(x);
    return err;
}

/* The magnitude starts as W's norms, by the very operations that the branch runs, so that the factor is exactly 1. */
static lk_err norms_of(const float *w, lk_lora_decompose by, lk_shape s, float *out) {
    lk_graph *g = lk_graph_new();
    lk_exec *exec = NULL;
    int64_t rows = s.d[0], columns = lk_numel(s) / rows;
    lk_val x = lk_input(g, "w", LK_F32, by ? s : LK_SHAPE(rows, columns));
    lk_val norm = by ? lk_lora_norms(g, by, x) : lk_sqrt(g, lk_reduce_sum(g, lk_square(g, x), (lk_axes){ .n = 1, .axis = { 1 } }));
    lk_err err = lk_graph_error(g);
    if (!err) err = lk_exec_new(g, &norm, 1, (lk_exec_opts){ 0 }, &exec);
    if (!err) err = lk_exec_set(exec, x, w, rows * columns);
    if (!err) err = lk_exec_run(exec);
    if (!err) err = lk_exec_get(exec, norm, out, lk_numel(lk_shape_of(g, norm)));
    lk_exec_free(exec);
    lk_graph_free(g);
    return err;
}

static lk_err init_magnitude(lk_exec *exec, const lk_lora_module *m, lk_lora_decompose by) {
    lk_shape s = lk_shape_of(m->g, m->w);
    int64_t n = lk_numel(s), count = lk_numel(lk_shape_of(m->g, m->t[LK_SLOT_MAGNITUDE]));
    float *w = lk_xaligned((size_t)n * sizeof *w), *norms = lk_xaligned((size_t)count * sizeof *norms);
    lk_err err = lk_exec_get(exec, m->w, w, n);
    if (!err) err = norms_of(w, by, s, norms);
    if (!err) err = lk_exec_set(exec, m->t[LK_SLOT_MAGNITUDE], norms, count);
    free(w);
    free(norms);
    return err;
}

static lk_err init_gaussian(lk_exec *exec, const lk_lora_module *m, uint64_t seed) {
    int64_t n = lk_numel(lk_shape_of(m->g, m->t[LK_SLOT_A]));
    char *stream = lk_xfmt("%s.%s", m->name, lk_lora_leaves[LK_SLOT_A].peft);
    uint64_t key = lk_stream_key(seed, stream);
    float *x = lk_xaligned((size_t)n * sizeof *x), std = 1.0f / (float)m->r;
    for (int64_t i = 0; i < n; i++) x[i] = std * lk_philox_normal(key, 0, 0, (uint64_t)i);
    lk_err err = lk_exec_set(exec, m->t[LK_SLOT_A], x, n);
    free(x);
    free(stream);
    return err;
}

/* One factor of each product starts at zero, as PEFT has it: a fresh adapter changes nothing. */
static lk_err init_slot(lk_exec *exec, const lk_lora_module *m, int slot, uint64_t seed, const lk_lora_config *c) {
    if (slot == LK_SLOT_A && c->gaussian) return init_gaussian(exec, m, seed);
    if (slot == LK_SLOT_MAGNITUDE) return init_magnitude(exec, m, c->decompose);
    if (slot == LK_SLOT_B || slot == LK_SLOT_BIAS || slot == LK_SLOT_DIFF || slot == LK_SLOT_H2A || slot == LK_SLOT_K1 || slot == LK_SLOT_K1A) return set_zero(exec, m->t[slot], lk_numel(lk_shape_of(m->g, m->t[slot])));
    return init_kaiming(exec, m, slot, seed);
}

lk_err lk_adapter_init(lk_adapter *a, lk_exec *exec, uint64_t seed) {
    const lk_graph *g = lk_exec_graph(exec);
    for (int i = 0; i < a->n; i++) {
        const lk_lora_module *m = &a->module[i];
        if (m->g != g) continue;
        for (int k = 0; k < LK_SLOT_COUNT; k++) if (lk_ok(m->t[k])) LK_TRY(init_slot(exec, m, k, seed, &a->config));
    }
    return lk_lora_copies_init(a, exec);
}
