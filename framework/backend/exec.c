/* The executor: takes a planned graph and a backend, owns the memory, runs the live nodes in the
 * order they were built. It knows nothing of arithmetic; an operation is one call of the backend's
 * kernel with pointers in and out.
 *
 * Memory has three parts, all known before a byte is allocated: one arena for what the run computes
 * (offsets from the plan), one storage per leaf, one workspace that the kernels use in turn. Views
 * have no memory, only a pointer into their source's. A leaf's storage is counted by reference, so
 * that two executors can hold the same adapter. F32 values take backend->element_bytes, I64 always 8.
 * On a device arena, workspace and the leaves that change are one allocation, frozen weights another, made when the first of
 * them is met that no other executor has brought there.
 *
 * Invariant: after `resolve`, step[i].call points at live memory for every input and output, and
 * nothing but bind, share and the first touch of a leaf makes that stale (`resolved` is cleared).
 * A memory limit first makes the plan compute forward values again (graph/remat.c), then refuses. */
#include "backend/backend.h"
#include "backend/copies.h"
#include "backend/memory.h"
#include "backend/profile.h"
#include "backend/storage.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct {
    lk_node node;            /* a copy: the graph may grow and move its own; inputs are turns of the plan */
    bool live, output, written /* by an effect */, set;
    lk_storage *leaf;        /* leaves: NULL until touched */
    bool shared;             /* leaf came from another executor, which counts its bytes */
    bool half;               /* a frozen param that is kept in bf16 */
    int64_t offset;          /* leaves in a block: on a device `state`, or `weights` where frozen; on the host `own` */
} value;
typedef struct { lk_kernel kernel; lk_kernel_call call; void **in; const void **packed; int id; } step;

struct lk_exec {
    lk_graph *graph; lk_plan *plan;
    const lk_backend *backend; lk_pool *pool;
    lk_arena *memory;        /* tables below */
    int n; value *value;     /* by turn of the plan; callers speak of nodes */
    int n_steps; step *step;
    char *arena; void *work;
    int64_t work_bytes;
    lk_block *own[LK_MEM_CLASSES]; int64_t own_bytes[LK_MEM_CLASSES];     /* the host's: leaves that change, by class */
    lk_block *state, *weights;            /* a device's: arena, workspace, leaves; frozen params */
    int64_t state_bytes, weight_bytes, leaves_at;
    const lk_kernel *kernels; const lk_kernel_call **calls; void *replay;   /* what a device runs */
    int64_t limit;           /* bytes this executor may take */
    bool counted; int64_t held;           /* of the process's limit */
    lk_profile *profile;     /* NULL: off */
    bool resolved, touched;               /* touched: the arena's pages are there */
};

static bool is_leaf(const lk_node *n)   { return lk_op_traits(n->op) & T_LEAF; }
static bool is_view(const lk_node *n)   { return lk_op_traits(n->op) & T_VIEW; }
static bool is_effect(const lk_node *n) { return lk_op_traits(n->op) & T_EFFECT; }
static int element_bytes(const lk_exec *e, const lk_node *n) { return n->dtype == LK_I64 ? 8 : e->backend->element_bytes; }
static int64_t value_bytes(const lk_exec *e, const lk_node *n) { return lk_numel(n->shape) * element_bytes(e, n); }
static int64_t kept_bytes(const lk_exec *e, const value *v) { return v->half ? lk_numel(v->node.shape) * 2 : value_bytes(e, &v->node); }
static const lk_device *device_of(const lk_exec *e) { return e->backend->device; }
static bool is_frozen(const value *v) { return v->node.op == LK_OP_param && !v->written; }
static const char *label(const lk_node *n) { return n->name ? n->name : lk_op_name(n->op); }

/* ---- building ------------------------------------------------------------------------------ */
/* The value a caller means by a node; NULL: none of this executor's. */
static value *value_of(const lk_exec *e, lk_val at) { return at.id < 0 || at.id >= e->plan->n_nodes ? NULL : &e->value[e->plan->turn_of[at.id]]; }

/* Backends ask about nodes of the graph, whose inputs are values of the graph. */
static const lk_node *graph_node(const lk_exec *e, int turn) { return lk_graph_node(e->graph, (lk_val){e->plan->node_of[turn]}); }

/* Copies the nodes; marks what effects write. adamw writes p, m and v. */
static void copy_nodes(lk_exec *e, const lk_val *outputs, int n_outputs) {
    e->n = e->plan->n_turns;
    e->value = lk_alloc(e->memory, sizeof(value) * (size_t)(e->n + 1));
    for (int i = 0; i < e->n; i++) {
        value *v = &e->value[i];
        v->node = e->plan->turn[i];
        v->live = e->plan->turn_live[i];
        v->half = e->plan->turn_half[i];
        if (v->live && is_effect(&v->node))
            for (int k = 0; k < (v->node.op == LK_OP_adamw ? 3 : 1); k++) e->value[v->node.in[k].id].written = true;
    }
    for (int i = 0; i < n_outputs; i++) if (lk_ok(outputs[i])) value_of(e, outputs[i])->output = true;
}

static lk_err make_steps(lk_exec *e) {
    e->step = lk_alloc(e->memory, sizeof(step) * (size_t)(e->n + 1));
    for (int i = 0; i < e->n; i++) {
        const lk_node *n = &e->value[i].node;
        if (!e->value[i].live || is_leaf(n) || is_view(n)) continue;
        lk_kernel kernel = e->backend->kernel[n->op];
        if (!kernel) return lk_error(LK_ESTATE, "operation %s (node %d) is not supported by backend %s; choose another backend", lk_op_name(n->op), e->plan->node_of[i], e->backend->name);
        step *s = &e->step[e->n_steps++];
        *s = (step){.kernel = kernel, .id = i};
        size_t k = (size_t)n->n_in + 1;
        s->in = lk_alloc(e->memory, sizeof(void *) * k);
        s->packed = lk_alloc(e->memory, sizeof(void *) * k);
        lk_shape *shape = lk_alloc(e->memory, sizeof(lk_shape) * k);
        for (int j = 0; j < n->n_in; j++) if (lk_ok(n->in[j])) shape[j] = e->value[n->in[j].id].node.shape;
        s->call = (lk_kernel_call){.node = n, .in = s->in, .in_shape = shape, .packed = s->packed, .pool = e->pool};
        int64_t work = e->backend->workspace ? e->backend->workspace(e->graph, graph_node(e, i), lk_pool_threads(e->pool)) : 0;
        if (work > e->work_bytes) e->work_bytes = work;
    }
    return LK_OK;
}

static int64_t leaf_bytes(const lk_exec *e) {
    int64_t sum = 0;
    for (int i = 0; i < e->n; i++) {
        const value *v = &e->value[i];
        if (!v->live || !is_leaf(&v->node) || v->shared) continue;
        bool bound = v->leaf && v->leaf->borrowed && v->node.op == LK_OP_param;
        sum += bound ? lk_storage_copies(v->leaf) * v->leaf->bytes : value_bytes(e, &v->node);
    }
    return sum;
}

int64_t lk_exec_bytes(const lk_exec *e) {
    if (device_of(e)) {
        bool weights = e->weights != NULL;           /* none where another executor has brought all of them */
        for (int i = 0; i < e->n && !weights; i++) weights = e->value[i].live && is_leaf(&e->value[i].node) && is_frozen(&e->value[i]) && !e->value[i].leaf;
        return e->state_bytes + (weights ? e->weight_bytes : 0);
    }
    return e->plan->arena_bytes + e->work_bytes + leaf_bytes(e);
}

/* Where everything lies on a device: [arena | workspace | leaves], and the frozen params apart. */
static void lay_out(lk_exec *e) {
    e->state_bytes = e->leaves_at = lk_device_aligned(e->plan->arena_bytes) + lk_device_aligned(e->work_bytes);
    for (int i = 0; i < e->n; i++) {
        value *v = &e->value[i];
        if (!v->live || !is_leaf(&v->node)) continue;
        int64_t *end = is_frozen(v) ? &e->weight_bytes : &e->state_bytes;
        v->offset = *end;
        *end += lk_device_aligned(kept_bytes(e, v));
    }
}
/* On the host leaves that change lie in one block a class where that fills large pages. A frozen param is mostly bound, so one that is set gets
 * memory of its own, and small leaves stay apart, where tools see an access past their end. */
static void lay_out_own(lk_exec *e) {
    for (int i = 0; i < e->n; i++) {
        value *v = &e->value[i];
        if (!v->live || !is_leaf(&v->node) || is_frozen(v)) continue;
        v->offset = e->own_bytes[v->node.mem];
        e->own_bytes[v->node.mem] += lk_device_aligned(value_bytes(e, &v->node));
    }
}
/* Tells the kernels which inputs are kept in bf16. */
static void tell_halves(lk_exec *e) {
    if (!e->backend->keeps_bf16) return;
    for (int i = 0; i < e->n_steps; i++) {
        const lk_node *n = e->step[i].call.node;
        bool *half = lk_alloc(e->memory, sizeof *half * (size_t)(n->n_in + 1));
        for (int k = 0; k < n->n_in; k++) half[k] = lk_ok(n->in[k]) && e->value[n->in[k].id].half;
        e->step[i].call.half = half;
    }
}
static lk_err allocate_on_device(lk_exec *e) {
    if (e->state_bytes) LK_TRY(lk_block_new(device_of(e), e->state_bytes, &e->state));
    if (e->state_bytes > e->leaves_at) LK_TRY(device_of(e)->clear(e->state->data + e->leaves_at, e->state_bytes - e->leaves_at));
    if (e->state) { e->arena = e->state->data; e->work = e->state->data + lk_device_aligned(e->plan->arena_bytes); }
    lk_kernel *kernels = lk_alloc(e->memory, sizeof *kernels * (size_t)(e->n_steps + 1));
    e->kernels = kernels;
    e->calls = lk_alloc(e->memory, sizeof *e->calls * (size_t)(e->n_steps + 1));
    for (int i = 0; i < e->n_steps; i++) { kernels[i] = e->step[i].kernel; e->calls[i] = &e->step[i].call; }
    return LK_OK;
}

/* Plans; where the limit is too small for that plan, plans again with what it leaves for the arena. */
static lk_err plan_within_limit(lk_exec *e, const lk_val *outputs, int n) {
    lk_plan_opts p = {.element_bytes = e->backend->element_bytes, .workspace = e->backend->workspace, .threads = lk_pool_threads(e->pool), .keeps_bf16 = e->backend->keeps_bf16,
                      .pack_form = e->backend->pack_form, .pack_other = e->backend->pack_other};
    LK_TRY(lk_plan_new(e->graph, outputs, n, p, &e->plan));
    int64_t need = 0, one = lk_memory_limit_one(), most = e->limit < one || device_of(e) ? e->limit : one;
    for (int c = 0; c < LK_MEM_CLASSES; c++) need += e->plan->by_class[c];
    p.arena_budget = most - (need - e->plan->arena_bytes);
    if (need <= most) return LK_OK;
    if (p.arena_budget < 1) p.arena_budget = 1;
    lk_plan_free(e->plan);
    e->plan = NULL;
    return lk_plan_new(e->graph, outputs, n, p, &e->plan);
}
static lk_err refuse_if_too_big(const lk_exec *e, const char *who) {
    int64_t need = lk_exec_bytes(e), limit = e->limit;
    if (need <= limit) return LK_OK;
    lk_arena *a = lk_arena_new();
    lk_err err = lk_error(LK_ENOMEM, "the run needs %lld bytes (%.2f GiB) but %s allows %lld (%.2f GiB); make the batch, picture or rank smaller\n%s",
                          (long long)need, (double)need / 0x1p30, who, (long long)limit, (double)limit / 0x1p30, lk_plan_text(a, e->graph, e->plan, 8));
    lk_arena_free(a);
    return err;
}

/* From the process's limit goes what is this executor's alone: frozen weights are mapped by their file, once for all that bind them. */
static void hold(lk_exec *e) {
    e->counted = true;
    e->held = lk_exec_bytes(e);
    for (int i = 0; i < e->n; i++) if (e->value[i].live && is_frozen(&e->value[i])) e->held -= value_bytes(e, &e->value[i].node);
    lk_memory_hold(e->held);
}

lk_err lk_exec_new(lk_graph *g, const lk_val *outputs, int n, lk_exec_opts opts, lk_exec **out) {
    *out = NULL;
    LK_TRY(lk_graph_error(g));
    if (!opts.backend) LK_TRY(lk_backend_default(&opts.backend));
    lk_exec *e = lk_xcalloc(1, sizeof *e);
    e->graph = g; e->backend = opts.backend; e->pool = opts.pool; e->memory = lk_arena_new();
    const char *who = "memory_limit";
    lk_err err = LK_OK;
    e->limit = opts.memory_limit;
    if (device_of(e)) {                              /* a device has no swap: its own bound holds whatever the caller's */
        int64_t free_bytes;
        const char *device;
        LK_TRY_GOTO(err, failed, device_of(e)->room(&free_bytes, &device));
        if (e->limit <= 0 || free_bytes < e->limit) { e->limit = free_bytes; who = device; }
    }
    bool by_process = e->limit <= 0 && !device_of(e);
    if (e->limit <= 0) e->limit = lk_memory_available(&who);
    if (by_process && lk_memory_limit_left() < e->limit) { e->limit = lk_memory_limit_left(); who = "what is left of mem="; }
    LK_TRY_GOTO(err, failed, plan_within_limit(e, outputs, n));
    copy_nodes(e, outputs, n);
    LK_TRY_GOTO(err, failed, make_steps(e));
    if (device_of(e)) { tell_halves(e); lay_out(e); }
    LK_TRY_GOTO(err, failed, refuse_if_too_big(e, who));
    if (device_of(e)) LK_TRY_GOTO(err, failed, allocate_on_device(e));
    else {
        lay_out_own(e);
        if (by_process && lk_memory_limit_is()) hold(e);
        if (e->plan->arena_bytes > 0) e->arena = lk_xaligned((size_t)e->plan->arena_bytes);
        if (e->work_bytes > 0) e->work = lk_xaligned((size_t)e->work_bytes);
        e->profile = lk_profile_new(e->n_steps);
    }
    *out = e;
    return LK_OK;
failed:
    lk_exec_free(e);
    return err;
}

static void print_profile(const lk_exec *e) {
    lk_arena *a = lk_arena_new();
    lk_profile_step *step = lk_alloc(a, sizeof *step * (size_t)(e->n_steps + 1));
    for (int i = 0; i < e->n_steps; i++) {
        const lk_node *n = e->step[i].call.node;
        lk_buf text = {0};
        lk_buf_fmt(&text, "%s#%d %s%s%s <-", lk_op_name(n->op), e->step[i].id, n->name ? n->name : "", n->name ? " " : "", lk_shape_text(a, n->shape));
        step[i] = (lk_profile_step){.kind = lk_op_name(n->op), .flops = lk_node_flops(e->graph, graph_node(e, e->step[i].id)), .bytes = value_bytes(e, n)};
        for (int k = 0; k < n->n_in; k++) {
            step[i].bytes += value_bytes(e, &e->value[n->in[k].id].node);
            lk_buf_fmt(&text, " %s", lk_shape_text(a, e->step[i].call.in_shape[k]));
        }
        step[i].text = lk_strdup(a, text.s);
        free(text.s);
    }
    lk_buf out = {0};
    lk_profile_text(e->profile, step, &out);
    fputs(out.s, stderr);
    free(out.s);
    lk_arena_free(a);
}

void lk_exec_free(lk_exec *e) {
    if (!e) return;
    lk_memory_hold(-e->held);
    if (e->profile) print_profile(e);
    lk_profile_free(e->profile);
    for (int i = 0; i < e->n; i++) lk_storage_release(e->value[i].leaf);
    if (e->replay) device_of(e)->forget(e->replay);
    if (!device_of(e)) { free(e->arena); free(e->work); }
    for (int i = 0; i < LK_MEM_CLASSES; i++) lk_block_release(e->own[i]);
    lk_block_release(e->state); lk_block_release(e->weights);
    if (e->plan) lk_plan_free(e->plan);
    lk_arena_free(e->memory);
    free(e);
}

const lk_plan *lk_exec_plan(const lk_exec *e)  { return e->plan; }
lk_graph      *lk_exec_graph(const lk_exec *e) { return e->graph; }

/* ---- leaves -------------------------------------------------------------------------------- */
static void widen(double *to, const float *from, int64_t n)  { for (int64_t i = 0; i < n; i++) to[i] = from[i]; }
static void narrow(float *to, const double *from, int64_t n) { for (int64_t i = 0; i < n; i++) to[i] = (float)from[i]; }

static lk_err touch_on_device(lk_exec *e, value *v) {
    int64_t bytes = kept_bytes(e, v);
    if (is_frozen(v) && !e->weights) {
        LK_TRY(lk_block_new(device_of(e), e->weight_bytes, &e->weights));
        LK_TRY(device_of(e)->clear(e->weights->data, e->weight_bytes));
    }
    v->leaf = lk_storage_in(is_frozen(v) ? e->weights : e->state, v->offset, bytes);
    return v->node.op == LK_OP_constant && bytes ? device_of(e)->write(v->leaf->data, v->node.data, bytes) : LK_OK;
}
static lk_storage *own_storage(lk_exec *e, const value *v, int64_t bytes) {
    enum { LARGE = 4 << 20 };
    lk_block **block = &e->own[v->node.mem];
    if (is_frozen(v) || e->own_bytes[v->node.mem] < LARGE) return lk_storage_new(bytes);
    if (!*block) { lk_err_free(lk_block_new(NULL, e->own_bytes[v->node.mem], block)); lk_parallel_touch(e->pool, (*block)->data, (size_t)(*block)->bytes); }   /* cannot fail on the host */
    return lk_storage_in(*block, v->offset, bytes);
}
/* The storage of a leaf, made on first touch. Constants are read where the graph keeps them, unless the backend is binary64. */
static lk_err touch(lk_exec *e, value *v) {
    if (v->leaf) return LK_OK;
    e->resolved = false;
    if (device_of(e)) return touch_on_device(e, v);
    int64_t bytes = value_bytes(e, &v->node);
    bool as_is = v->node.dtype == LK_I64 || e->backend->element_bytes == 4;
    if (v->node.op == LK_OP_constant && as_is) { v->leaf = lk_storage_borrowed((lk_stored){.data = v->node.data}, bytes); return LK_OK; }
    v->leaf = own_storage(e, v, bytes);
    if (v->node.op == LK_OP_constant) widen(v->leaf->data, v->node.data, lk_numel(v->node.shape));
    return LK_OK;
}
/* Between the host and where a value lies. */
static lk_err store(lk_exec *e, void *to, const void *host, int64_t bytes) {
    if (!bytes) return LK_OK;
    if (device_of(e)) return device_of(e)->write(to, host, bytes);
    memcpy(to, host, (size_t)bytes);
    return LK_OK;
}
/* The float values of a leaf, in the form it is kept in. */
static lk_err store_floats(lk_exec *e, const value *v, const float *x, int64_t n) {
    if (!v->half) return store(e, v->leaf->data, x, n * (int64_t)sizeof *x);
    uint16_t *rounded = lk_xmalloc(sizeof *rounded * (size_t)(n + 1));
    for (int64_t i = 0; i < n; i++) rounded[i] = lk_storage_bf16(x[i]);
    lk_err err = store(e, v->leaf->data, rounded, n * (int64_t)sizeof *rounded);
    free(rounded);
    return err;
}
static lk_err fetch(lk_exec *e, void *host, const void *from, int64_t bytes) {
    if (!bytes) return LK_OK;
    if (device_of(e)) return device_of(e)->read(host, from, bytes);
    memcpy(host, from, (size_t)bytes);
    return LK_OK;
}

/* Finds the leaf a caller means and checks what it is about to be given. */
static lk_err find_leaf(lk_exec *e, const char *call, lk_val at, lk_dtype dtype, int64_t n, value **out) {
    value *v = value_of(e, at);
    if (!v) return lk_error(LK_EINPUT, "%s: value %d is unknown to this executor (it has %d values)", call, at.id, e->plan->n_nodes);
    if (v->node.op != LK_OP_input && v->node.op != LK_OP_param)
        return lk_error(LK_EINPUT, "%s: %s (value %d) is not an input or a param", call, label(&v->node), at.id);
    if (v->node.dtype != dtype)
        return lk_error(LK_ESHAPE, "%s: %s holds %s; use %s", call, label(&v->node), dtype == LK_F32 ? "I64" : "F32", dtype == LK_F32 ? "lk_exec_set_i64" : "lk_exec_set");
    if (n != lk_numel(v->node.shape)) {
        lk_arena *a = lk_arena_new();
        lk_err err = lk_error(LK_ESHAPE, "%s: %s has shape %s, %lld elements; found %lld", call, label(&v->node), lk_shape_text(a, v->node.shape),
                              (long long)lk_numel(v->node.shape), (long long)n);
        lk_arena_free(a);
        return err;
    }
    *out = v;
    return LK_OK;
}
/* As find_leaf, then ready to be written. A leaf the outputs do not need gets no memory: *data is NULL. */
static lk_err open_leaf(lk_exec *e, const char *call, lk_val at, lk_dtype dtype, int64_t n, value **out, void **data) {
    value *v;
    LK_TRY(find_leaf(e, call, at, dtype, n, &v));
    *data = NULL;
    if (!v->live) return LK_OK;
    if (v->leaf && v->leaf->borrowed && v->leaf->stored.as == LK_AS_F32) return lk_error(LK_ESTATE, "%s: %s is bound to memory of the caller; it cannot be written", call, label(&v->node));
    if (v->leaf && v->leaf->borrowed) {              /* floats of its own from here on */
        lk_storage_release(v->leaf);
        v->leaf = NULL;
        v->shared = false;
    }
    LK_TRY(touch(e, v));
    *data = v->leaf->data;
    *out = v;
    v->set = true;
    return LK_OK;
}

lk_err lk_exec_set(lk_exec *e, lk_val leaf, const float *x, int64_t n) {
    value *v;
    void *data;
    LK_TRY(open_leaf(e, "lk_exec_set", leaf, LK_F32, n, &v, &data));
    if (!data) return LK_OK;
    if (e->backend->element_bytes == 4) return store_floats(e, v, x, n);
    widen(data, x, n);
    return LK_OK;
}
lk_err lk_exec_set_f64(lk_exec *e, lk_val leaf, const double *x, int64_t n) {
    value *v;
    void *data;
    LK_TRY(open_leaf(e, "lk_exec_set_f64", leaf, LK_F32, n, &v, &data));
    if (!data) return LK_OK;
    if (e->backend->element_bytes == 8) return store(e, data, x, n * (int64_t)sizeof *x);
    float *rounded = lk_xmalloc(sizeof *rounded * (size_t)(n + 1));
    narrow(rounded, x, n);
    lk_err err = store_floats(e, v, rounded, n);
    free(rounded);
    return err;
}
lk_err lk_exec_set_i64(lk_exec *e, lk_val leaf, const int64_t *x, int64_t n) {
    value *v;
    void *data;
    LK_TRY(open_leaf(e, "lk_exec_set_i64", leaf, LK_I64, n, &v, &data));
    return data ? store(e, data, x, n * (int64_t)sizeof *x) : LK_OK;
}
lk_err lk_exec_set_scalar(lk_exec *e, lk_val leaf, double x) {
    const value *v = value_of(e, leaf);
    bool whole = v && v->node.dtype == LK_I64;
    if (!whole) return lk_exec_set_f64(e, leaf, &x, 1);
    if (x != (double)(int64_t)x) return lk_error(LK_EINPUT, "lk_exec_set_scalar: %s holds I64; %.17g is not a whole number", label(&v->node), x);
    return lk_exec_set_i64(e, leaf, &(int64_t){(int64_t)x}, 1);
}

/* Calls f with the floats of what a caller stores. */
static lk_err with_floats(lk_exec *e, value *v, const lk_stored *w, lk_err (*f)(lk_exec *, value *, const float *)) {
    if (w->as == LK_AS_F32) return f(e, v, w->data);
    int64_t n = lk_numel(v->node.shape);
    float *x = lk_xmalloc(sizeof *x * (size_t)(n + 1));
    lk_widen_halves(x, w->data, n, w->as);
    lk_err err = f(e, v, x);
    free(x);
    return err;
}
static lk_err set_whole(lk_exec *e, value *v, const float *x) { return lk_exec_set(e, (lk_val){e->plan->node_of[v - e->value]}, x, lk_numel(v->node.shape)); }
static lk_err store_whole(lk_exec *e, value *v, const float *x) { return store_floats(e, v, x, lk_numel(v->node.shape)); }

/* One copy on the device for all executors that bind this memory. */
static lk_err bind_on_device(lk_exec *e, value *v, const lk_stored *w) {
    int64_t bytes = kept_bytes(e, v);
    lk_storage *copy = lk_storage_copy_of(device_of(e), w->data, bytes);
    if (!copy && v->leaf && v->leaf->source && v->leaf->refs > 1)
        return lk_error(LK_ESTATE, "lk_exec_bind: %s is bound and another executor reads the copy; free that one first", label(&v->node));
    if (copy || (v->leaf && (v->shared || v->leaf->source))) { lk_storage_release(v->leaf); v->leaf = copy; }
    if (!copy) {
        LK_TRY(touch(e, v));
        LK_TRY(with_floats(e, v, w, store_whole));
        lk_storage_is_copy(v->leaf, w->data);
    }
    v->set = true; v->shared = e->resolved = false;
    return LK_OK;
}
lk_err lk_exec_bind(lk_exec *e, lk_val param, const float *x, int64_t n) { return lk_exec_bind_stored(e, param, (lk_stored){.data = x}, n); }
lk_err lk_exec_bind_stored(lk_exec *e, lk_val param, lk_stored w, int64_t n) {
    value *v;
    LK_TRY(find_leaf(e, "lk_exec_bind", param, LK_F32, n, &v));
    if (v->written) return lk_error(LK_ESTATE, "lk_exec_bind: %s is written by an effect; set it instead", label(&v->node));
    if (!v->live) {                                  /* kept where it lies, to be read back */
        lk_storage_release(v->leaf);
        v->leaf = lk_storage_borrowed(w, n * (int64_t)sizeof(float));
        return LK_OK;
    }
    if (e->backend->element_bytes == 8) return with_floats(e, v, &w, set_whole);
    if (device_of(e)) return bind_on_device(e, v, &w);
    lk_storage_release(v->leaf);
    v->leaf = lk_storage_borrowed(w, value_bytes(e, &v->node));
    v->set = true; v->shared = e->resolved = false;
    return LK_OK;
}

lk_err lk_exec_share(lk_exec *to, lk_val leaf, lk_exec *from, lk_val source) {
    value *t, *s;
    if (!value_of(from, source)) return lk_error(LK_EINPUT, "lk_exec_share: value %d is unknown to the executor that lends", source.id);
    const lk_node *n = &value_of(from, source)->node;
    LK_TRY(find_leaf(from, "lk_exec_share", source, n->dtype, lk_numel(n->shape), &s));
    LK_TRY(find_leaf(to, "lk_exec_share", leaf, n->dtype, lk_numel(n->shape), &t));
    if (to->backend->element_bytes != from->backend->element_bytes || device_of(to) != device_of(from))
        return lk_error(LK_ESTATE, "lk_exec_share: %s: backends %s and %s keep values differently", label(n), to->backend->name, from->backend->name);
    if (!t->live) return LK_OK;
    if (t->half != s->half) return lk_error(LK_ESTATE, "lk_exec_share: %s is kept in bf16 by one executor and not by the other; bind it in both", label(n));
    LK_TRY(touch(from, s));
    lk_storage *shared = s->leaf;
    if (shared->borrowed && t->written) return lk_error(LK_ESTATE, "lk_exec_share: %s is bound to memory of the caller and an effect would write it", label(n));
    shared->refs++;
    lk_storage_release(t->leaf);
    t->leaf = shared;
    t->set = t->shared = true; to->resolved = false;
    return LK_OK;
}

/* ---- running ------------------------------------------------------------------------------- */
/* Leaves have been touched. */
static char *address(const lk_exec *e, int id) {
    const value *v = &e->value[id];
    if (is_leaf(&v->node)) return v->leaf->data;
    if (is_effect(&v->node)) return address(e, v->node.in[0].id);
    if (!is_view(&v->node)) return e->arena + e->plan->place[id].offset;
    int64_t skip = v->node.op == LK_OP_view ? v->node.attr.view.offset * element_bytes(e, &v->node) : 0;
    return address(e, v->node.in[0].id) + skip;
}

static bool is_bound(const value *v) { return v->live && v->node.op == LK_OP_param && v->leaf->stored.data; }
static lk_err make_copies(lk_exec *e) {
    lk_copies c = {.graph = e->graph, .plan = e->plan, .backend = e->backend, .pool = e->pool, .limit = e->limit, .taken = lk_exec_bytes(e), .counted = e->counted};
    int64_t bytes = 0;
    for (int i = 0; i < e->n; i++) if (is_bound(&e->value[i])) bytes += lk_copies_add(&c, i, e->value[i].leaf);
    e->held += c.held;
    if (!bytes) return LK_OK;
    LK_TRY(lk_block_new(NULL, bytes, &c.block));
    for (int i = 0; i < e->n; i++) if (is_bound(&e->value[i])) lk_copies_fill(&c, i, e->value[i].leaf);
    lk_block_release(c.block);
    return LK_OK;
}
/* Input k of a step in the form its kernel likes best, or in one that will do if there is nothing else. NULL: as it is. */
static const void *packed_form(const lk_exec *e, int turn, int k) {
    const int source = e->value[turn].node.in[k].id;
    lk_storage *s = e->value[source].node.op == LK_OP_param ? e->value[source].leaf : NULL;
    if (!s || !s->n_packs) return NULL;
    const lk_pack *best = lk_storage_pack(s, e->backend->pack_form(e->graph, graph_node(e, turn), k));
    if (!best && !e->plan->use[source].as_is) best = lk_storage_pack(s, e->backend->pack_other(e->graph, graph_node(e, turn), k));
    return best ? best->data : NULL;
}

static lk_err resolve(lk_exec *e) {
    for (int i = 0; i < e->n; i++) if (e->value[i].live && is_leaf(&e->value[i].node)) LK_TRY(touch(e, &e->value[i]));
    if (!device_of(e)) LK_TRY(make_copies(e));
    if (!device_of(e) && !e->touched) { lk_parallel_touch(e->pool, e->arena, (size_t)e->plan->arena_bytes); e->touched = true; }
    for (int i = 0; i < e->n_steps; i++) {
        step *s = &e->step[i];
        const lk_node *n = s->call.node;
        for (int k = 0; k < n->n_in; k++) if (lk_ok(n->in[k])) {
            s->in[k] = address(e, n->in[k].id);
            s->packed[k] = packed_form(e, s->id, k);
        }
        s->call.out = address(e, s->id);
        s->call.work = e->work;
    }
    if (e->replay) device_of(e)->forget(e->replay);
    e->replay = NULL;
    e->resolved = true;
    return LK_OK;
}

static void run_timed(lk_exec *e) {
    for (int i = 0; i < e->n_steps; i++) {
        double t = lk_profile_clock(e->pool);
        e->step[i].kernel(&e->step[i].call);
        lk_profile_add(e->profile, i, lk_profile_clock(e->pool) - t);
    }
    lk_profile_run(e->profile);
}

lk_err lk_exec_run(lk_exec *e) {
    for (int i = 0; i < e->n; i++) {
        value *v = &e->value[i];
        if (v->live && v->node.op == LK_OP_input && !v->set)
            return lk_error(LK_ESTATE, "input %s was never set; call lk_exec_set before the run", label(&v->node));
    }
    if (!e->resolved) LK_TRY(resolve(e));
    if (device_of(e)) return device_of(e)->run(e->kernels, e->calls, e->n_steps, &e->replay);
    if (e->profile) { run_timed(e); return LK_OK; }
    for (int i = 0; i < e->n_steps; i++) e->step[i].kernel(&e->step[i].call);
    return LK_OK;
}

/* ---- reading ------------------------------------------------------------------------------- */
static lk_err find_readable(lk_exec *e, const char *call, lk_val at, int64_t n, const value **out) {
    const value *v = value_of(e, at);
    if (!v) return lk_error(LK_EINPUT, "%s: value %d is unknown to this executor (it has %d values)", call, at.id, e->plan->n_nodes);
    if (!v->live && !v->leaf) return lk_error(LK_EINPUT, "%s: %s (value %d) is not needed for any output and was not computed", call, label(&v->node), at.id);
    if (!v->output && !is_leaf(&v->node)) return lk_error(LK_EINPUT, "%s: %s (value %d) is neither an output nor a leaf; name it in lk_exec_new", call, label(&v->node), at.id);
    if (n != lk_numel(v->node.shape))
        return lk_error(LK_ESHAPE, "%s: %s has %lld elements; room for %lld was given", call, label(&v->node), (long long)lk_numel(v->node.shape), (long long)n);
    *out = v;
    return LK_OK;
}

/* The values of `at` as they lie: n elements of its kind, in memory of the caller or borrowed from a host backend. */
static lk_err values_of(lk_exec *e, const char *call, lk_val at, int64_t n, const value **v, const void **data, void **room) {
    *room = NULL;
    LK_TRY(find_readable(e, call, at, n, v));
    int turn = e->plan->turn_of[at.id];
    const lk_storage *s = is_leaf(&(*v)->node) ? (*v)->leaf : NULL;
    if (s && s->borrowed && !s->data) {                             /* halves that nothing reads so */
        *data = *room = lk_xmalloc((size_t)s->bytes + 1);
        lk_widen_halves(*room, s->stored.data, n, s->stored.as);
        return LK_OK;
    }
    if (!(*v)->live) { *data = (*v)->leaf->data; return LK_OK; }
    if (is_leaf(&(*v)->node)) LK_TRY(touch(e, &e->value[turn]));
    *data = address(e, turn);
    if (!device_of(e) || !n) return LK_OK;
    *room = lk_xmalloc((size_t)value_bytes(e, &(*v)->node));
    lk_err err = fetch(e, *room, *data, kept_bytes(e, *v));
    *data = *room;
    if ((*v)->half) for (int64_t i = n - 1; i >= 0; i--) {          /* widened in place, from the end */
        uint32_t u = (uint32_t)((const uint16_t *)*room)[i] << 16;
        memcpy((char *)*room + 4 * i, &u, sizeof u);
    }
    if (err) { free(*room); *room = NULL; }
    return err;
}
lk_err lk_exec_get(lk_exec *e, lk_val at, float *x, int64_t n) {
    const value *v; const void *data; void *room;
    LK_TRY(values_of(e, "lk_exec_get", at, n, &v, &data, &room));
    if (v->node.dtype == LK_I64) for (int64_t i = 0; i < n; i++) x[i] = (float)((const int64_t *)data)[i];
    else if (e->backend->element_bytes == 8 && v->live) narrow(x, data, n);
    else if (n) memcpy(x, data, (size_t)n * sizeof *x);
    free(room);
    return LK_OK;
}
lk_err lk_exec_get_f64(lk_exec *e, lk_val at, double *x, int64_t n) {
    const value *v; const void *data; void *room;
    LK_TRY(values_of(e, "lk_exec_get_f64", at, n, &v, &data, &room));
    if (v->node.dtype == LK_I64) for (int64_t i = 0; i < n; i++) x[i] = (double)((const int64_t *)data)[i];
    else if (e->backend->element_bytes == 4 || !v->live) widen(x, data, n);
    else if (n) memcpy(x, data, (size_t)n * sizeof *x);
    free(room);
    return LK_OK;
}
