/* Full training on top of train.h; digests and checkpoints of the averages. */
#include "train/full.h"
#include <stdlib.h>
#include <string.h>

void lk_full_build(lk_full *f, lk_graph *g, lk_val loss, const char *prefix, lk_adamw_attr adamw, double clip) {
    int count = lk_graph_count(g);
    *f = (lk_full){.g = g, .param = lk_alloc(lk_graph_arena(g), sizeof(lk_val) * (size_t)count)};
    for (int i = 0; i < count; i++) {
        const lk_node *node = lk_graph_node(g, (lk_val){i});
        if (node->op == LK_OP_param && node->mem == LK_MEM_WEIGHT && lk_starts(node->name, prefix)) f->param[f->n++] = (lk_val){i};
    }
    f->optimiser = lk_optimiser_new(g, f->param, f->n, (lk_optimiser_config){.adamw = adamw, .clip = clip});
    lk_optimiser_add_loss(f->optimiser, loss);
    lk_optimiser_finish(f->optimiser);
    f->average = lk_average_new(g, f->param, f->n);
    f->loss = lk_optimiser_loss(f->optimiser);
    f->norm = lk_optimiser_grad_norm(f->optimiser);
}
lk_err lk_full_run(const lk_full *f, lk_exec *x, int64_t step, double lr, double decay, double *loss, double *norm) {
    float l, n;
    LK_TRY(lk_optimiser_set(f->optimiser, x, step, lr));
    LK_TRY(lk_average_set(f->average, x, step, decay));
    LK_TRY(lk_exec_run(x));
    LK_TRY(lk_exec_get(x, f->loss, &l, 1));
    LK_TRY(lk_exec_get(x, f->norm, &n, 1));
    *loss = l; *norm = n;
    return l == l && n == n ? LK_OK : lk_error(LK_ENUM, "step %lld: loss %g, gradient norm %g", (long long)step, *loss, *norm);
}

/* ---- trace, files ------------------------------------------------------------------------------------ */
static int64_t size_of(const lk_full *f, int i) { return lk_numel(lk_shape_of(f->g, f->param[i])); }
lk_err lk_full_digest(const lk_full *f, lk_exec *x, char hex[65]) {
    lk_sha256 sum;
    lk_sha256_init(&sum);
    lk_err e = LK_OK;
    for (int i = 0; i < f->n && !e; i++) {
        int64_t n = size_of(f, i);
        float *buf = lk_xmalloc(sizeof(float) * (size_t)n);
        for (int k = 0; k < 2 && !e; k++) {
            e = lk_exec_get(x, k ? lk_average_of(f->average, i) : f->param[i], buf, n);
            if (!e) lk_sha256_add(&sum, buf, sizeof(float) * (size_t)n);
        }
        free(buf);
    }
    if (!e) lk_sha256_hex(&sum, hex);
    return e;
}
lk_err lk_full_save_average(const lk_full *f, lk_exec *x, const char *prefix, const char *path, bool half, const char *const *meta) {
    lk_arena *a = lk_arena_new();
    lk_st_item *items = lk_alloc(a, sizeof *items * (size_t)f->n);
    lk_err e = LK_OK;
    for (int i = 0; i < f->n && !e; i++) {
        lk_shape s = lk_shape_of(f->g, f->param[i]);
        int64_t n = lk_numel(s);
        float *values = lk_alloc(a, sizeof(float) * (size_t)n);
        uint16_t *halves = lk_alloc(a, sizeof(uint16_t) * (size_t)n);
        e = lk_exec_get(x, lk_average_of(f->average, i), values, n);
        if (half) for (int64_t k = 0; k < n; k++) halves[k] = lk_half_of(values[k]);
        const char *name = lk_strdup(a, lk_graph_node(f->g, f->param[i])->name + strlen(prefix));
        items[i] = (lk_st_item){.name = name, .dtype = half ? LK_ST_F16 : LK_ST_F32, .rank = s.rank, .data = half ? (void *)halves : values};
        memcpy(items[i].d, s.d, sizeof s.d);
    }
    if (!e) e = lk_st_write(path, items, f->n, meta);
    lk_arena_free(a);
    return e;
}
