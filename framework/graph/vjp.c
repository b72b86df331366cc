/* vjp: reverse-mode differentiation. Gradients are ordinary nodes.
 *
 * The nodes are visited from y down to the first wrt. A node is worked on only if it lies on a path from a wrt to y: it
 * depends on a wrt (needed) and has received a cotangent. Its rule (vjp_*.c) emits cotangents for those inputs only that
 * are needed themselves, so a frozen weight costs nothing. Cotangents of one value are added in the order of arrival:
 * decreasing id of the consumer, increasing input index (numerics.md rule 3); a product that is added to what has arrived is
 * added on the way (matmul_add: the same bits). An operation without a rule of its own is differentiated through its
 * decomposition. */
#include "graph/internal.h"

typedef struct {
    int lo, n;             /* ids lo .. lo + n - 1 are worked on */
    bool *needed;          /* depends on a wrt, or is one */
    bool *barrier;         /* its inputs are not looked at: a wrt of lk_vjp_through */
    lk_val *cotangent;
} sweep;

static bool inside(const sweep *s, lk_val v) { return v.id >= s->lo && v.id < s->lo + s->n; }
static bool is_needed(const sweep *s, lk_val v) { return inside(s, v) && s->needed[v.id - s->lo]; }

static sweep sweep_new(const lk_graph *g, lk_val y, const lk_val *wrt, int n, bool stop_at_wrt) {
    int lo = y.id;
    for (int i = 0; i < n; i++)
        if (lk_ok(wrt[i]) && wrt[i].id < lo) lo = wrt[i].id;
    sweep s = {.lo = lo, .n = y.id - lo + 1};
    s.needed = lk_xcalloc((size_t)s.n, sizeof *s.needed);
    s.barrier = lk_xcalloc((size_t)s.n, sizeof *s.barrier);
    s.cotangent = lk_xmalloc((size_t)s.n * sizeof *s.cotangent);
    for (int i = 0; i < s.n; i++) s.cotangent[i] = LK_NONE;
    for (int i = 0; i < n; i++) {
        if (!inside(&s, wrt[i])) continue;
        s.needed[wrt[i].id - lo] = true;
        s.barrier[wrt[i].id - lo] = stop_at_wrt;
    }
    for (int id = lo; id <= y.id; id++) {
        const lk_node *node = &g->node[id];
        if (lk_op_at(node->op)->grad == LK_GRAD_ZERO) continue;
        for (int i = 0; i < node->n_in && !s.needed[id - lo]; i++) s.needed[id - lo] = is_needed(&s, node->in[i]);
    }
    return s;
}

static void sweep_free(sweep *s) {
    free(s->needed);
    free(s->barrier);
    free(s->cotangent);
}

/* sum + c. own: c was emitted for this sum alone, so where it is a product nothing else will read it. */
static lk_val plus(lk_graph *g, lk_val sum, lk_val c, bool own) {
    const lk_node *n = lk_graph_node(g, c);
    if (!own || n->op != LK_OP_matmul || n->n_in != 2) return lk_add(g, sum, c);
    return lk_matmul_add(g, sum, n->in[0], n->in[1], 1, n->attr.matmul);
}
static void receive(lk_graph *g, sweep *s, lk_val v, lk_val c, bool own) {
    if (!lk_ok(c) || !is_needed(s, v)) return;
    lk_val *sum = &s->cotangent[v.id - s->lo];
    *sum = lk_ok(*sum) ? plus(g, *sum, c, own) : c;
}

static void visit(lk_graph *g, sweep *s, int id) {
    lk_val dy = s->cotangent[id - s->lo];
    const bool apart = g->stands_for && g->stands_for[id] >= 0;
    const lk_node node = g->node[apart ? g->stands_for[id] : id];   /* a copy: rules add nodes and the array moves */
    const lk_op_row *row = lk_op_at(node.op);
    if (!lk_ok(dy) || s->barrier[id - s->lo] || row->grad == LK_GRAD_ZERO) return;
    lk_val dx[64];
    bool need[64], any = false;
    for (int i = 0; i < node.n_in; i++) {
        dx[i] = LK_NONE;
        any |= need[i] = is_needed(s, node.in[i]);
    }
    if (!any) return;
    const int before = g->count;
    if (row->grad == LK_GRAD_VJP) row->vjp(g, &node, (lk_val){id}, dy, need, dx);
    else if (row->grad == LK_GRAD_DEC) lk_vjp_through(g, &node, dy, need, dx);
    else lk_node_fail(g, &node, "this operation has no gradient");
    for (int i = 0; i < node.n_in; i++)
        if (need[i]) receive(g, s, node.in[i], dx[i], dx[i].id >= before);
}

static void sweep_run(lk_graph *g, sweep *s, lk_val y, lk_val dy) {
    receive(g, s, y, dy, false);
    for (int id = y.id; id >= s->lo && !g->error; id--) visit(g, s, id);
}

void lk_vjp_through(lk_graph *g, const lk_node *n, lk_val dy, const bool *need, lk_val *dx) {
    lk_val y = lk_op_at(n->op)->decompose(g, n), wrt[64];
    int at[64], k = 0;
    for (int i = 0; i < n->n_in; i++) {              /* an input given twice gets its whole cotangent once */
        bool first = need[i];
        for (int j = 0; j < k; j++) first = first && wrt[j].id != n->in[i].id;
        if (!first) continue;
        wrt[k] = n->in[i];
        at[k++] = i;
    }
    if (!lk_ok(y) || !k) return;
    sweep s = sweep_new(g, y, wrt, k, true);
    sweep_run(g, &s, y, dy);
    for (int j = 0; j < k; j++)
        if (inside(&s, wrt[j])) dx[at[j]] = s.cotangent[wrt[j].id - s.lo];
    sweep_free(&s);
}

static bool vjp_arguments_good(lk_graph *g, lk_val y, lk_val cotangent) {
    const lk_node *n = lk_graph_node(g, y), *c = lk_graph_node(g, cotangent);
    if (g->error) return false;
    if (!n) return lk_graph_fail(g, LK_ESHAPE, "vjp: y is not a value (LK_NONE)"), false;
    const char *text = lk_val_text(g, g->arena, y);
    if (n->dtype != LK_F32) return lk_graph_fail(g, LK_ESHAPE, "vjp of %s: only F32 has a gradient", text), false;
    if (!c && n->shape.rank)
        return lk_graph_fail(g, LK_ESHAPE, "vjp of %s: without a cotangent y must be [], a loss; reduce it or give a cotangent", text), false;
    if (c && !lk_shape_eq(c->shape, n->shape))
        return lk_graph_fail(g, LK_ESHAPE, "vjp of %s: the cotangent %s has another shape", text, lk_val_text(g, g->arena, cotangent)), false;
    return true;
}

void lk_vjp(lk_graph *g, lk_val y, lk_val cotangent, const lk_val *wrt, int n, lk_val *out) {
    for (int i = 0; i < n; i++)
        if (!lk_graph_node(g, wrt[i])) lk_graph_fail(g, LK_ESHAPE, "vjp: wrt[%d] is not a value (LK_NONE)", i);
    lk_mem before = g->mem;
    g->mem = LK_MEM_GRADIENT;
    bool good = vjp_arguments_good(g, y, cotangent);
    sweep s = {0};
    if (good) {
        s = sweep_new(g, y, wrt, n, false);
        sweep_run(g, &s, y, lk_ok(cotangent) ? cotangent : lk_scalar(g, 1));
    }
    g->mem = before;
    lk_val *kept = lk_xmalloc((size_t)n * sizeof *kept + 1);      /* out may be wrt */
    for (int i = 0; i < n; i++)
        kept[i] = good && !g->error && inside(&s, wrt[i]) ? s.cotangent[wrt[i].id - s.lo] : LK_NONE;
    memcpy(out, kept, (size_t)n * sizeof *out);
    free(kept);
    sweep_free(&s);
}

lk_val lk_decompose(lk_graph *g, lk_val v) {
    const lk_node *n = lk_graph_node(g, v);
    if (!n || !lk_op_at(n->op)->decompose) return LK_NONE;
    const lk_node copy = *n;
    return lk_op_at(copy.op)->decompose(g, &copy);
}
