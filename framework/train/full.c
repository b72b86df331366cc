/* Full training as one graph, its checkpoints and its trace. */
#include "train/full.h"
#include "base/exact_math.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void lk_full_build(lk_full *f, lk_graph *g, lk_val loss, const char *prefix, lk_full_opts o) {
    int count = lk_graph_count(g);
    lk_arena *a = lk_graph_arena(g);
    *f = (lk_full){.g = g, .loss = loss, .beta1 = o.beta1, .beta2 = o.beta2};
    f->param = lk_xcalloc((size_t)count * 5, sizeof *f->param);
    f->m = f->param + count; f->v = f->m + count; f->average = f->v + count;
    lk_val *grad = f->average + count;
    for (int i = 0; i < count; i++) {
        const lk_node *node = lk_graph_node(g, (lk_val){i});
        if (node->op == LK_OP_param && node->mem == LK_MEM_WEIGHT && lk_starts(node->name, prefix)) f->param[f->n++] = (lk_val){i};
    }
    lk_vjp(g, loss, LK_NONE, f->param, f->n, grad);
    int kept = 0;                              /* weights the loss does not reach stay as they are */
    for (int i = 0; i < f->n; i++) if (lk_ok(grad[i])) { f->param[kept] = f->param[i]; grad[kept++] = grad[i]; }
    f->n = kept;
    f->lr = lk_input(g, "lr", LK_F32, LK_SCALAR);
    f->bc1 = lk_input(g, "bc1", LK_F32, LK_SCALAR);
    f->bc2 = lk_input(g, "bc2", LK_F32, LK_SCALAR);
    f->decay = lk_input(g, "average_decay", LK_F32, LK_SCALAR);
    f->norm = lk_global_norm(g, grad, f->n);
    if (o.clip > 0) {
        lk_val clip = lk_min(g, lk_scalar(g, 1), lk_div(g, lk_scalar(g, o.clip), lk_shift(g, f->norm, 1e-6)));
        for (int i = 0; i < f->n; i++) grad[i] = lk_mul(g, grad[i], clip);
    }
    for (int i = 0; i < f->n; i++) {
        const char *name = lk_strdup(a, lk_graph_node(g, f->param[i])->name);
        lk_shape shape = lk_shape_of(g, f->param[i]);
        f->m[i] = lk_param(g, lk_fmt(a, "adam.m/%s", name), shape, LK_MEM_OPTIMISER);
        f->v[i] = lk_param(g, lk_fmt(a, "adam.v/%s", name), shape, LK_MEM_OPTIMISER);
        f->average[i] = lk_param(g, lk_fmt(a, "average/%s", name), shape, LK_MEM_OPTIMISER);
        lk_adamw(g, f->param[i], f->m[i], f->v[i], grad[i], f->lr, f->bc1, f->bc2, (lk_adamw_attr){o.beta1, o.beta2, o.eps, o.weight_decay});
        lk_ema(g, f->average[i], f->param[i], f->decay);
    }
}
void lk_full_free(lk_full *f) { free(f->param); *f = (lk_full){0}; }

static int64_t size_of(const lk_full *f, int i) { return lk_numel(lk_shape_of(f->g, f->param[i])); }
static int64_t largest(const lk_full *f) {
    int64_t most = 0;
    for (int i = 0; i < f->n; i++) if (size_of(f, i) > most) most = size_of(f, i);
    return most;
}
lk_err lk_full_start(lk_full *f, lk_exec *x) {
    float *buf = lk_xmalloc(sizeof(float) * (size_t)largest(f));
    lk_err e = LK_OK;
    for (int i = 0; i < f->n && !e; i++) {
        e = lk_exec_get(x, f->param[i], buf, size_of(f, i));
        if (!e) e = lk_exec_set(x, f->average[i], buf, size_of(f, i));
    }
    free(buf);
    return e;
}
static double power(double b, int64_t n) {     /* by squaring: one fixed order */
    double r = 1;
    for (; n; n >>= 1, b *= b) if (n & 1) r *= b;
    return r;
}
lk_err lk_full_run(lk_full *f, lk_exec *x, int64_t step, double lr, double decay, double *loss, double *norm) {
    LK_TRY(lk_exec_set_scalar(x, f->lr, lr));
    LK_TRY(lk_exec_set_scalar(x, f->bc1, 1 - power(f->beta1, step)));
    LK_TRY(lk_exec_set_scalar(x, f->bc2, 1 - power(f->beta2, step)));
    LK_TRY(lk_exec_set_scalar(x, f->decay, decay));
    LK_TRY(lk_exec_run(x));
    float l, n;
    LK_TRY(lk_exec_get(x, f->loss, &l, 1));
    LK_TRY(lk_exec_get(x, f->norm, &n, 1));
    *loss = l; *norm = n;
    return l == l && n == n ? LK_OK : lk_error(LK_ENUM, "step %lld: loss %g, gradient norm %g", (long long)step, *loss, *norm);
}
double lk_full_lr(double peak, int64_t step, int64_t warmup, int64_t steps) {
    if (step <= warmup) return peak * (double)step / (double)warmup;
    double done = (double)(step - warmup) / (double)(steps - warmup);
    return 0.5 * peak * (1 + lk_cos_d(3.14159265358979324 * done));
}

/* ---- trace, files ------------------------------------------------------------------------------------ */
lk_err lk_full_digest(const lk_full *f, lk_exec *x, char hex[65]) {
    float *buf = lk_xmalloc(sizeof(float) * (size_t)largest(f));
    lk_sha256 sum;
    lk_sha256_init(&sum);
    lk_err e = LK_OK;
    for (int i = 0; i < f->n; i++)
        for (int k = 0; k < 2 && !e; k++) {
            e = lk_exec_get(x, k ? f->average[i] : f->param[i], buf, size_of(f, i));
            if (!e) lk_sha256_add(&sum, buf, sizeof(float) * (size_t)size_of(f, i));
        }
    free(buf);
    if (!e) lk_sha256_hex(&sum, hex);
    return e;
}
static uint16_t to_half(float v) {             /* round to nearest even; overflow to infinity */
    uint32_t u;
    memcpy(&u, &v, 4);
    uint32_t sign = u >> 16 & 0x8000, a = u & 0x7fffffff;
    if (a > 0x7f800000) return (uint16_t)(sign | 0x7e00);
    if (a >= 0x477ff000) return (uint16_t)(sign | 0x7c00);
    if (a < 0x33000000) return (uint16_t)sign;
    uint32_t drop = a < 0x38800000 ? 126 - (a >> 23) : 13;                     /* bits that fall off; more for subnormals */
    uint32_t from = a < 0x38800000 ? (a & 0x7fffff) | 0x800000 : a - 0x38000000;
    uint32_t half = from >> drop, rest = from & ((1u << drop) - 1), middle = 1u << (drop - 1);
    return (uint16_t)(sign | (half + (rest > middle || (rest == middle && (half & 1)))));
}
static lk_st_item item(const lk_full *f, int i, const char *name, lk_st_dtype dtype, const void *data) {
    lk_shape s = lk_shape_of(f->g, f->param[i]);
    lk_st_item t = {.name = name, .dtype = dtype, .rank = s.rank, .data = data};
    for (int d = 0; d < s.rank; d++) t.d[d] = s.d[d];
    return t;
}
lk_err lk_full_save_average(const lk_full *f, lk_exec *x, const char *prefix, const char *path, bool half, const char *const *meta) {
    lk_arena *a = lk_arena_new();
    lk_st_item *items = lk_alloc(a, sizeof *items * (size_t)f->n);
    lk_err e = LK_OK;
    for (int i = 0; i < f->n && !e; i++) {
        int64_t n = size_of(f, i);
        float *values = lk_alloc(a, sizeof(float) * (size_t)n);
        uint16_t *halves = lk_alloc(a, sizeof(uint16_t) * (size_t)n);
        e = lk_exec_get(x, f->average[i], values, n);
        if (half) for (int64_t k = 0; k < n; k++) halves[k] = to_half(values[k]);
        const char *name = lk_strdup(a, lk_graph_node(f->g, f->param[i])->name + strlen(prefix));
        items[i] = item(f, i, name, half ? LK_ST_F16 : LK_ST_F32, half ? (void *)halves : values);
    }
    if (!e) e = lk_st_write(path, items, f->n, meta);
    lk_arena_free(a);
    return e;
}
static const char *const kinds[4] = {"param", "m", "v", "average"};
static lk_val state_of(const lk_full *f, int kind, int i) { return kind == 0 ? f->param[i] : kind == 1 ? f->m[i] : kind == 2 ? f->v[i] : f->average[i]; }
lk_err lk_full_checkpoint(const lk_full *f, lk_exec *x, int64_t step, const char *path) {
    lk_arena *a = lk_arena_new();
    lk_st_item *items = lk_alloc(a, sizeof *items * (size_t)f->n * 4);
    lk_err e = LK_OK;
    int n = 0;
    for (int i = 0; i < f->n; i++)
        for (int k = 0; k < 4 && !e; k++) {
            float *values = lk_alloc(a, sizeof(float) * (size_t)size_of(f, i));
            e = lk_exec_get(x, state_of(f, k, i), values, size_of(f, i));
            items[n++] = item(f, i, lk_fmt(a, "%s/%s", kinds[k], lk_graph_node(f->g, f->param[i])->name), LK_ST_F32, values);
        }
    const char *meta[] = {"step", lk_fmt(a, "%lld", (long long)step), NULL};
    if (!e) e = lk_st_write(path, items, n, meta);
    lk_arena_free(a);
    return e;
}
lk_err lk_full_resume(const lk_full *f, lk_exec *x, const char *path, int64_t *step) {
    *step = 0;
    if (access(path, F_OK)) return LK_OK;
    lk_st *st;
    LK_TRY(lk_st_open(path, &st));
    float *buf = lk_xmalloc(sizeof(float) * (size_t)largest(f));
    lk_err e = LK_OK;
    for (int i = 0; i < f->n; i++)
        for (int k = 0; k < 4 && !e; k++) {
            char *name = lk_xfmt("%s/%s", kinds[k], lk_graph_node(f->g, f->param[i])->name);
            const lk_tensor *t;
            e = lk_st_get(st, name, &t);
            if (!e && t->numel != size_of(f, i)) e = lk_error(LK_EINPUT, "%s: %s: another shape than the model's", path, name);
            if (!e) e = lk_st_f32(t, buf);
            if (!e) e = lk_exec_set(x, state_of(f, k, i), buf, t->numel);
            free(name);
        }
    const char *s = lk_st_meta(st, "step");
    if (!e && !s) e = lk_error(LK_EINPUT, "%s: no step in its metadata", path);
    if (!e) *step = strtoll(s, NULL, 10);
    free(buf);
    lk_st_close(st);
    return e;
}
