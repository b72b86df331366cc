/* Training checkpoints: every param some effect writes (trained weights, moments, averages) and the step, as one
 * safetensors file written beside and renamed. The graph decides the names; a file of another graph is refused. */
#include "train/train.h"
#include <stdlib.h>
#include <string.h>

typedef struct { int n; lk_val *v; } states;
static states written_params(const lk_graph *g) {
    int count = lk_graph_count(g);
    bool *seen = lk_xcalloc((size_t)count, sizeof *seen);
    states s = { 0, lk_xcalloc((size_t)count, sizeof(lk_val)) };
    for (int id = 0; id < count; id++) {
        const lk_node *e = lk_graph_node(g, (lk_val){ id });
        if (!(lk_op_traits(e->op) & T_EFFECT)) continue;
        int writes = e->op == LK_OP_adamw ? 3 : 1;                    /* p, m, v; else the state alone */
        for (int k = 0; k < writes; k++) {
            lk_val target = e->in[k];
            if (seen[target.id]) continue;
            seen[target.id] = true;
            s.v[s.n++] = target;
        }
    }
    free(seen);
    return s;
}
static lk_st_item item_of(const lk_graph *g, lk_val v, const float *data) {
    const lk_node *p = lk_graph_node(g, v);
    lk_st_item it = { .name = p->name, .dtype = LK_ST_F32, .rank = p->shape.rank, .data = data };
    for (int k = 0; k < it.rank; k++) it.d[k] = p->shape.d[k];
    return it;
}
lk_err lk_checkpoint_save(lk_exec *x, int64_t step, const char *path) {
    const lk_graph *g = lk_exec_graph(x);
    states s = written_params(g);
    lk_st_item *items = lk_xcalloc((size_t)s.n + 1, sizeof *items);
    float **data = lk_xcalloc((size_t)s.n + 1, sizeof *data);
    lk_err e = LK_OK;
    for (int i = 0; i < s.n && !e; i++) {
        int64_t n = lk_numel(lk_shape_of(g, s.v[i]));
        data[i] = lk_xmalloc((size_t)(n ? n : 1) * sizeof(float));
        e = lk_exec_get(x, s.v[i], data[i], n);
        items[i] = item_of(g, s.v[i], data[i]);
    }
    char *text = lk_xfmt("%lld", (long long)step);
    if (!e) e = lk_st_write(path, items, s.n, (const char *const[]){ "format", "likeness checkpoint", "step", text, NULL });
    for (int i = 0; i < s.n; i++) free(data[i]);
    free(text); free(data); free(items); free(s.v);
    return lk_err_wrap(e, "checkpoint %s", path);
}
static lk_err check_tensor(const lk_graph *g, lk_val v, const lk_tensor *t) {
    const lk_node *p = lk_graph_node(g, v);
    bool same = t->rank == p->shape.rank;
    for (int k = 0; same && k < t->rank; k++) same = t->d[k] == p->shape.d[k];
    return same ? LK_OK : lk_error(LK_EINPUT, "%s has another shape (%lld values) than the graph (%lld)", p->name, (long long)t->numel, (long long)lk_numel(p->shape));
}
static lk_err load_states(lk_exec *x, const lk_st *f, const states *s) {
    const lk_graph *g = lk_exec_graph(x);
    if (lk_st_count(f) != s->n) return lk_error(LK_EINPUT, "holds %d tensors, the graph has %d states", lk_st_count(f), s->n);
    for (int i = 0; i < s->n; i++) {                                   /* all are checked before any is written */
        const lk_tensor *t;
        LK_TRY(lk_st_get(f, lk_graph_node(g, s->v[i])->name, &t));
        LK_TRY(check_tensor(g, s->v[i], t));
    }
    for (int i = 0; i < s->n; i++) {
        const lk_tensor *t = lk_st_find(f, lk_graph_node(g, s->v[i])->name);
        float *v = lk_xmalloc((size_t)(t->numel ? t->numel : 1) * sizeof(float));
        lk_err e = lk_st_f32(t, v);
        if (!e) e = lk_exec_set(x, s->v[i], v, t->numel);
        free(v);
        if (e) return e;
    }
    return LK_OK;
}
lk_err lk_checkpoint_load(lk_exec *x, const char *path, int64_t *step) {
    lk_st *f;
    LK_TRY(lk_st_open(path, &f));
    states s = written_params(lk_exec_graph(x));
    const char *text = lk_st_meta(f, "step");
    lk_err e = text ? load_states(x, f, &s) : lk_error(LK_EINPUT, "has no step in its metadata: not a training checkpoint");
    if (!e) *step = strtoll(text, NULL, 10);
    free(s.v);
    lk_st_close(f);
    return lk_err_wrap(e, "checkpoint %s", path);
}
