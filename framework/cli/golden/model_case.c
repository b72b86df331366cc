/* Model cases: outputs, gradients of every input, and norm and sum of every parameter's gradient, for the scalar
 * sum_X <cot.X, out.X>. The class's builder (model_classes.c) says what the inputs are; everything else is here. */
#include "cli/golden/golden.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- what builders use ------------------------------------------------------------------------------------------- */
static int find_input(const lk_golden_model *m, const char *name) {
    for (int i = 0; i < m->n_in; i++) if (!strcmp(m->in[i].name, name)) return i;
    return -1;
}
bool lk_golden_has(lk_golden_model *m, const char *name) { return find_input(m, name) >= 0 || lk_golden_get(m->io, "in.%s", name); }

static lk_val add_input(lk_golden_model *m, const char *name, lk_dtype dtype, lk_shape shape) {
    if (m->n_in == LK_GOLDEN_LEAVES) { lk_graph_fail(m->net.g, LK_EINPUT, "more than %d inputs", LK_GOLDEN_LEAVES); return LK_NONE; }
    lk_val v = lk_input(m->net.g, lk_fmt(m->memory, "in.%s", name), dtype, shape);
    m->in[m->n_in].name = lk_strdup(m->memory, name);
    m->in[m->n_in].v = v;
    m->in[m->n_in].n = lk_numel(shape);
    m->n_in++;
    return v;
}
static lk_shape shape_of(const lk_tensor *t) {
    lk_shape s = { .rank = t->rank };
    for (int i = 0; i < t->rank && i < LK_MAX_RANK; i++) s.d[i] = t->d[i];
    return s;
}
static lk_val from_file(lk_golden_model *m, const char *name, lk_dtype dtype) {
    int at = find_input(m, name);
    if (at >= 0) return m->in[at].v;
    const lk_tensor *t = lk_golden_get(m->io, "in.%s", name);
    if (!t) { lk_graph_fail(m->net.g, LK_EINPUT, "the case gives no input in.%s", name); return LK_NONE; }
    lk_val v = add_input(m, name, dtype, shape_of(t));
    if (dtype == LK_F32) m->in[m->n_in - 1].f64 = lk_golden_f64(t);
    else m->in[m->n_in - 1].i64 = lk_golden_i64(t);
    return v;
}
lk_val lk_golden_input(lk_golden_model *m, const char *name) { return from_file(m, name, LK_F32); }
lk_val lk_golden_ids(lk_golden_model *m, const char *name) { return from_file(m, name, LK_I64); }
const int64_t *lk_golden_ids_values(lk_golden_model *m, const char *name) {
    int at = find_input(m, name);
    return at >= 0 ? m->in[at].i64 : NULL;
}
lk_val lk_golden_given_ids(lk_golden_model *m, const char *name, lk_shape shape, const int64_t *values) {
    lk_val v = add_input(m, name, LK_I64, shape);
    int64_t n = lk_numel(shape), *copy = lk_xmalloc((size_t)(n + 1) * sizeof *copy);
    memcpy(copy, values, (size_t)n * sizeof *copy);
    if (lk_ok(v)) m->in[m->n_in - 1].i64 = copy; else free(copy);
    return v;
}
void lk_golden_bind(lk_golden_model *m, const char *name, lk_val v) {
    int at = find_input(m, name);
    if (at < 0) at = m->n_in++;
    m->in[at].name = name;
    m->in[at].v = v;
    m->in[at].bound = true;
}
void lk_golden_output(lk_golden_model *m, const char *name, lk_val v) {
    if (m->n_out == LK_GOLDEN_LEAVES) { lk_graph_fail(m->net.g, LK_EINPUT, "more than %d outputs", LK_GOLDEN_LEAVES); return; }
    m->out[m->n_out].name = lk_strdup(m->memory, name);
    m->out[m->n_out++].v = v;
}
void lk_golden_weights(lk_golden_model *m, const char *prefix, const char *path) {
    m->weights[m->n_weights].prefix = prefix;
    m->weights[m->n_weights++].path = path;
}

/* ---- what cases use ----------------------------------------------------------------------------------------------- */
lk_golden_model lk_golden_model_new(lk_golden *run, lk_arena *a, lk_graph *g, const char *dir, lk_golden_file *io) {
    return (lk_golden_model){ .run = run, .memory = a, .net = lk_net_root(g), .dir = dir, .io = io };
}
lk_err lk_golden_build(lk_golden_model *m, const char *cls) {
    const char *config = lk_golden_path(m->memory, m->dir, "config.json");
    if (!cls) LK_TRY(lk_model_class(config, &cls));
    lk_golden_claim(m->run, config);
    for (const lk_golden_class *c = lk_golden_classes; c->cls; c++) {
        if (strcmp(c->cls, cls)) continue;
        m->n_out = 0;
        if (m->n_weights == 0) lk_golden_weights(m, "", lk_golden_path(m->memory, m->dir, "model.safetensors"));
        for (int i = 0; i < m->n_weights; i++) lk_golden_claim(m->run, m->weights[i].path);
        LK_TRY(c->build(m));
        return lk_graph_error(m->net.g);
    }
    return lk_error(LK_EINPUT, "no runner for models of class %s", cls);
}
lk_val lk_golden_out(const lk_golden_model *m, const char *name) {
    for (int i = 0; i < m->n_out; i++) if (!strcmp(m->out[i].name, name)) return m->out[i].v;
    return LK_NONE;
}
static lk_err set_inputs(lk_golden_model *m, lk_exec *x) {
    for (int i = 0; i < m->n_in; i++) {
        if (m->in[i].bound) continue;
        if (m->in[i].f64) LK_TRY(lk_exec_set_f64(x, m->in[i].v, m->in[i].f64, m->in[i].n));
        else LK_TRY(lk_exec_set_i64(x, m->in[i].v, m->in[i].i64, m->in[i].n));
    }
    return LK_OK;
}
lk_err lk_golden_exec(lk_golden_model *m, const lk_val *outputs, int n, lk_exec **out) {
    static const char *const ignore[] = { "position_ids", NULL };
    LK_TRY(lk_exec_new(m->net.g, outputs, n, (lk_exec_opts){ .backend = m->run->backend, .pool = m->run->pool }, out));
    for (int i = 0; i < m->n_weights; i++) {
        if (!m->weights[i].st) LK_TRY(lk_st_open(m->weights[i].path, &m->weights[i].st));
        LK_TRY((m->writable ? lk_weights_set : lk_weights_bind)(*out, m->weights[i].st, m->weights[i].prefix, ignore));
    }
    return set_inputs(m, *out);
}
void lk_golden_model_free(lk_golden_model *m) {
    for (int i = 0; i < m->n_in; i++) { free(m->in[i].f64); free(m->in[i].i64); }
    for (int i = 0; i < m->n_weights; i++) lk_st_close(m->weights[i].st);
    m->n_in = m->n_weights = 0;
}
double *lk_golden_read(lk_exec *x, lk_val v, int64_t *n) {
    *n = lk_numel(lk_shape_of(lk_exec_graph(x), v));
    double *d = lk_xmalloc((size_t)(*n + 1) * sizeof *d);
    lk_err e = lk_exec_get_f64(x, v, d, *n);
    if (!e) return d;
    lk_err_free(e);
    free(d);
    return NULL;
}

/* ---- one io file ------------------------------------------------------------------------------------------------------ */
typedef struct {
    lk_golden_model m;
    const json_t *tol, *tol_exact, *norms;    /* of case.json's io entry */
    int n_outs; struct { const char *name; lk_val v, cot; const lk_tensor *want, *cot_values; } outs[LK_GOLDEN_LEAVES];
    lk_val *wrt, *grad; const char **wrt_name; int n_wrt, n_inputs;       /* inputs first, then params */
    double worst_rel;                         /* largest rel_l2 among the gradients' tolerances: for norms without one of their own */
} trial;

static const char *after(const char *s, const char *prefix) { return lk_starts(s, prefix) ? s + strlen(prefix) : NULL; }
static bool tolerance_of(trial *t, const char *name, lk_golden_tol *tol) {
    return lk_golden_tolerance(t->m.run, json_object_get(t->tol_exact, name) ? t->tol_exact : t->tol, name, tol);
}
static lk_err collect_outputs(trial *t) {
    lk_golden_file *io = t->m.io;
    for (int i = 0; i < lk_st_count(io->st); i++) {
        const lk_tensor *w = lk_st_at(io->st, i);
        const char *name = after(w->name, "out.");
        if (!name) continue;
        lk_val v = lk_golden_out(&t->m, name);
        if (!lk_ok(v)) return lk_error(LK_EINPUT, "the model has no output named %s", name);
        if (lk_numel(lk_shape_of(t->m.net.g, v)) != w->numel) return lk_error(LK_ESHAPE, "output %s has %lld values, the case %lld", name, (long long)lk_numel(lk_shape_of(t->m.net.g, v)), (long long)w->numel);
        lk_golden_get(io, "%s", w->name);
        const lk_tensor *cot = lk_golden_get(io, "cot.%s", name);
        if (!cot) return lk_error(LK_EINPUT, "the case gives no cot.%s", name);
        t->outs[t->n_outs].name = name; t->outs[t->n_outs].v = v; t->outs[t->n_outs].want = w; t->outs[t->n_outs].cot_values = cot;
        t->outs[t->n_outs++].cot = lk_input(t->m.net.g, lk_fmt(t->m.memory, "cot.%s", name), LK_F32, lk_shape_of(t->m.net.g, v));
    }
    return t->n_outs ? LK_OK : lk_error(LK_EINPUT, "the io file has no output");
}
static lk_err emit_gradients(trial *t) {
    lk_graph *g = t->m.net.g;
    int nodes = lk_graph_count(g);
    t->wrt = lk_alloc(t->m.memory, (size_t)(nodes + LK_GOLDEN_LEAVES) * sizeof(lk_val));
    t->wrt_name = lk_alloc(t->m.memory, (size_t)(nodes + LK_GOLDEN_LEAVES) * sizeof(char *));
    for (int i = 0; i < t->m.n_in; i++) if (t->m.in[i].f64) { t->wrt_name[t->n_wrt] = t->m.in[i].name; t->wrt[t->n_wrt++] = t->m.in[i].v; }
    t->n_inputs = t->n_wrt;
    for (int id = 0; id < nodes; id++) {
        const lk_node *n = lk_graph_node(g, (lk_val){ id });
        if (n->op != LK_OP_param) continue;
        t->wrt_name[t->n_wrt] = lk_strdup(t->m.memory, n->name);
        t->wrt[t->n_wrt++] = (lk_val){ id };
    }
    t->grad = lk_alloc(t->m.memory, (size_t)t->n_wrt * sizeof(lk_val));
    lk_val y = LK_NONE;
    for (int i = 0; i < t->n_outs; i++) {
        lk_val part = lk_sum_all(g, lk_mul(g, t->outs[i].v, t->outs[i].cot));
        y = i ? lk_add(g, y, part) : part;
    }
    lk_vjp(g, y, LK_NONE, t->wrt, t->n_wrt, t->grad);
    return lk_graph_error(g);
}
static void compare_outputs(trial *t, lk_exec *x, double want_dot) {
    double dot = 0, slack = 0;
    for (int i = 0; i < t->n_outs; i++) {
        int64_t n;
        char *name = lk_fmt(t->m.memory, "out.%s", t->outs[i].name);
        double *got = lk_golden_read(x, t->outs[i].v, &n), *want = lk_golden_f64(t->outs[i].want), *cot = lk_golden_f64(t->outs[i].cot_values), c2 = 0, w2 = 0;
        lk_golden_tol tol;
        if (tolerance_of(t, name, &tol)) lk_golden_tensor(t->m.run, name, got, want, n, tol);
        for (int64_t k = 0; got && k < n; k++) { dot += got[k] * cot[k]; c2 += cot[k] * cot[k]; w2 += want[k] * want[k]; }
        slack += tol.rel_l2 * sqrt(c2 * w2);                     /* Cauchy-Schwarz of the output's own tolerance */
        free(got); free(want); free(cot);
    }
    lk_golden_number(t->m.run, "cot_dot_out", dot, want_dot, slack);
}
/* A parameter the peer keeps in one piece and we do too, but whose gradient the case gives in parts: "NAME[rows 0:32]". */
typedef struct { int at; int64_t from, n; /* elements; n < 0: all */ } part;
static part find_part(const trial *t, const char *name, int first, int end) {
    const char *bracket = strstr(name, "[rows ");
    size_t len = bracket ? (size_t)(bracket - name) : strlen(name);
    part p = { -1, 0, -1 };
    for (int k = first; k < end; k++) if (strlen(t->wrt_name[k]) == len && !memcmp(t->wrt_name[k], name, len)) p.at = k;
    long long lo, hi;
    if (p.at < 0 || !bracket) return p;
    lk_shape s = lk_shape_of(t->m.net.g, t->wrt[p.at]);
    if (sscanf(bracket, "[rows %lld:%lld]", &lo, &hi) != 2 || lo < 0 || hi <= lo || s.rank < 1 || hi > s.d[0]) { p.at = -1; return p; }
    p.from = lo * (lk_numel(s) / s.d[0]);
    p.n = (hi - lo) * (lk_numel(s) / s.d[0]);
    return p;
}
static double *read_part(lk_exec *x, lk_val v, part p, int64_t *n) {
    double *all = lk_golden_read(x, v, n);
    if (!all || p.n < 0) return all;
    memmove(all, all + p.from, (size_t)p.n * sizeof *all);
    *n = p.n;
    return all;
}
static void compare_stored_gradients(trial *t, lk_exec *x) {
    lk_golden_file *io = t->m.io;
    for (int i = 0; i < lk_st_count(io->st); i++) {
        const lk_tensor *w = lk_st_at(io->st, i);
        const char *input = after(w->name, "grad.in."), *param = after(w->name, "grad.param."), *name = input ? input : param;
        if (!name) continue;
        lk_golden_get(io, "%s", w->name);
        part p = find_part(t, name, input ? 0 : t->n_inputs, input ? t->n_inputs : t->n_wrt);
        int at = p.at;
        if (at < 0) { lk_golden_check(t->m.run, false, "%s: the model has nothing of that name", w->name); continue; }
        lk_golden_tol tol;
        int64_t n = w->numel;
        double *got = lk_ok(t->grad[at]) ? read_part(x, t->grad[at], p, &n) : lk_xcalloc((size_t)n + 1, sizeof *got), *want = lk_golden_f64(w);
        if (n != w->numel) lk_golden_check(t->m.run, false, "%s: %lld values, want %lld", w->name, (long long)n, (long long)w->numel);
        else if (tolerance_of(t, w->name, &tol)) lk_golden_tensor(t->m.run, w->name, got, want, n, tol);
        free(got); free(want);
    }
}
static double largest_norm(const json_t *norms) {
    double top = 0; const char *name; json_t *v;
    json_object_foreach((json_t *)norms, name, v) {
        double l2 = json_number_value(json_array_get(v, 0));
        if (l2 > top) top = l2;
    }
    return top;
}
static double worst_gradient_tolerance(const json_t *tol) {
    double top = 0; const char *name; json_t *v;
    json_object_foreach((json_t *)tol, name, v) {
        double rel = json_number_value(json_object_get(v, "rel_l2"));
        if (lk_starts(name, "grad.") && rel > top) top = rel;
    }
    return top;
}
/* Norm and sum of one parameter's gradient. The sum of an error e of norm |e| is at most sqrt(n) |e|. */
static void compare_norm(trial *t, lk_exec *x, const char *param, part p, double want_l2, double want_sum, double floor) {
    int64_t n = 0;
    double *got = lk_ok(t->grad[p.at]) ? read_part(x, t->grad[p.at], p, &n) : NULL, l2 = 0, sum = 0;
    for (int64_t k = 0; got && k < n; k++) { l2 += got[k] * got[k]; sum += got[k]; }
    l2 = sqrt(l2);
    free(got);
    char *name = lk_fmt(t->m.memory, "grad.param.%s", param);
    const json_t *own = json_object_get(json_object_get(t->tol_exact, name) ? t->tol_exact : t->tol, name);
    double rel = own ? json_number_value(json_object_get(own, "rel_l2")) : t->worst_rel, bound = rel * want_l2 + floor;
    double d_l2 = fabs(l2 - want_l2), d_sum = fabs(sum - want_sum), sum_bound = bound * sqrt((double)(n ? n : 1));
    lk_golden_check(t->m.run, d_l2 <= bound && d_sum <= sum_bound, "%-100s norm %.6g error %.2e (tol %.1e)  sum error %.2e (tol %.1e)", name, l2, d_l2, bound, d_sum, sum_bound);
}
static void compare_norms(trial *t, lk_exec *x) {
    double floor = 1e-5 * largest_norm(t->norms);
    bool *listed = lk_alloc(t->m.memory, (size_t)t->n_wrt * sizeof *listed);
    const char *name; json_t *v;
    t->worst_rel = worst_gradient_tolerance(json_object_size(t->tol_exact) ? t->tol_exact : t->tol);
    json_object_foreach((json_t *)t->norms, name, v) {
        part p = find_part(t, name, t->n_inputs, t->n_wrt);
        if (p.at >= 0) listed[p.at] = true;
        if (json_is_null(v)) lk_golden_check(t->m.run, p.at < 0 || !lk_ok(t->grad[p.at]), "grad.param.%-89s must not exist", name);
        else if (p.at < 0) lk_golden_check(t->m.run, false, "%s: the model has no such parameter", name);
        else compare_norm(t, x, name, p, json_number_value(json_array_get(v, 0)), json_number_value(json_array_get(v, 1)), floor);
    }
    for (int k = t->n_inputs; k < t->n_wrt; k++)
        if (!listed[k] && lk_ok(t->grad[k]) && t->m.n_weights == 1)
            lk_golden_check(t->m.run, false, "%s: a parameter the case does not list", t->wrt_name[k]);
}
static lk_err run_exec(trial *t, lk_exec **x) {
    int n = 0;
    lk_val *want = lk_alloc(t->m.memory, (size_t)(t->n_outs + t->n_wrt) * sizeof(lk_val));
    for (int i = 0; i < t->n_outs; i++) want[n++] = t->outs[i].v;
    for (int i = 0; i < t->n_wrt; i++) if (lk_ok(t->grad[i])) want[n++] = t->grad[i];
    LK_TRY(lk_golden_exec(&t->m, want, n, x));
    for (int i = 0; i < t->n_outs; i++) {
        double *cot = lk_golden_f64(t->outs[i].cot_values);
        lk_err e = lk_exec_set_f64(*x, t->outs[i].cot, cot, t->outs[i].want->numel);
        free(cot);
        if (e) return e;
    }
    return lk_exec_run(*x);
}
static lk_err run_io(lk_golden *run, const char *dir, const char *cls, const json_t *entry, lk_golden_file *io) {
    lk_arena *a = lk_arena_new();
    lk_graph *g = lk_graph_new();
    lk_exec *x = NULL;
    trial *t = lk_alloc(a, sizeof *t);
    *t = (trial){ .m = lk_golden_model_new(run, a, g, dir, io), .tol = json_object_get(entry, "tol"), .tol_exact = json_object_get(entry, "tol_exact_sinusoid"),
                  .norms = json_object_get(entry, "param_grad_l2_and_sum") };
    t->m.hints = entry;
    lk_err e = lk_golden_build(&t->m, cls);
    if (!e) e = collect_outputs(t);
    if (!e) e = emit_gradients(t);
    if (!e) e = run_exec(t, &x);
    if (!e) {
        compare_outputs(t, x, json_number_value(json_object_get(entry, "cot_dot_out")));
        compare_stored_gradients(t, x);
        compare_norms(t, x);
    } else lk_golden_know(io, "");                     /* the error is the finding; its unread tensors are not more of them */
    lk_exec_free(x);
    lk_golden_model_free(&t->m);
    lk_graph_free(g);
    lk_arena_free(a);
    return e;
}
lk_err lk_golden_model_case(lk_golden *run, const char *path, const char *dir, json_t *c) {
    const char *cls = NULL, *key; json_t *entry;
    LK_TRY(lk_json_str(c, "cls", path, NULL, &cls));
    if (!cls) return lk_error(LK_EINPUT, "%s: no cls", path);
    json_t *all = json_object_get(c, "io");
    if (json_object_size(all) == 0) return lk_error(LK_EINPUT, "%s: no io", path);
    json_object_foreach(all, key, entry) {
        char *file = lk_xfmt("%s/%s.safetensors", dir, key);
        lk_golden_file io;
        printf(" %s %s\n", cls, file);
        lk_err e = lk_golden_open(run, file, &io);
        if (!e) e = run_io(run, dir, cls, entry, &io);
        lk_golden_failed(run, file, e);
        lk_golden_close(run, &io);
        free(file);
    }
    return LK_OK;
}
