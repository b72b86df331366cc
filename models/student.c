/* Opening, merging and writing the few-step student. */
#include "models/student.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

lk_err lk_student_adapter(const char *path, const char *prefix, lk_adapter **out) {
    if (access(path, R_OK)) return lk_error(LK_EINPUT, "%s: no few-step student there; build/bin/zoo-student trains one into build/zoo/student", path);
    lk_arena *a = lk_arena_new();
    lk_lora_config c;
    lk_err e = lk_adapter_inspect(path, a, &c);
    if (!e) *out = lk_adapter_new(c, prefix);
    lk_arena_free(a);
    return e;
}
lk_err lk_student_load(lk_adapter *a, lk_exec *x, const char *path) { return lk_adapter_load(a, x, path); }

lk_err lk_student_merge(const lk_zoo *z, const char *path, lk_exec *to, const char *param_prefix) {
    lk_adapter *adapter;
    LK_TRY(lk_student_adapter(path, "", &adapter));
    lk_graph *g = lk_graph_new();
    lk_exec *x = NULL;
    lk_net net = lk_net_root(g);
    net.param_prefix = param_prefix;
    net.adapters = &adapter;
    net.n_adapters = 1;
    lk_val out = lk_unet2d(&net, &z->unet, lk_input(g, "x", LK_F32, LK_SHAPE(1, LK_ZOO_LATENT, LK_ZOO_GRID, LK_ZOO_GRID)), lk_input(g, "t", LK_F32, LK_SHAPE(1)),
                           lk_input(g, "context", LK_F32, LK_SHAPE(1, LK_ZOO_TOKENS, z->text.hidden)), LK_UNET_PLAIN);
    lk_err e = lk_graph_error(g);
    if (!e) e = lk_exec_new(g, &out, 1, (lk_exec_opts){0}, &x);
    if (!e) e = lk_weights_bind(x, z->unet_weights, param_prefix, NULL);
    if (!e) e = lk_student_load(adapter, x, path);
    if (!e) e = lk_weights_set(to, z->unet_weights, param_prefix, NULL);
    if (!e) e = lk_adapter_merge(adapter, x, 1, to);
    lk_exec_free(x);
    lk_graph_free(g);
    lk_adapter_free(adapter);
    return e;
}

static lk_err halve(const lk_st *st, const char *path) {
    lk_arena *a = lk_arena_new();
    int n = lk_st_count(st), m = 0;
    lk_st_item *items = lk_alloc(a, sizeof *items * (size_t)(n + 1));
    lk_err e = LK_OK;
    for (int i = 0; i < n && !e; i++) {
        const lk_tensor *t = lk_st_at(st, i);
        float *values = lk_alloc(a, sizeof *values * (size_t)(t->numel + 1));
        uint16_t *half = lk_alloc(a, sizeof *half * (size_t)(t->numel + 1));
        e = lk_st_f32(t, values);
        for (int64_t k = 0; k < t->numel; k++) half[k] = lk_half_of(values[k]);
        items[i] = (lk_st_item){ .name = t->name, .dtype = LK_ST_F16, .rank = t->rank, .data = half };
        for (int k = 0; k < t->rank; k++) items[i].d[k] = t->d[k];
    }
    const char **meta = lk_alloc(a, sizeof *meta * (2 * (size_t)lk_st_meta_count(st) + 1));
    for (; m < lk_st_meta_count(st); m++) lk_st_meta_at(st, m, &meta[2 * m], &meta[2 * m + 1]);
    if (!e) e = lk_st_write(path, items, n, meta);
    lk_arena_free(a);
    return e;
}
lk_err lk_student_save(lk_adapter *a, lk_exec *x, const char *path) {
    char *whole = lk_xfmt("%s.f32", path);
    lk_st *st;
    lk_err e = lk_adapter_save(a, x, whole);
    if (!e) e = lk_st_open(whole, &st);
    if (!e) { e = halve(st, path); lk_st_close(st); }
    unlink(whole);
    free(whole);
    return e;
}
