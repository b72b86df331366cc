/* Moving averages of trained params, as effects after the update (numerics.md rule 10: a + (1 - decay)(v - a)). */
#include "train/train.h"
#include <stdlib.h>

struct lk_average { lk_graph *g; int n; lk_val *param, *average, decay; };

lk_average *lk_average_new(lk_graph *g, const lk_val *params, int n) {
    lk_arena *a = lk_graph_arena(g);
    lk_average *e = lk_alloc(a, sizeof *e);
    *e = (lk_average){ .g = g, .n = n, .decay = lk_input(g, "ema.decay", LK_F32, LK_SCALAR) };
    e->param = lk_alloc(a, (size_t)n * sizeof(lk_val));
    e->average = lk_alloc(a, (size_t)n * sizeof(lk_val));
    for (int i = 0; i < n; i++) {
        const lk_node *p = lk_graph_node(g, params[i]);
        e->param[i] = params[i];
        e->average[i] = p ? lk_param(g, lk_fmt(a, "%s.ema", p->name), p->shape, LK_MEM_OPTIMISER) : LK_NONE;
        lk_ema(g, e->average[i], params[i], e->decay);
    }
    return e;
}
lk_val lk_average_of(const lk_average *e, int i) { return e->average[i]; }
lk_err lk_average_set(const lk_average *e, lk_exec *x, int64_t step, double decay) {
    double early = (1. + (double)step) / (10. + (double)step);
    return lk_exec_set_scalar(x, e->decay, step == 0 ? 0 : early < decay ? early : decay);
}
lk_err lk_average_apply(const lk_average *e, lk_exec *x) {
    lk_err err = LK_OK;
    for (int i = 0; i < e->n && !err; i++) {
        int64_t n = lk_numel(lk_shape_of(e->g, e->param[i]));
        float *v = lk_xmalloc((size_t)n * sizeof(float));
        err = lk_exec_get(x, e->average[i], v, n);
        if (!err) err = lk_exec_set(x, e->param[i], v, n);
        free(v);
    }
    return err;
}
