/* graph: life of a graph, its nodes, names, leaves and first error.
 *
 * Invariants: a node's inputs have smaller ids; attributes are zeroed where unused; a node is never changed after
 * it was emitted, but for its label. Equal nodes (operation, inputs, attribute, constant data) are one node, unless an
 * effect was emitted between them: then a param both read may have changed. */
#include "graph/internal.h"

/* ---- life -------------------------------------------------------------------------------------- */
static void table_fill(int32_t *table, int cap) {
    for (int i = 0; i < cap; i++) table[i] = -1;
}

lk_graph *lk_graph_new(void) {
    lk_graph *g = lk_xcalloc(1, sizeof *g);
    g->arena = lk_arena_new();
    g->mem = LK_MEM_ACTIVATION;
    g->same_cap = g->named_cap = 256;
    g->same = lk_xmalloc((size_t)g->same_cap * sizeof *g->same);
    g->named = lk_xmalloc((size_t)g->named_cap * sizeof *g->named);
    table_fill(g->same, g->same_cap);
    table_fill(g->named, g->named_cap);
    return g;
}

void lk_graph_free(lk_graph *g) {
    if (!g) return;
    lk_err_free(g->error);
    free(g->node);
    free(g->epoch);
    free(g->stands_for);
    free(g->same);
    free(g->named);
    lk_arena_free(g->arena);
    free(g);
}

void lk_graph_unfuse(lk_graph *g, const lk_op *ops, int n) {
    for (int i = 0; i < n; i++) g->apart[ops[i]] = lk_op_at(ops[i])->decompose != NULL;
    if (g->stands_for || !n) return;
    g->stands_for = lk_xmalloc((size_t)(g->cap ? g->cap : 1) * sizeof *g->stands_for);
    for (int i = 0; i < g->count; i++) g->stands_for[i] = -1;
}

lk_arena *lk_graph_arena(lk_graph *g) { return g->arena; }
int lk_graph_count(const lk_graph *g) { return g->count; }

/* ---- looking ------------------------------------------------------------------------------------- */
const lk_node *lk_graph_node(const lk_graph *g, lk_val v) {
    return v.id >= 0 && v.id < g->count ? &g->node[v.id] : NULL;
}

lk_shape lk_shape_of(const lk_graph *g, lk_val v) {
    const lk_node *n = lk_graph_node(g, v);
    return n ? n->shape : LK_SCALAR;
}

int64_t lk_dim(const lk_graph *g, lk_val v, int axis) {
    lk_shape s = lk_shape_of(g, v);
    return lk_axis_resolve(s.rank, &axis) ? s.d[axis] : 0;
}

lk_val lk_label(lk_graph *g, lk_val v, const char *name) {
    if (lk_graph_node(g, v) && !(lk_op_traits(g->node[v.id].op) & T_LEAF)) g->node[v.id].name = lk_strdup(g->arena, name);
    return v;
}

char *lk_val_text(const lk_graph *g, lk_arena *a, lk_val v) {
    const lk_node *n = lk_graph_node(g, v);
    if (!n) return lk_strdup(a, "none");
    const char *shape = lk_shape_text(a, n->shape);
    const char *type = n->dtype == LK_I64 ? " i64" : "";
    return n->name ? lk_fmt(a, "%s %s%s", n->name, shape, type) : lk_fmt(a, "%s#%d %s%s", lk_op_name(n->op), v.id, shape, type);
}

/* ---- errors: the first one is kept ---------------------------------------------------------------- */
lk_err lk_graph_error(const lk_graph *g) {
    return g->error ? lk_error(lk_err_code(g->error), "%s", lk_err_text(g->error)) : LK_OK;
}

void lk_graph_fail(lk_graph *g, lk_code code, const char *fmt, ...) {
    if (g->error) return;
    va_list args;
    va_start(args, fmt);
    const char *text = lk_vfmt(g->arena, fmt, args);
    va_end(args);
    g->error = lk_error(code, "%s", text);
}

bool lk_node_fail(lk_graph *g, const lk_node *n, const char *fmt, ...) {
    if (g->error) return false;
    const char *inputs = "";
    for (int i = 0; i < n->n_in; i++)
        inputs = lk_fmt(g->arena, "%s%s%s", inputs, i ? ", " : "", lk_val_text(g, g->arena, n->in[i]));
    va_list args;
    va_start(args, fmt);
    const char *text = lk_vfmt(g->arena, fmt, args);
    va_end(args);
    g->error = lk_error(LK_ESHAPE, "%s(%s): %s", lk_op_name(n->op), inputs, text);
    return false;
}

/* ---- hashing ----------------------------------------------------------------------------------------- */
static uint64_t hash_bytes(uint64_t h, const void *bytes, size_t n) {   /* FNV-1a */
    const unsigned char *b = bytes;
    for (size_t i = 0; i < n; i++) h = (h ^ b[i]) * 0x100000001b3u;
    return h;
}

static size_t data_bytes(const lk_node *n) {
    return n->data ? (size_t)lk_numel(n->shape) * (n->dtype == LK_I64 ? 8 : 4) : 0;
}

static uint64_t node_hash(const lk_node *n) {
    uint64_t h = 0xcbf29ce484222325u;
    h = hash_bytes(h, &n->op, sizeof n->op);
    h = hash_bytes(h, n->in, (size_t)n->n_in * sizeof *n->in);
    h = hash_bytes(h, &n->attr, sizeof n->attr);
    h = hash_bytes(h, n->data, data_bytes(n));
    return h ^ h >> 29;
}

static bool node_same(const lk_node *a, const lk_node *b) {
    return a->op == b->op && a->n_in == b->n_in && a->dtype == b->dtype && lk_shape_eq(a->shape, b->shape)
        && !memcmp(&a->attr, &b->attr, sizeof a->attr)
        && (a->n_in == 0 || !memcmp(a->in, b->in, (size_t)a->n_in * sizeof *a->in))
        && !a->data == !b->data && (!a->data || !memcmp(a->data, b->data, data_bytes(a)));
}

/* An id equal to n, or -1; *free_slot is where n would go. A constant does not age. */
static int32_t same_find(const lk_graph *g, const lk_node *n, int *free_slot) {
    int i = (int)(node_hash(n) & (uint64_t)(g->same_cap - 1));
    for (; g->same[i] >= 0; i = (i + 1) & (g->same_cap - 1)) {
        int32_t id = g->same[i];
        if ((n->op == LK_OP_constant || g->epoch[id] == g->effects) && node_same(&g->node[id], n)) return id;
    }
    *free_slot = i;
    return -1;
}

static void same_grow(lk_graph *g) {
    if (g->count * 2 < g->same_cap) return;
    int32_t *old = g->same;
    int old_cap = g->same_cap;
    g->same_cap *= 4;
    g->same = lk_xmalloc((size_t)g->same_cap * sizeof *g->same);
    table_fill(g->same, g->same_cap);
    for (int k = 0; k < old_cap; k++) {
        if (old[k] < 0) continue;
        int i = (int)(node_hash(&g->node[old[k]]) & (uint64_t)(g->same_cap - 1));
        while (g->same[i] >= 0) i = (i + 1) & (g->same_cap - 1);
        g->same[i] = old[k];
    }
    free(old);
}

/* ---- emitting -------------------------------------------------------------------------------------- */
static lk_val node_add(lk_graph *g, const lk_node *n) {
    if (g->count == g->cap) {
        g->cap = g->cap ? g->cap * 2 : 256;
        g->node = lk_xrealloc(g->node, (size_t)g->cap * sizeof *g->node);
        g->epoch = lk_xrealloc(g->epoch, (size_t)g->cap * sizeof *g->epoch);
        if (g->stands_for) g->stands_for = lk_xrealloc(g->stands_for, (size_t)g->cap * sizeof *g->stands_for);
    }
    g->node[g->count] = *n;
    g->epoch[g->count] = g->effects;
    if (g->stands_for) g->stands_for[g->count] = -1;
    return (lk_val){g->count++};
}

static bool inputs_good(lk_graph *g, const lk_op_row *row, const lk_node *n) {
    for (int i = 0; i < n->n_in; i++) {
        if (lk_graph_node(g, n->in[i])) continue;
        if (n->in[i].id >= g->count) return lk_node_fail(g, n, "input %d is a value of another graph", i);
        return lk_node_fail(g, n, "input %d is missing (LK_NONE)", i);
    }
    if (n->n_in < row->lo || n->n_in > row->hi)
        return lk_node_fail(g, n, "%d inputs given, %d to %d expected", n->n_in, row->lo, row->hi);
    return true;
}

/* The fused node stays for its gradient's sake; nothing reads it, so nothing computes it. */
static lk_val from_primitives(lk_graph *g, lk_val fused) {
    lk_val v = lk_decompose(g, fused);
    if (lk_ok(v) && lk_op_at(g->node[fused.id].op)->grad == LK_GRAD_VJP) g->stands_for[v.id] = fused.id;
    return v;
}
lk_val lk_emit(lk_graph *g, lk_op op, const lk_val *in, int n_in, const lk_attr *attr) {
    const lk_op_row *row = lk_op_at(op);
    while (n_in > row->lo && !lk_ok(in[n_in - 1])) n_in--;
    lk_node n = {.op = op, .dtype = LK_F32, .mem = g->mem, .n_in = n_in, .in = in};
    memset(&n.attr, 0, sizeof n.attr);
    if (attr) n.attr = *attr;
    if (!inputs_good(g, row, &n) || !lk_shape_rule_of(op)(g, &n)) return LK_NONE;
    if (!lk_shape_valid(n.shape)) {
        lk_node_fail(g, &n, "the result %s has a size below 1 or too many elements", lk_shape_text(g->arena, n.shape));
        return LK_NONE;
    }
    bool effect = row->traits & T_EFFECT;
    int slot = -1;
    if (!effect) {
        same_grow(g);
        int32_t id = same_find(g, &n, &slot);
        if (id >= 0) return g->apart[op] ? from_primitives(g, (lk_val){id}) : (lk_val){id};
    }
    lk_val *kept = lk_alloc(g->arena, (size_t)n_in * sizeof *kept + 1);
    memcpy(kept, in, (size_t)n_in * sizeof *kept);
    n.in = kept;
    lk_val v = node_add(g, &n);
    if (effect) g->effects++;
    else g->same[slot] = v.id;
    return g->apart[op] ? from_primitives(g, v) : v;
}

/* ---- leaves ------------------------------------------------------------------------------------------ */
static int named_slot(const lk_graph *g, const char *name) {
    int i = (int)(hash_bytes(0xcbf29ce484222325u, name, strlen(name)) & (uint64_t)(g->named_cap - 1));
    while (g->named[i] >= 0 && strcmp(g->node[g->named[i]].name, name)) i = (i + 1) & (g->named_cap - 1);
    return i;
}

static void named_grow(lk_graph *g) {
    if (++g->n_named * 2 < g->named_cap) return;
    int32_t *old = g->named;
    int old_cap = g->named_cap;
    g->named_cap *= 4;
    g->named = lk_xmalloc((size_t)g->named_cap * sizeof *g->named);
    table_fill(g->named, g->named_cap);
    for (int k = 0; k < old_cap; k++)
        if (old[k] >= 0) g->named[named_slot(g, g->node[old[k]].name)] = old[k];
    free(old);
}

lk_val lk_find(const lk_graph *g, const char *name) { return (lk_val){g->named[named_slot(g, name)]}; }

static lk_val leaf_new(lk_graph *g, lk_op op, const char *name, lk_dtype dtype, lk_shape shape, lk_mem mem) {
    if (!name || !*name) return lk_graph_fail(g, LK_ESHAPE, "%s: a leaf needs a name", lk_op_name(op)), LK_NONE;
    lk_shape clean = {.rank = shape.rank};
    if (!lk_shape_valid(shape)) {
        lk_graph_fail(g, LK_ESHAPE, "%s %s: shape %s has a rank above %d, a size below 1 or too many elements", lk_op_name(op), name,
                      lk_shape_text(g->arena, shape), LK_MAX_RANK);
        return LK_NONE;
    }
    memcpy(clean.d, shape.d, (size_t)shape.rank * sizeof clean.d[0]);
    named_grow(g);
    int slot = named_slot(g, name);
    lk_node n = {.op = op, .dtype = dtype, .mem = mem, .shape = clean, .name = lk_strdup(g->arena, name)};
    return (lk_val){g->named[slot] = node_add(g, &n).id};
}

lk_val lk_input(lk_graph *g, const char *name, lk_dtype dtype, lk_shape shape) {
    if (name && lk_ok(lk_find(g, name)))
        return lk_graph_fail(g, LK_ESHAPE, "input %s: the name is taken by %s", name, lk_val_text(g, g->arena, lk_find(g, name))), LK_NONE;
    return leaf_new(g, LK_OP_input, name, dtype, shape, LK_MEM_INPUT);
}

lk_val lk_param(lk_graph *g, const char *name, lk_shape shape, lk_mem mem) {
    lk_val old = name ? lk_find(g, name) : LK_NONE;
    if (!lk_ok(old)) return leaf_new(g, LK_OP_param, name, LK_F32, shape, mem);
    const lk_node *n = lk_graph_node(g, old);
    if (n->op == LK_OP_param && lk_shape_eq(n->shape, shape)) return old;
    lk_graph_fail(g, LK_ESHAPE, "param %s %s: the name is taken by the %s %s", name, lk_shape_text(g->arena, shape), lk_op_name(n->op),
                  lk_val_text(g, g->arena, old));
    return LK_NONE;
}

lk_val lk_const(lk_graph *g, lk_dtype dtype, lk_shape shape, const void *values) {
    if (!lk_shape_valid(shape) || !values) {
        lk_graph_fail(g, LK_ESHAPE, "constant %s: bad shape or no values", lk_shape_text(g->arena, shape));
        return LK_NONE;
    }
    lk_node n = {.op = LK_OP_constant, .dtype = dtype, .mem = LK_MEM_CONSTANT, .shape = {.rank = shape.rank}, .data = values};
    memset(&n.attr, 0, sizeof n.attr);
    memcpy(n.shape.d, shape.d, (size_t)shape.rank * sizeof shape.d[0]);
    int slot;
    same_grow(g);
    int32_t id = same_find(g, &n, &slot);
    if (id >= 0) return (lk_val){id};
    void *kept = lk_alloc(g->arena, data_bytes(&n));
    memcpy(kept, values, data_bytes(&n));
    n.data = kept;
    return (lk_val){g->same[slot] = node_add(g, &n).id};
}

lk_val lk_scalar(lk_graph *g, double x) { return lk_const(g, LK_F32, LK_SCALAR, &(float){(float)x}); }
lk_val lk_zeros(lk_graph *g, lk_shape s) { return lk_broadcast(g, lk_scalar(g, 0), s); }
lk_val lk_ones(lk_graph *g, lk_shape s) { return lk_broadcast(g, lk_scalar(g, 1), s); }
