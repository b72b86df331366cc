/* plan: where every value lives, known from shapes alone before anything is allocated.
 *
 * Nodes run in creation order, so a value lives from its own id to the id of the last node that reads it or a view of it;
 * outputs live to the end. Views, effects and leaves own no memory: a view lies in its source, an effect in the param it
 * writes. An elementwise node takes over the buffer of an input of its own shape that dies there,
 * a product onto a value (T_ONTO) that of the value. Buffers are placed
 * largest first into the tightest gap that is free throughout their life (greedy best fit by size; Pisarchyk and Lee,
 * "Efficient memory management for deep neural net inference", 2020), or in another order where that leaves gaps. Where a budget asks for it, forward values are
 * computed again in the gradient (remat.c). A plan changes no bit. */
#include "graph/remat.h"

enum { LK_ALIGN = 64 };
typedef struct { int first, last, owner; int64_t bytes, offset; } buffer;   /* life in turns, both ends included */
typedef struct {           /* one program, planned; "id" below is a turn */
    const lk_graph *g;
    lk_program program;
    lk_plan_opts opts;
    lk_arena *scratch;
    bool *live;
    int *root;             /* by id: the turn whose storage holds the value */
    int64_t *skip;         /* by id: bytes from the start of that storage */
    int *last;             /* by root id: last reader; n for outputs */
    int *buffer_of;        /* by root id: index into buffers, -1 none */
    int *turn_of;          /* by node */
    buffer *buffers; int n_buffers;
    int64_t arena_bytes, alive_bytes, alive_gradients;
} planner;

static const lk_node *node_at(const planner *p, int id) { return &p->program.node[id]; }
static int traits(const planner *p, int id) { return lk_op_traits(node_at(p, id)->op); }
static int64_t padded(int64_t bytes) { return (bytes + LK_ALIGN - 1) / LK_ALIGN * LK_ALIGN; }
static int element(const planner *p, const lk_node *n) { return n->dtype == LK_I64 ? 8 : p->opts.element_bytes; }
static int64_t value_bytes(const planner *p, int id) { return lk_numel(node_at(p, id)->shape) * element(p, node_at(p, id)); }

/* ---- liveness ------------------------------------------------------------------------------------------ */
static lk_err mark_live(const lk_graph *g, const lk_val *outputs, int n, bool *live) {
    for (int i = 0; i < n; i++) {
        if (!lk_graph_node(g, outputs[i])) return lk_error(LK_ESTATE, "plan: output %d of %d is not a value of this graph (LK_NONE)", i, n);
        live[outputs[i].id] = true;
    }
    for (int id = g->count - 1; id >= 0; id--) {
        const lk_node *node = &g->node[id];
        if (lk_op_traits(node->op) & T_EFFECT) live[id] = true;
        if (node->op == LK_OP_param && node->mem == LK_MEM_ADAPTER) live[id] = true;       /* is saved with the others, even where nothing reads it */
        for (int i = 0; live[id] && i < node->n_in; i++) live[node->in[i].id] = true;
    }
    return LK_OK;
}
/* A node none of whose readers is left (all read copies) does not run. */
static void find_turns(planner *p, const bool *live_nodes, const lk_val *outputs, int n_outputs) {
    for (int id = p->program.n - 1; id >= 0; id--) p->turn_of[p->program.of[id]] = id;
    for (int i = 0; i < n_outputs; i++) p->live[p->turn_of[outputs[i].id]] = true;
    for (int id = p->program.n - 1; id >= 0; id--) {
        const lk_node *node = node_at(p, id);
        if (traits(p, id) & T_EFFECT || (traits(p, id) & T_LEAF && live_nodes[p->program.of[id]])) p->live[id] = true;
        for (int i = 0; p->live[id] && i < node->n_in; i++) p->live[node->in[i].id] = true;
    }
}

static void find_roots(planner *p) {
    for (int id = 0; id < p->program.n; id++) {
        const lk_node *n = node_at(p, id);
        p->root[id] = id;
        if (!(traits(p, id) & (T_VIEW | T_EFFECT))) continue;
        int source = n->in[0].id;
        p->root[id] = p->root[source];
        p->skip[id] = p->skip[source] + (n->op == LK_OP_view ? n->attr.view.offset * element(p, n) : 0);
    }
}

static void find_last_readers(planner *p, const lk_val *outputs, int n) {
    for (int id = 0; id < p->program.n; id++) {
        const lk_node *node = node_at(p, id);
        p->last[id] = id;
        if (!p->live[id] || traits(p, id) & T_VIEW) continue;
        for (int i = 0; i < node->n_in; i++) p->last[p->root[node->in[i].id]] = id;
    }
    for (int i = 0; i < n; i++) p->last[p->root[p->turn_of[outputs[i].id]]] = p->program.n;
}

/* ---- buffers --------------------------------------------------------------------------------------------- */
/* The root of the input whose buffer node id may overwrite, or -1. Its other inputs may lie in the same buffer only
 * element for element, or where it is computed onto its first input, not at all. */
static int overwritable(const planner *p, int id) {
    const lk_node *n = node_at(p, id);
    const bool onto = traits(p, id) & T_ONTO;
    for (int i = 0; (traits(p, id) & (T_EW | T_ONTO)) && i < (onto ? 1 : n->n_in); i++) {
        int r = p->root[n->in[i].id];
        bool fits = p->buffer_of[r] >= 0 && p->last[r] == id && value_bytes(p, r) == value_bytes(p, id);
        for (int j = 0; fits && j < n->n_in; j++)
            if (p->root[n->in[j].id] == r) fits = onto ? j == i : lk_shape_eq(node_at(p, n->in[j].id)->shape, n->shape);
        if (fits) return r;
    }
    return -1;
}

static void make_buffers(planner *p) {
    for (int id = 0; id < p->program.n; id++) {
        p->buffer_of[id] = -1;
        if (!p->live[id] || traits(p, id) & (T_LEAF | T_VIEW | T_EFFECT)) continue;
        int r = overwritable(p, id);
        if (r < 0) {
            p->buffers[p->n_buffers] = (buffer){.first = id, .owner = id, .bytes = padded(value_bytes(p, id))};
            p->buffer_of[id] = p->n_buffers++;
        } else p->buffer_of[id] = p->buffer_of[r];
        p->buffers[p->buffer_of[id]].last = p->last[id];
    }
}

static int earlier_first(const buffer *x, const buffer *y) { return (x->first > y->first) - (x->first < y->first); }
static int larger_first(const void *a, const void *b) {
    const buffer *x = *(buffer *const *)a, *y = *(buffer *const *)b;
    return x->bytes != y->bytes ? (x->bytes > y->bytes ? -1 : 1) : earlier_first(x, y);
}
static int longer_first(const void *a, const void *b) {
    const buffer *x = *(buffer *const *)a, *y = *(buffer *const *)b;
    int of_x = x->last - x->first, of_y = y->last - y->first;
    return of_x != of_y ? (of_x > of_y ? -1 : 1) : larger_first(a, b);
}
static int more_first(const void *a, const void *b) {                     /* bytes times life */
    const buffer *x = *(buffer *const *)a, *y = *(buffer *const *)b;
    double of_x = (double)x->bytes * (x->last - x->first + 1), of_y = (double)y->bytes * (y->last - y->first + 1);
    return of_x != of_y ? (of_x > of_y ? -1 : 1) : earlier_first(x, y);
}

/* What is placed, in order of offset: a copy that is walked from end to end for every buffer. */
typedef struct { int first, last; int64_t offset, end; } placed_buffer;
static int64_t best_offset(const placed_buffer *placed, int n, const buffer *b) {
    int64_t free_from = 0, best = -1, best_gap = INT64_MAX;
    for (const placed_buffer *q = placed; q < placed + n; q++) {
        if ((q->last < b->first) | (q->first > b->last)) continue;
        int64_t gap = q->offset - free_from;
        if (gap >= b->bytes && gap < best_gap) best = free_from, best_gap = gap;
        if (q->end > free_from) free_from = q->end;
    }
    return best >= 0 ? best : free_from;
}

/* The bytes it takes; given up where they reach `most`. */
static int64_t place_in_order(planner *p, buffer **order, placed_buffer *placed, int (*by)(const void *, const void *), int64_t most) {
    int64_t end = 0;
    for (int i = 0; i < p->n_buffers; i++) order[i] = &p->buffers[i];
    qsort(order, (size_t)p->n_buffers, sizeof *order, by);
    for (int i = 0; i < p->n_buffers && end < most; i++) {
        buffer *b = order[i];
        b->offset = best_offset(placed, i, b);
        int at = i;
        while (at > 0 && placed[at - 1].offset > b->offset) at--;
        memmove(placed + at + 1, placed + at, sizeof *placed * (size_t)(i - at));
        placed[at] = (placed_buffer){b->first, b->last, b->offset, b->offset + b->bytes};
        if (b->offset + b->bytes > end) end = b->offset + b->bytes;
    }
    return end;
}
/* The most that is alive at once; *of_gradients: their part of it. */
static int64_t most_alive(const planner *p, int64_t *of_gradients) {
    int n = p->program.n;
    int64_t *all = lk_xcalloc((size_t)n + 2, sizeof *all), *gradient = lk_xcalloc((size_t)n + 2, sizeof *gradient);
    for (int i = 0; i < p->n_buffers; i++) {
        const buffer *b = &p->buffers[i];
        int64_t *lists[2] = {all, node_at(p, b->owner)->mem == LK_MEM_GRADIENT ? gradient : NULL};
        for (int k = 0; k < 2; k++)
            if (lists[k]) lists[k][b->first] += b->bytes, lists[k][b->last + 1] -= b->bytes;
    }
    int64_t held = 0, held_gradient = 0, peak = 0;
    *of_gradients = 0;
    for (int t = 0; t <= n; t++) {
        held += all[t];
        held_gradient += gradient[t];
        if (held > peak) peak = held, *of_gradients = held_gradient;
    }
    free(all);
    free(gradient);
    return peak;
}
/* Largest first; where that leaves gaps, other orders are tried and the best is kept. */
static void place_buffers(planner *p) {
    static int (*const orders[])(const void *, const void *) = {larger_first, more_first, longer_first};
    enum { ORDERS = sizeof orders / sizeof *orders };
    buffer **order = lk_xmalloc(sizeof *order * (size_t)(p->n_buffers + 1));
    placed_buffer *placed = lk_xmalloc(sizeof *placed * (size_t)(p->n_buffers + 1));
    int64_t end[ORDERS], *offset = lk_xmalloc(sizeof *offset * (size_t)(p->n_buffers + 1));      /* of the best */
    int best = 0;
    p->alive_bytes = most_alive(p, &p->alive_gradients);
    for (int i = 0; i < ORDERS && (!i || end[best] > p->alive_bytes + p->alive_bytes / 64); i++) {
        end[i] = place_in_order(p, order, placed, orders[i], i ? end[best] : INT64_MAX);
        if (end[i] < end[best]) best = i;
        for (int k = 0; best == i && k < p->n_buffers; k++) offset[k] = p->buffers[k].offset;
    }
    for (int k = 0; k < p->n_buffers; k++) p->buffers[k].offset = offset[k];
    p->arena_bytes = end[best];
    free(offset);
    free(order);
    free(placed);
}

/* ---- one program ------------------------------------------------------------------------------------------- */
static planner plan_program(const lk_graph *g, lk_program program, const bool *live_nodes, const lk_val *outputs, int n, lk_plan_opts opts, lk_arena *scratch) {
    size_t count = (size_t)program.n + 1;
    planner p = {.g = g, .program = program, .opts = opts, .scratch = scratch};
    p.live = lk_alloc(scratch, count * sizeof *p.live);
    p.root = lk_alloc(scratch, count * sizeof *p.root);
    p.skip = lk_alloc(scratch, count * sizeof *p.skip);
    p.last = lk_alloc(scratch, count * sizeof *p.last);
    p.buffer_of = lk_alloc(scratch, count * sizeof *p.buffer_of);
    p.buffers = lk_alloc(scratch, count * sizeof *p.buffers);
    p.turn_of = lk_alloc(scratch, ((size_t)g->count + 1) * sizeof *p.turn_of);
    find_turns(&p, live_nodes, outputs, n);
    find_roots(&p);
    find_last_readers(&p, outputs, n);
    make_buffers(&p);
    place_buffers(&p);
    return p;
}

/* ---- recomputation until the budget is met ------------------------------------------------------------------ */
typedef struct { const lk_graph *g; const bool *live; const lk_val *outputs; int n; lk_plan_opts opts; } request;

static planner plan_with(const request *q, lk_remat how) {
    lk_arena *scratch = lk_arena_new();
    lk_program program = lk_program_remat(scratch, q->g, q->live, q->outputs, q->n, q->opts.element_bytes, how);
    return plan_program(q->g, program, q->live, q->outputs, q->n, q->opts, scratch);
}
/* The smaller of two plans in `best`, the other is freed. True if it was the new one. */
static bool keep_smaller(planner *best, planner p) {
    bool better = p.arena_bytes < best->arena_bytes;
    lk_arena_free(better ? best->scratch : p.scratch);
    if (better) *best = p;
    return better;
}
/* No contraction twice; else the number of segments that makes the plan smallest, and of those as few as the budget allows. */
static planner plan_within(const request *q, planner plain) {
    static const int counts[] = {4, 6, 8, 12, 16, 24, 36, LK_MAX_SEGMENTS};
    planner best = plain;
    int segments = 0;
    keep_smaller(&best, plan_with(q, (lk_remat){0}));
    if (best.arena_bytes <= q->opts.arena_budget) return best;
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        if (keep_smaller(&best, plan_with(q, (lk_remat){counts[i], counts[i]}))) segments = counts[i];
    for (int from = 1, to = segments; from < to && best.arena_bytes <= q->opts.arena_budget;) {
        int dropped = (from + to) / 2;
        planner p = plan_with(q, (lk_remat){segments, dropped});
        bool fits = p.arena_bytes <= q->opts.arena_budget;
        lk_arena_free(fits ? best.scratch : p.scratch);
        if (fits) best = p, to = dropped; else from = dropped + 1;
    }
    return best;
}

/* ---- the result -------------------------------------------------------------------------------------------- */
static void fill_slots(const planner *p, lk_plan *plan) {
    lk_slot *place = lk_alloc(plan->memory, ((size_t)p->program.n + 1) * sizeof *place);
    for (int id = 0; id < p->program.n; id++) {
        int r = p->root[id], b = p->buffer_of[r];
        place[id] = (lk_slot){.node = id, .last = p->last[r]};
        if (!p->live[id] || b < 0) continue;
        place[id].offset = p->buffers[b].offset + p->skip[id];
        place[id].bytes = value_bytes(p, id);
    }
    plan->place = place;
    for (int id = 0; id < plan->n_nodes; id++) {
        plan->slot[id] = place[p->turn_of[id]];
        plan->slot[id].node = id;
    }
}
static void fill_turns(const planner *p, lk_plan *plan) {
    size_t count = (size_t)p->program.n + 1;
    lk_node *turn = lk_alloc(plan->memory, count * sizeof *turn);
    int *node_of = lk_alloc(plan->memory, count * sizeof *node_of), *turn_of = lk_alloc(plan->memory, ((size_t)plan->n_nodes + 1) * sizeof *turn_of);
    bool *live = lk_alloc(plan->memory, count * sizeof *live);
    for (int id = 0; id < p->program.n; id++) {
        const lk_node *n = node_at(p, id);
        lk_val *in = lk_alloc(plan->memory, (size_t)n->n_in * sizeof *in + 1);
        if (n->n_in) memcpy(in, n->in, (size_t)n->n_in * sizeof *in);
        turn[id] = *n;
        turn[id].in = in;
        node_of[id] = p->program.of[id];
        live[id] = p->live[id];
    }
    memcpy(turn_of, p->turn_of, (size_t)plan->n_nodes * sizeof *turn_of);
    plan->n_turns = p->program.n; plan->turn = turn; plan->node_of = node_of; plan->turn_of = turn_of; plan->turn_live = live;
}

int64_t lk_node_flops(const lk_graph *g, const lk_node *n) {
    if (!(lk_op_traits(n->op) & T_CONTRACT)) return 0;
    int64_t y = lk_numel(n->shape);
    lk_shape a = lk_shape_of(g, n->in[0]), b = lk_shape_of(g, n->in[1]);
    switch (n->op) {
    case LK_OP_matmul:    return 2 * y * a.d[a.rank - (n->attr.matmul.ta ? 2 : 1)];
    case LK_OP_matmul_add: return 2 * y * b.d[b.rank - (n->attr.matmul.ta ? 2 : 1)];
    case LK_OP_conv2d:    return 2 * y * b.d[1] * b.d[2] * b.d[3];
    case LK_OP_conv2d_dx: return 2 * lk_numel(a) * b.d[1] * b.d[2] * b.d[3];
    case LK_OP_conv2d_dw: return 2 * lk_numel(b) * n->shape.d[1] * n->shape.d[2] * n->shape.d[3];
    case LK_OP_sdpa:      return 4 * lk_numel(a) * b.d[1];
    case LK_OP_sdpa_grad: return 10 * lk_numel(a) * b.d[1];
    default:              return 0;
    }
}

/* Frozen params (no effect writes them, no output shows them) that only operations read which take them in bf16. */
static void find_halves(const planner *p, const lk_val *outputs, int n_outputs, bool *half) {
    if (!p->opts.keeps_bf16) return;
    for (int id = 0; id < p->program.n; id++) half[id] = p->live[id] && node_at(p, id)->op == LK_OP_param;
    for (int i = 0; i < n_outputs; i++) half[p->turn_of[outputs[i].id]] = false;
    for (int id = 0; id < p->program.n; id++) {
        const lk_node *n = node_at(p, id);
        for (int i = 0; p->live[id] && i < n->n_in; i++)
            if (n->in[i].id >= 0 && !p->opts.keeps_bf16(p->g, &p->g->node[p->program.of[id]], i)) half[n->in[i].id] = false;
    }
}
/* ---- frozen params: packed forms and who reads what ----------------------------------------------------------- */
static bool has_form(const lk_weight_use *u, int form) {
    for (int i = 0; i < u->n; i++) if (u->form[i] == form) return true;
    return false;
}
static int form_of(const planner *p, int (*ask)(const lk_graph *, const lk_node *, int), int id, int input) {
    return ask && !(traits(p, id) & (T_VIEW | T_EFFECT)) ? ask(p->g, &p->g->node[p->program.of[id]], input) : 0;
}
/* written: by an effect; adamw writes p, m and v, the others their first input. */
static void find_written(const planner *p, bool *written) {
    for (int id = 0; id < p->program.n; id++)
        for (int i = 0; p->live[id] && traits(p, id) & T_EFFECT && i < (node_at(p, id)->op == LK_OP_adamw ? 3 : 1); i++) written[node_at(p, id)->in[i].id] = true;
}
/* First every form that some reader wants, one copy each; then the readers that can do with none of them. */
static void find_uses(const planner *p, const lk_val *outputs, int n_outputs, const bool *written, lk_weight_use *use) {
    for (int i = 0; i < n_outputs; i++) use[p->turn_of[outputs[i].id]].as_is = true;
    for (int pass = 0; pass < 2; pass++)
        for (int id = 0; id < p->program.n; id++)
            for (int i = 0; p->live[id] && i < node_at(p, id)->n_in; i++) {
                const int source = node_at(p, id)->in[i].id;
                if (source < 0 || node_at(p, source)->op != LK_OP_param || written[source]) continue;
                lk_weight_use *u = &use[source];
                const int form = form_of(p, p->opts.pack_form, id, i);
                if (has_form(u, form)) continue;
                if (pass) u->as_is |= !has_form(u, form_of(p, p->opts.pack_other, id, i));
                else if (form && u->n < LK_MAX_FORMS) { u->form[u->n] = form; u->turn[u->n] = id; u->input[u->n++] = i; }
            }
}
static void count_weights(const planner *p, const bool *written, lk_plan *plan) {
    for (int id = 0; id < p->program.n; id++) {
        const lk_node *n = node_at(p, id);
        if (!p->live[id] || n->op != LK_OP_param) continue;
        plan->packed_bytes += plan->use[id].n * value_bytes(p, id);
        if (n->mem == LK_MEM_WEIGHT && (written[id] || plan->use[id].as_is)) plan->unpacked_bytes += plan->turn_half[id] ? lk_numel(n->shape) * 2 : value_bytes(p, id);
    }
}
static void fill_totals(const planner *p, lk_plan *plan) {
    int64_t work = 0;
    for (int id = 0; id < p->program.n; id++) {
        const lk_node *n = &p->g->node[p->program.of[id]];
        if (!p->live[id]) continue;
        if (traits(p, id) & T_LEAF) plan->by_class[n->mem] += plan->turn_half[id] ? lk_numel(n->shape) * 2 : value_bytes(p, id);
        int64_t flops = lk_node_flops(p->g, n);
        bool again = p->turn_of[p->program.of[id]] != id && p->live[p->turn_of[p->program.of[id]]], runs = !(traits(p, id) & (T_LEAF | T_VIEW));
        plan->flops += flops;
        if (again && runs) plan->recomputed++, plan->recomputed_flops += flops;
        int64_t need = runs && p->opts.workspace ? p->opts.workspace(p->g, n, p->opts.threads) : 0;
        if (need > work) work = need;
    }
    int64_t gradient = p->alive_gradients;               /* what they hold when most is held; the rest counts as activations */
    plan->alive_bytes = p->alive_bytes;
    plan->arena_bytes = p->arena_bytes;
    plan->by_class[LK_MEM_GRADIENT] += gradient;
    plan->by_class[LK_MEM_ACTIVATION] += plan->arena_bytes - gradient;
    plan->by_class[LK_MEM_WORKSPACE] = work;
}

lk_err lk_plan_new(lk_graph *g, const lk_val *outputs, int n, lk_plan_opts opts, lk_plan **out) {
    *out = NULL;
    LK_TRY(lk_graph_error(g));
    lk_arena *memory = lk_arena_new();
    size_t count = (size_t)g->count + 1;
    lk_plan *plan = lk_alloc(memory, sizeof *plan);
    *plan = (lk_plan){.n_nodes = g->count, .memory = memory};
    plan->live = lk_alloc(memory, count * sizeof *plan->live);
    plan->slot = lk_alloc(memory, count * sizeof *plan->slot);
    if (opts.element_bytes <= 0) opts.element_bytes = 4;
    lk_err err = mark_live(g, outputs, n, plan->live);
    if (err) { lk_arena_free(memory); return err; }
    lk_arena *scratch = lk_arena_new();
    planner p = plan_program(g, lk_program_plain(scratch, g), plan->live, outputs, n, opts, scratch);
    if (opts.arena_budget > 0 && p.arena_bytes > opts.arena_budget) p = plan_within(&(request){g, plan->live, outputs, n, opts}, p);
    lk_val *output = lk_alloc(memory, (size_t)n * sizeof *output + 1);
    if (n) memcpy(output, outputs, (size_t)n * sizeof *output);
    plan->n_outputs = n; plan->output = output; plan->opts = opts;
    fill_turns(&p, plan);
    fill_slots(&p, plan);
    bool *half = lk_alloc(memory, (size_t)p.program.n * sizeof *half + 1);
    find_halves(&p, outputs, n, half);
    plan->turn_half = half;
    bool *written = lk_alloc(p.scratch, (size_t)p.program.n * sizeof *written + 1);
    lk_weight_use *use = lk_alloc(memory, (size_t)p.program.n * sizeof *use + 1);
    find_written(&p, written);
    find_uses(&p, outputs, n, written, use);
    plan->use = use;
    fill_totals(&p, plan);
    count_weights(&p, written, plan);
    lk_arena_free(p.scratch);
    *out = plan;
    return LK_OK;
}

bool lk_plan_least(const lk_graph *g, const lk_plan *plan, int64_t *arena_bytes, int64_t *flops) {
    lk_plan_opts opts = plan->opts;
    if (plan->recomputed || g->count != plan->n_nodes) return false;
    opts.arena_budget = 1;
    request q = {g, plan->live, plan->output, plan->n_outputs, opts};
    lk_arena *scratch = lk_arena_new();
    planner p = plan_within(&q, plan_program(g, lk_program_plain(scratch, g), q.live, q.outputs, q.n, opts, scratch));
    *arena_bytes = p.arena_bytes;
    *flops = 0;
    for (int id = 0; id < p.program.n; id++) if (p.live[id]) *flops += lk_node_flops(g, &g->node[p.program.of[id]]);
    lk_arena_free(p.scratch);
    return *arena_bytes < plan->arena_bytes;
}

void lk_plan_free(lk_plan *plan) {
    if (plan) lk_arena_free(plan->memory);
}
