/* See remat.h. Late values depend on a cotangent; all others are early. A late node that reads an early value which was
 * dropped reads a copy, computed right before the first late node that asks for it, from what was kept; the copy then
 * serves every later reader. What no late node reads is never copied, so dropping it costs nothing. */
#include "graph/remat.h"

enum { DEEPEST = 4 };              /* copies that need copies, when only cheap operations are recomputed */
typedef struct {
    const lk_graph *g; const bool *live; int n;
    lk_arena *scratch;
    bool *late, *dropped, *needed; /* by id; needed: a late node reads it or a view of it (by root) */
    int *root;                     /* by id: the node whose storage holds the value */
    int *last_early;               /* by root: its last early reader */
    int element;
} remat;

static int traits(const remat *r, int id) { return lk_op_traits(r->g->node[id].op); }
static int64_t bytes_of(const remat *r, int id) { const lk_node *n = &r->g->node[id]; return lk_numel(n->shape) * (n->dtype == LK_I64 ? 8 : r->element); }

/* ---- what is what --------------------------------------------------------------------------------------- */
static void find_late(remat *r) {
    for (int id = 0; id < r->n; id++) {
        const lk_node *n = &r->g->node[id];
        r->root[id] = traits(r, id) & T_VIEW ? r->root[n->in[0].id] : id;
        r->late[id] = n->mem == LK_MEM_GRADIENT && !(traits(r, id) & T_LEAF);
        for (int i = 0; i < n->n_in && !r->late[id]; i++) r->late[id] = r->late[n->in[i].id];
        if (traits(r, id) & T_EFFECT) r->late[id] = true;
    }
}
/* A dropped value must be computable again for each of its late readers: nothing may have been written in between. */
static void find_readers(remat *r, bool *fixed) {
    for (int id = 0; id < r->n; id++) r->last_early[id] = id;
    for (int id = 0; id < r->n; id++) {
        const lk_node *n = &r->g->node[id];
        if (!r->live[id] || traits(r, id) & T_VIEW) continue;
        for (int i = 0; i < n->n_in; i++) {
            int source = r->root[n->in[i].id];
            if (!r->late[id]) { r->last_early[source] = id; continue; }
            r->needed[source] = true;
            if (r->g->epoch[id] != r->g->epoch[source]) fixed[source] = true;
        }
    }
}
static bool droppable(const remat *r, const bool *fixed, int id) { return r->live[id] && !r->late[id] && !fixed[id] && !(traits(r, id) & (T_LEAF | T_VIEW | T_EFFECT)); }

/* ---- which values are dropped ----------------------------------------------------------------------------- */
/* Cheap values, where keeping their inputs instead holds less. */
static void drop_cheap(remat *r, const bool *fixed, int from) {
    int *depth = lk_alloc(r->scratch, (size_t)(r->n + 1) * sizeof *depth);
    for (int id = from; id < r->n; id++) {
        const lk_node *n = &r->g->node[id];
        if (!droppable(r, fixed, id) || !r->needed[id] || traits(r, id) & T_CONTRACT) continue;
        int64_t extra = 0;
        int deep = 1;
        for (int i = 0; i < n->n_in; i++) {
            int source = r->root[n->in[i].id];
            if (traits(r, source) & T_LEAF) continue;
            if (!r->needed[source]) extra += bytes_of(r, source);
            if (depth[source] >= deep) deep = depth[source] + 1;
        }
        if (extra >= bytes_of(r, id) || deep > DEEPEST) continue;
        r->dropped[id] = true;
        depth[id] = deep;
        for (int i = 0; i < n->n_in; i++) r->needed[r->root[n->in[i].id]] = true;
    }
}

/* cut[k]: the last node of segment k. Segments share the bytes that would be kept; around each quantile the cut is put
 * where the fewest bytes of early values are still to be read by early nodes. */
static int find_cuts(const remat *r, int segments, int *cut) {
    int64_t *kept = lk_alloc(r->scratch, (size_t)(r->n + 1) * sizeof *kept), *crossing = lk_alloc(r->scratch, (size_t)(r->n + 2) * sizeof *crossing);
    int64_t sum = 0, held = 0;
    for (int id = 0; id < r->n; id++) {
        bool counts = r->live[id] && !r->late[id] && !(traits(r, id) & (T_LEAF | T_VIEW));
        if (counts && r->needed[id]) sum += bytes_of(r, id);
        kept[id] = sum;
        if (counts && r->last_early[id] > id) crossing[id] += bytes_of(r, id), crossing[r->last_early[id]] -= bytes_of(r, id);
        held += crossing[id];
        crossing[id] = held;
    }
    int n = 0, id = 0;
    for (int k = 1; k < segments; k++) {
        double from = (k - 0.35) / segments * (double)sum, to = (k + 0.35) / segments * (double)sum;
        int best = -1;
        for (; id < r->n && (double)kept[id] <= to; id++) {
            if ((double)kept[id] < from || r->late[id] || !r->live[id]) continue;
            if (best < 0 || crossing[id] <= crossing[best]) best = id;
        }
        if (best >= 0) cut[n++] = best;
    }
    return n;
}
/* Every early value of the first segments that no early node of a later segment reads. Returns the first node behind them. */
static int drop_segments(remat *r, const bool *fixed, lk_remat how) {
    int cut[LK_MAX_SEGMENTS], cuts = find_cuts(r, how.segments < LK_MAX_SEGMENTS ? how.segments : LK_MAX_SEGMENTS, cut), at = 0;
    int end = how.dropped <= cuts ? cut[how.dropped - 1] : r->n - 1;
    for (int id = 0; id <= end; id++) {
        while (at < cuts && cut[at] < id) at++;
        int segment_end = at < cuts ? cut[at] : r->n;
        if (droppable(r, fixed, id) && r->last_early[id] <= segment_end) r->dropped[id] = true;
    }
    return end + 1;
}

/* ---- the new program ---------------------------------------------------------------------------------------- */
typedef struct { lk_arena *memory; lk_program p; int cap; int *place, *copy; /* by id: its places; copy -1: none yet */ } writer;

static int put(writer *w, const lk_node *n, int id, const lk_val *in) {
    if (w->p.n == w->cap) {
        int cap = w->cap ? w->cap * 2 : 1024;
        lk_node *node = lk_alloc(w->memory, (size_t)cap * sizeof *node);
        int *of = lk_alloc(w->memory, (size_t)cap * sizeof *of);
        if (w->p.n) { memcpy(node, w->p.node, (size_t)w->p.n * sizeof *node); memcpy(of, w->p.of, (size_t)w->p.n * sizeof *of); }
        w->p.node = node; w->p.of = of; w->cap = cap;
    }
    lk_val *kept = lk_alloc(w->memory, (size_t)n->n_in * sizeof *kept + 1);
    if (n->n_in) memcpy(kept, in, (size_t)n->n_in * sizeof *kept);
    w->p.node[w->p.n] = *n;
    w->p.node[w->p.n].in = kept;
    w->p.of[w->p.n] = id;
    return w->p.n++;
}
/* Where a late node finds the value: where it stands, or in a copy, written now if there is none. */
static int found_at(writer *w, const remat *r, int id) {
    const lk_node *n = &r->g->node[id];
    if (w->copy[id] >= 0) return w->copy[id];
    if (r->late[id] || (!r->dropped[id] && !(traits(r, id) & T_VIEW))) return w->copy[id] = w->place[id];
    lk_val in[64];
    bool same = true;
    for (int i = 0; i < n->n_in; i++) {
        in[i] = (lk_val){found_at(w, r, n->in[i].id)};
        same = same && in[i].id == w->place[n->in[i].id];
    }
    return w->copy[id] = same && !r->dropped[id] ? w->place[id] : put(w, n, id, in);
}
static lk_program write_program(lk_arena *memory, const remat *r) {
    writer w = {.memory = memory, .place = lk_alloc(r->scratch, (size_t)(r->n + 1) * sizeof(int)), .copy = lk_alloc(r->scratch, (size_t)(r->n + 1) * sizeof(int))};
    for (int id = 0; id < r->n; id++) w.copy[id] = -1;
    for (int id = 0; id < r->n; id++) {
        const lk_node *n = &r->g->node[id];
        lk_val in[64];
        bool asks = r->live[id] && r->late[id];
        for (int i = 0; i < n->n_in; i++) {
            int source = n->in[i].id;
            in[i] = (lk_val){asks && !r->late[source] ? found_at(&w, r, source) : w.place[source]};
        }
        w.place[id] = put(&w, n, id, in);
    }
    return w.p;
}

lk_program lk_program_remat(lk_arena *memory, const lk_graph *g, const bool *live, const lk_val *outputs, int n_outputs, int element_bytes, lk_remat how) {
    lk_arena *scratch = lk_arena_new();
    size_t count = (size_t)g->count + 1;
    remat r = {.g = g, .live = live, .n = g->count, .scratch = scratch, .element = element_bytes};
    r.late = lk_alloc(scratch, count * sizeof *r.late);
    r.dropped = lk_alloc(scratch, count * sizeof *r.dropped);
    r.needed = lk_alloc(scratch, count * sizeof *r.needed);
    r.root = lk_alloc(scratch, count * sizeof *r.root);
    r.last_early = lk_alloc(scratch, count * sizeof *r.last_early);
    bool *fixed = lk_alloc(scratch, count * sizeof *fixed);
    find_late(&r);
    find_readers(&r, fixed);
    for (int i = 0; i < n_outputs; i++) fixed[r.root[outputs[i].id]] = true;
    drop_cheap(&r, fixed, how.segments > 0 ? drop_segments(&r, fixed, how) : 0);
    lk_program p = write_program(memory, &r);
    lk_arena_free(scratch);
    return p;
}

lk_program lk_program_plain(lk_arena *memory, const lk_graph *g) {
    lk_program p = {.n = g->count, .node = g->node, .of = lk_alloc(memory, (size_t)(g->count + 1) * sizeof *p.of)};
    for (int id = 0; id < g->count; id++) p.of[id] = id;
    return p;
}
