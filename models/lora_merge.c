/* Merging an adapter into base weights: W + weight s B A, by the same operations as the branch (DoRA: m W' / ||W'||; LyCORIS' decomposition: lora_lycoris.c). */
#include "models/lora_internal.h"
#include <stdlib.h>
#include <string.h>

typedef struct { lk_val w, t[LK_SLOT_COUNT], out; } merge_graph;
static merge_graph build(lk_graph *g, const lk_adapter *a, const lk_lora_module *m, double weight) {
    lk_shape s = lk_shape_of(m->g, m->w);
    int64_t rows = s.d[0], columns = lk_numel(s) / (rows ? rows : 1);
    merge_graph v = { .w = lk_input(g, "w", LK_F32, a->config.decompose ? s : LK_SHAPE(rows, columns)) };
    double scale = lk_lora_scale(&a->config, m->r, m->alpha);
    for (int i = 0; i < LK_SLOT_COUNT; i++) v.t[i] = lk_ok(m->t[i]) ? lk_input(g, lk_lora_leaves[i].peft, LK_F32, lk_shape_of(m->g, m->t[i])) : LK_NONE;
    lk_val delta = lk_lora_delta_node(g, a->config.kind, v.t);
    if (a->config.decompose) { v.out = lk_lora_decomposed(g, a->config.decompose, v.w, lk_scale(g, delta, scale), v.t[LK_SLOT_MAGNITUDE], weight == 1 ? LK_NONE : lk_scalar(g, weight)); return v; }
    v.out = lk_add(g, v.w, lk_scale(g, delta, scale * weight));
    if (!lk_ok(v.t[LK_SLOT_MAGNITUDE])) return v;
    lk_val norm = lk_sqrt(g, lk_reduce_sum(g, lk_square(g, v.out), (lk_axes){ .n = 1, .axis = { 1 }, .keep = true }));
    v.out = lk_mul(g, v.out, lk_div(g, lk_reshape(g, v.t[LK_SLOT_MAGNITUDE], LK_SHAPE(rows, 1)), norm));
    return v;
}
static lk_err copy_in(lk_exec *to, lk_val input, lk_exec *from, lk_val source) {
    int64_t n = lk_numel(lk_shape_of(lk_exec_graph(from), source));
    float *v = lk_xaligned((size_t)n * sizeof *v);
    lk_err e = lk_exec_get(from, source, v, n);
    if (!e) e = lk_exec_set(to, input, v, n);
    free(v);
    return e;
}
static lk_err merge_module(const lk_adapter *a, const lk_lora_module *m, lk_exec *from, double weight, lk_exec *to, lk_val target) {
    lk_graph *g = lk_graph_new();
    lk_exec *x = NULL;
    merge_graph v = build(g, a, m, weight);
    lk_err e = lk_graph_error(g);
    if (!e) e = lk_exec_new(g, &v.out, 1, (lk_exec_opts){ 0 }, &x);
    if (!e) e = copy_in(x, v.w, to, target);
    for (int i = 0; i < LK_SLOT_COUNT && !e; i++) if (lk_ok(m->t[i])) e = copy_in(x, v.t[i], from, m->t[i]);
    if (!e) e = lk_exec_run(x);
    if (!e) e = copy_in(to, target, x, v.out);
    lk_exec_free(x);
    lk_graph_free(g);
    return lk_err_wrap(e, "merging %s", m->name);
}
/* bias + weight s b; a layer without a bias has no place for it. */
static lk_err merge_bias(const lk_adapter *a, const lk_lora_module *m, lk_exec *from, double weight, lk_exec *to) {
    if (!lk_ok(m->t[LK_SLOT_BIAS])) return LK_OK;
    const char *name = lk_graph_node(m->g, m->w)->name;
    char *full = lk_xfmt("%.*s.bias", (int)(strlen(name) - strlen(".weight")), name);
    lk_val target = lk_find(lk_exec_graph(to), full), b[2];
    lk_graph *g = lk_graph_new();
    lk_exec *x = NULL;
    lk_err e = lk_ok(target) ? LK_OK : lk_error(LK_EINPUT, "merging %s: B has a bias (lora_bias), the base's layer has none", m->name);
    for (int i = 0; i < 2; i++) b[i] = lk_input(g, i ? "b" : "bias", LK_F32, lk_shape_of(m->g, m->t[LK_SLOT_BIAS]));
    lk_val out = lk_add(g, b[0], lk_scale(g, b[1], lk_lora_scale(&a->config, m->r, m->alpha) * weight));
    if (!e) e = lk_exec_new(g, &out, 1, (lk_exec_opts){ 0 }, &x);
    if (!e) e = copy_in(x, b[0], to, target);
    if (!e) e = copy_in(x, b[1], from, m->t[LK_SLOT_BIAS]);
    if (!e) e = lk_exec_run(x);
    if (!e) e = copy_in(to, target, x, out);
    lk_exec_free(x);
    lk_graph_free(g);
    free(full);
    return e;
}
lk_err lk_adapter_merge(const lk_adapter *a, lk_exec *from, double weight, lk_exec *to) {
    const lk_graph *g = lk_exec_graph(from), *target = lk_exec_graph(to);
    LK_TRY(lk_lora_copies_merge(a, from, weight, to));             /* first: a bias of B is added to the layer's trained one */
    for (int i = 0; i < a->n; i++) {
        const lk_lora_module *m = &a->module[i];
        if (m->g != g) continue;
        if (m->groups > 1 && a->config.kind < LK_LOHA)
            return lk_error(LK_EINPUT, "merging %s: LoRA on a convolution in %d groups sees all channels, the convolution's weight only a group's: no weight is the sum of both", m->name, m->groups);
        lk_val w = lk_find(target, lk_graph_node(g, m->w)->name);
        if (!lk_ok(w)) return lk_error(LK_EINPUT, "merging: the other graph has no param %s", lk_graph_node(g, m->w)->name);
        if (!lk_shape_eq(lk_shape_of(target, w), lk_shape_of(g, m->w))) return lk_error(LK_ESHAPE, "merging: %s has another shape in the other graph", lk_graph_node(g, m->w)->name);
        LK_TRY(merge_module(a, m, from, weight, to, w));
        LK_TRY(merge_bias(a, m, from, weight, to));
    }
    return LK_OK;
}
