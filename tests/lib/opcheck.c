/* The checker of single operations; see opcheck.h for what it checks. One graph is built per case,
 *     y = op(x...),  s = <u, y>,  g = ds/dx,  t = <w, g>,  h = dt/d(x, u)
 * and run by several executors: the reference for values and differences, the cpu variants for bits. */
#include "tests/lib/opcheck.h"
#include "tests/lib/lk_test.h"
#include "graph/internal.h"      /* lk_emit: the operations that only gradients use have no public builder */

enum { MAX_OUT = 2 + 3 * OP_MAX_IN, MAX_LEAVES = 2 * OP_MAX_IN + 2, MAX_DIFFERENCES = 24 };
static const double tol_value = 1e-5;       /* binary32: sums of up to a few thousand terms */
static const double tol_grad32 = 1e-4;      /* gradients of gradients lose some digits more */
static const double tol_difference = 2e-6;  /* central differences with h = 2^-16: h^2 f'''/6, and constants rounded to binary32 */
static const double tol_oracle = 1e-6;      /* the reference against the decomposition in binary64: the same rounded constants */

/* ---- numbers -------------------------------------------------------------------------------------- */
static uint64_t next(op_rng *r) {            /* splitmix64 */
    uint64_t z = r->s += 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}
double op_uniform(op_rng *r) { return (double)(next(r) >> 40) * 0x1p-24; }
double op_normal(op_rng *r) {
    double sum = -6;
    for (int i = 0; i < 12; i++) sum += op_uniform(r);
    return (float)sum;
}

double op_error(const double *got, const double *want, int64_t n) {
    double square = 0, worst = 0;
    for (int64_t i = 0; i < n; i++) square += want[i] * want[i] / (double)n;
    double floor = sqrt(square) > 1e-30 ? sqrt(square) : 1e-30;
    for (int64_t i = 0; i < n; i++) {
        if (got[i] == want[i]) continue;                         /* infinities */
        double e = fabs(got[i] - want[i]) / fmax(fabs(want[i]), floor);
        if (!(e <= worst)) worst = isnan(e) ? INFINITY : e;
    }
    return worst;
}

bool op_close(const double *got, const double *want, int64_t n, double tol, double *error) {
    int64_t largest = -1;
    for (int64_t i = 0; i < n; i++) if (isfinite(want[i]) && want[i] != 0 && (largest < 0 || fabs(want[i]) > fabs(want[largest]))) largest = i;
    *error = op_error(got, want, n);
    if (largest < 0) return *error <= tol;
    double *planted = lk_xmalloc(sizeof(double) * (size_t)n);
    memcpy(planted, got, sizeof(double) * (size_t)n);
    planted[largest] *= 1.01;
    bool refused = !(op_error(planted, want, n) <= tol);
    free(planted);
    return refused && *error <= tol;
}

int op_variants(op_variant *v) {
    int n = 0;
    lk_isa best = LK_ISA_SCALAR;
    for (lk_isa i = LK_ISA_SCALAR; i <= LK_ISA_AVX512; i++) {
        const lk_backend *b;
        lk_err e = lk_backend_cpu(i, &b);
        if (e) { lk_err_free(e); continue; }
        best = i;
        v[n] = (op_variant){.isa = i, .threads = 1};
        snprintf(v[n].name, sizeof v[n].name, "%s, 1 thread", lk_isa_name(b)); n++;
    }
    for (int t = 2; t <= 3; t++, n++) {
        v[n] = (op_variant){.isa = t == 2 ? best : LK_ISA_SCALAR, .threads = t};
        snprintf(v[n].name, sizeof v[n].name, "%s, %d threads", t == 2 ? "best" : "scalar", t);
    }
    return n;
}

/* ---- the graph of a case ---------------------------------------------------------------------------- */
typedef struct { lk_val val; double *x; int64_t *ids; int64_t n; bool differentiable; } leaf;
typedef struct {
    const op_case *c; char name[160];
    lk_graph *g;
    int n_leaves, n_inputs; leaf leaves[MAX_LEAVES];      /* the inputs, then u, then w */
    lk_val y, s, t, decomposed;
    int n_grads; lk_val grad[OP_MAX_IN]; int grad_leaf[OP_MAX_IN];          /* g, by leaf */
    int n_grads2; lk_val grad2[OP_MAX_IN + 1]; int grad2_leaf[OP_MAX_IN + 1];  /* h */
} subject;

static void fill_shuffled(leaf *l, op_rng *r, double offset) {
    for (int64_t i = 0; i < l->n; i++) l->x[i] = (float)((double)(i - l->n / 2) * 0.1 + offset);
    for (int64_t i = l->n - 1; i > 0; i--) { int64_t j = (int64_t)(op_uniform(r) * (double)(i + 1)); double v = l->x[i]; l->x[i] = l->x[j]; l->x[j] = v; }
}
static void fill_warp(leaf *l, op_rng *r) {
    for (int64_t i = 0; i + 5 < l->n; i += 6) {
        double angle = 0.3 + op_uniform(r), size = 0.7 + 0.5 * op_uniform(r);
        double m[6] = {size * cos(angle), -size * sin(angle), 1.3 * op_uniform(r), size * sin(angle), size * cos(angle), -1.4 * op_uniform(r)};
        for (int k = 0; k < 6; k++) l->x[i + k] = (float)m[k];
    }
}
static void fill(leaf *l, const op_input *in, op_rng *r) {
    if (in->kind == IN_EVEN || in->kind == IN_ODD) { fill_shuffled(l, r, in->kind == IN_ODD ? 0.05 : 0); return; }
    if (in->kind == IN_WARP) { fill_warp(l, r); return; }
    for (int64_t i = 0; i < l->n; i++) switch (in->kind) {
        case IN_POSITIVE: l->x[i] = (float)(0.4 + 1.8 * op_uniform(r)); break;
        case IN_NONZERO:  l->x[i] = (float)((0.3 + 1.7 * op_uniform(r)) * (op_uniform(r) < 0.5 ? -1 : 1)); break;
        case IN_TIED:     l->x[i] = floor(op_uniform(r) * 3) - 1; break;
        case IN_SWITCH:   l->x[i] = op_uniform(r) < 0.5; break;
        case IN_TIMES:    l->x[i] = floor(op_uniform(r) * 1000); break;
        case IN_IDS:      l->ids[i] = (int64_t)(op_uniform(r) * (double)in->below); break;
        case IN_COUNT:    l->ids[i] = in->below; break;
        default:          l->x[i] = op_normal(r);
    }
}

static leaf *add_leaf(subject *s, const char *name, const op_input *in, op_rng *r) {
    leaf *l = &s->leaves[s->n_leaves++];
    bool whole = in->kind == IN_IDS || in->kind == IN_COUNT;
    *l = (leaf){.val = lk_input(s->g, name, whole ? LK_I64 : LK_F32, in->shape), .n = lk_numel(in->shape), .differentiable = !in->fixed && !whole};
    l->x = lk_xcalloc((size_t)l->n + 1, sizeof *l->x);
    l->ids = lk_xcalloc((size_t)l->n + 1, sizeof *l->ids);
    fill(l, in, r);
    return l;
}
/* <a random cotangent, v> */
static lk_val weighed(subject *s, const char *name, lk_val v, op_rng *r) {
    leaf *l = add_leaf(s, name, &(op_input){.kind = IN_NORMAL, .shape = lk_shape_of(s->g, v)}, r);
    return lk_sum_all(s->g, lk_mul(s->g, l->val, v));
}

static bool has_gradient(lk_op op) { return lk_op_at(op)->grad == LK_GRAD_VJP || lk_op_at(op)->grad == LK_GRAD_DEC; }

static void differentiate(subject *s, op_rng *r) {
    lk_val wrt[OP_MAX_IN + 1], out[OP_MAX_IN + 1];
    int at[OP_MAX_IN + 1], n = 0;
    leaf *u = add_leaf(s, "u", &(op_input){.kind = IN_NORMAL, .shape = lk_shape_of(s->g, s->y)}, r);
    int u_at = s->n_leaves - 1;
    s->s = lk_sum_all(s->g, lk_mul(s->g, u->val, s->y));
    for (int i = 0; i < s->n_inputs; i++) if (s->leaves[i].differentiable) { at[n] = i; wrt[n++] = s->leaves[i].val; }
    lk_vjp(s->g, s->y, u->val, wrt, n, out);
    s->t = LK_NONE;
    for (int i = 0; i < n; i++) {
        s->grad_leaf[s->n_grads] = at[i]; s->grad[s->n_grads++] = out[i];
        if (!lk_ok(out[i])) continue;
        char name[16]; snprintf(name, sizeof name, "w%d", i);
        lk_val part = weighed(s, name, out[i], r);
        s->t = lk_ok(s->t) ? lk_add(s->g, s->t, part) : part;
    }
    if (!lk_ok(s->t)) return;
    at[n] = u_at; wrt[n++] = s->leaves[u_at].val;
    lk_vjp(s->g, s->t, LK_NONE, wrt, n, out);
    for (int i = 0; i < n; i++) { s->grad2_leaf[s->n_grads2] = at[i]; s->grad2[s->n_grads2++] = out[i]; }
}

/* An operation whose cotangent is zero: nothing is emitted for it. */
static void check_no_gradient(subject *s) {
    for (int i = 0; i < s->n_inputs; i++) {
        lk_val out = LK_NONE;
        if (s->leaves[i].differentiable) lk_vjp(s->g, lk_sum_all(s->g, s->y), LK_NONE, &s->leaves[i].val, 1, &out);
        CHECK_MSG(!lk_ok(out), "%s: input %d has a gradient", s->name, i);
    }
}

static bool build(subject *s, const op_case *c, uint64_t seed) {
    *s = (subject){.c = c, .g = lk_graph_new(), .y = LK_NONE, .s = LK_NONE, .t = LK_NONE, .decomposed = LK_NONE};
    snprintf(s->name, sizeof s->name, "%s (%s)", lk_op_name(c->op), c->what ? c->what : "plain");
    op_rng r = {seed * 1000003u + (uint64_t)c->op};
    lk_val in[OP_MAX_IN];
    int n_in = 0, most = lk_op_at(c->op)->hi < OP_MAX_IN ? lk_op_at(c->op)->hi : OP_MAX_IN;
    while (n_in < most && (c->in[n_in].kind != IN_ABSENT || (n_in + 1 < OP_MAX_IN && c->in[n_in + 1].kind != IN_ABSENT))) {
        char name[16]; snprintf(name, sizeof name, "x%d", n_in);
        in[n_in] = c->in[n_in].kind == IN_ABSENT ? LK_NONE : add_leaf(s, name, &c->in[n_in], &r)->val;
        n_in++;
    }
    s->n_inputs = s->n_leaves;
    lk_attr attr = c->attr;
    s->y = lk_emit(s->g, c->op, in, n_in, &attr);
    if (lk_op_at(c->op)->decompose) s->decomposed = lk_decompose(s->g, s->y);
    if (has_gradient(c->op)) differentiate(s, &r); else check_no_gradient(s);
    lk_err e = lk_graph_error(s->g);
    bool ok = CHECK_MSG(!e && lk_ok(s->y), "%s: %s", s->name, lk_err_text(e));
    lk_err_free(e);
    return ok;
}
static void drop(subject *s) {
    for (int i = 0; i < s->n_leaves; i++) { free(s->leaves[i].x); free(s->leaves[i].ids); }
    lk_graph_free(s->g);
}

/* ---- running ------------------------------------------------------------------------------------------ */
typedef struct { lk_exec *exec; lk_pool *pool; } running;
static bool start(const subject *s, const lk_backend *b, int threads, const lk_val *out, int n, running *r) {
    *r = (running){.pool = threads > 1 ? lk_pool_new(threads) : NULL};
    lk_err e = lk_exec_new(s->g, out, n, (lk_exec_opts){.backend = b, .pool = r->pool}, &r->exec);
    for (int i = 0; i < s->n_leaves && !e; i++) {
        const leaf *l = &s->leaves[i];
        e = lk_graph_node(s->g, l->val)->dtype == LK_I64 ? lk_exec_set_i64(r->exec, l->val, l->ids, l->n) : lk_exec_set_f64(r->exec, l->val, l->x, l->n);
    }
    if (!e) e = lk_exec_run(r->exec);
    bool ok = CHECK_MSG(!e, "%s: %s", s->name, lk_err_text(e));
    lk_err_free(e);
    return ok;
}
static void stop(running *r) { lk_exec_free(r->exec); if (r->pool) lk_pool_free(r->pool); }
static double *read_value(const subject *s, running *r, lk_val v) {
    int64_t n = lk_numel(lk_shape_of(s->g, v));
    double *x = lk_xcalloc((size_t)n + 1, sizeof *x);
    CHECK_OK(lk_exec_get_f64(r->exec, v, x, n));
    return x;
}

/* ---- differences ---------------------------------------------------------------------------------------- */
/* d scalar / d element i of a leaf. */
static double difference(const subject *s, running *r, lk_val scalar, leaf *l, int64_t i) {
    const double h = 0x1p-16, was = l->x[i];
    double f[2];
    for (int k = 0; k < 2; k++) {
        l->x[i] = was + (k ? h : -h);
        CHECK_OK(lk_exec_set_f64(r->exec, l->val, l->x, l->n));
        CHECK_OK(lk_exec_run(r->exec));
        CHECK_OK(lk_exec_get_f64(r->exec, scalar, &f[k], 1));
    }
    l->x[i] = was;
    CHECK_OK(lk_exec_set_f64(r->exec, l->val, l->x, l->n));
    (void)s;
    return (f[1] - f[0]) / (2 * h);
}

/* The gradients of a scalar, as nodes, against its differences, at up to MAX_DIFFERENCES elements a leaf. */
static void check_gradients(subject *s, const char *order, lk_val scalar, int n, const lk_val *grad, const int *leaf_of) {
    running all, one;
    lk_val outs[OP_MAX_IN + 1]; int n_outs = 0;
    for (int i = 0; i < n; i++) if (lk_ok(grad[i])) outs[n_outs++] = grad[i];
    if (n_outs && !start(s, lk_backend_ref(), 1, outs, n_outs, &all)) return;
    if (!start(s, lk_backend_ref(), 1, &scalar, 1, &one)) return;
    op_rng r = {77};
    for (int i = 0; i < n; i++) {
        leaf *l = &s->leaves[leaf_of[i]];
        double *g = lk_ok(grad[i]) ? read_value(s, &all, grad[i]) : lk_xcalloc((size_t)l->n, sizeof *g);
        double got[MAX_DIFFERENCES], want[MAX_DIFFERENCES], error = 0;
        int m = 0;
        for (; m < MAX_DIFFERENCES && m < l->n; m++) {
            int64_t at = l->n <= MAX_DIFFERENCES ? m : (int64_t)(op_uniform(&r) * (double)l->n);
            got[m] = g[at]; want[m] = difference(s, &one, scalar, l, at);
        }
        bool nothing = true;                   /* no gradient: differences may be rounding noise */
        for (int k = 0; k < m; k++) nothing = nothing && got[k] == 0 && fabs(want[k]) < 1e-8;
        bool ok = nothing || op_close(got, want, m, tol_difference, &error);
        CHECK_MSG(ok, "%s: %s gradient of input %d is off by %.3g (allowed %.3g): %.9g for %.9g", s->name, order, leaf_of[i], error, tol_difference, got[0], want[0]);
        free(g);
    }
    if (n_outs) stop(&all);
    stop(&one);
}

/* ---- values and bits -------------------------------------------------------------------------------------- */
static int outputs_of(const subject *s, lk_val *out) {
    int n = 0;
    out[n++] = s->y;
    if (lk_ok(s->decomposed)) out[n++] = s->decomposed;
    for (int i = 0; i < s->n_grads; i++) if (lk_ok(s->grad[i])) out[n++] = s->grad[i];
    for (int i = 0; i < s->n_grads2; i++) if (lk_ok(s->grad2[i])) out[n++] = s->grad2[i];
    return n;
}

static void check_oracle(const subject *s) {
    if (!lk_ok(s->decomposed)) return;
    running r; double error;
    if (!start(s, lk_backend_ref(), 1, (lk_val[]){s->y, s->decomposed}, 2, &r)) return;
    double *y = read_value(s, &r, s->y), *d = read_value(s, &r, s->decomposed);
    bool ok = op_close(d, y, lk_numel(lk_shape_of(s->g, s->y)), tol_oracle, &error);
    CHECK_MSG(ok, "%s: in binary64 its decomposition differs by %.3g (allowed %.3g)", s->name, error, tol_oracle);
    free(y); free(d); stop(&r);
}

static bool same_bits(const double *a, const double *b, int64_t n) {
    for (int64_t i = 0; i < n; i++) if (memcmp(&a[i], &b[i], sizeof *a) && !(isnan(a[i]) && isnan(b[i]))) return false;
    return true;
}

static void check_cpu(const subject *s) {
    lk_val out[MAX_OUT];
    op_variant v[OP_MAX_VARIANTS];
    double *want[MAX_OUT], *first[MAX_OUT];
    int n = outputs_of(s, out), variants = op_variants(v);
    running ref;
    if (!start(s, lk_backend_ref(), 1, out, n, &ref)) return;
    for (int k = 0; k < n; k++) { want[k] = read_value(s, &ref, out[k]); first[k] = NULL; }
    stop(&ref);
    for (int i = 0; i < variants; i++) {
        const lk_backend *b; running r;
        CHECK_OK(lk_backend_cpu(v[i].isa, &b));
        if (!start(s, b, v[i].threads, out, n, &r)) break;
        for (int k = 0; k < n; k++) {
            int64_t count = lk_numel(lk_shape_of(s->g, out[k]));
            double *x = read_value(s, &r, out[k]), error, tol = k == 0 || (k == 1 && lk_ok(s->decomposed)) ? (s->c->tol > 0 ? s->c->tol : tol_value) : tol_grad32;
            if (i) { CHECK_MSG(same_bits(x, first[k], count), "%s: output %d has other bits with %s than with %s", s->name, k, v[i].name, v[0].name); free(x); continue; }
            first[k] = x;
            bool ok = op_close(x, want[k], count, tol, &error);
            CHECK_MSG(ok, "%s: output %d of %s is off by %.3g (allowed %.3g)", s->name, k, v[i].name, error, tol);
        }
        if (!i && lk_ok(s->decomposed))
            CHECK_MSG(same_bits(first[0], first[1], lk_numel(lk_shape_of(s->g, s->y))), "%s: fused and decomposed differ in bits", s->name);
        stop(&r);
    }
    for (int k = 0; k < n; k++) { free(want[k]); free(first[k]); }
}

/* ---- a case, a table ---------------------------------------------------------------------------------------- */
static bool has_ties(const op_case *c) {
    for (int i = 0; i < OP_MAX_IN; i++) if (c->in[i].kind == IN_TIED) return true;
    return false;
}

void op_check(const op_case *c) {
    for (uint64_t seed = 1; seed <= (c->big ? 1 : 2); seed++) {
        subject s;
        if (build(&s, c, seed)) {
            check_oracle(&s);
            if (!c->big && !has_ties(c)) {
                if (s.n_grads) check_gradients(&s, "first", s.s, s.n_grads, s.grad, s.grad_leaf);
                if (s.n_grads2) check_gradients(&s, "second", s.t, s.n_grads2, s.grad2, s.grad2_leaf);
            }
            check_cpu(&s);
        }
        drop(&s);
    }
}

bool op_same_bits(const op_case *c, const lk_backend *other, const char *what) {
    subject s;
    lk_val out[MAX_OUT];
    const lk_backend *cpu; running a, b;
    CHECK_OK(lk_backend_cpu(LK_ISA_SCALAR, &cpu));
    bool same = build(&s, c, 1);
    int n = same ? outputs_of(&s, out) : 0;
    if (same && start(&s, cpu, 1, out, n, &a) && start(&s, other, 1, out, n, &b)) {
        for (int k = 0; k < n; k++) {
            double *want = read_value(&s, &a, out[k]), *got = read_value(&s, &b, out[k]);
            same = CHECK_MSG(same_bits(got, want, lk_numel(lk_shape_of(s.g, out[k]))), "%s: output %d has other bits with %s than with cpu", s.name, k, what) && same;
            free(want); free(got);
        }
        stop(&a); stop(&b);
    } else same = false;
    drop(&s);
    return same;
}

double op_distance(const op_case *c, const lk_backend *other) {
    subject s;
    lk_val out[MAX_OUT];
    const lk_backend *cpu; running a, b;
    double worst = NAN;
    CHECK_OK(lk_backend_cpu(LK_ISA_AUTO, &cpu));
    bool built = build(&s, c, 1);
    int n = built ? outputs_of(&s, out) : 0;
    if (built && start(&s, cpu, 1, out, n, &a) && start(&s, other, 1, out, n, &b)) {
        worst = 0;
        for (int k = 0; k < n; k++) {
            double *want = read_value(&s, &a, out[k]), *got = read_value(&s, &b, out[k]), largest = 0, apart = 0;
            for (int64_t i = 0; i < lk_numel(lk_shape_of(s.g, out[k])); i++) {
                if (!isfinite(want[i]) && !memcmp(&want[i], &got[i], sizeof *got)) continue;
                if (!(fabs(got[i] - want[i]) <= apart)) apart = fabs(got[i] - want[i]);       /* NaN stays */
                if (fabs(want[i]) > largest) largest = fabs(want[i]);
            }
            if (!(apart <= worst * largest)) worst = apart / largest;
            free(want); free(got);
        }
        stop(&a); stop(&b);
    }
    drop(&s);
    return worst;
}

static bool ran[LK_OP_COUNT];
void op_check_row(const op_table *t, lk_op op) {
    ran[op] = true;
    for (int i = 0; i < t->n; i++) if (t->cases[i].op == op) op_check(&t->cases[i]);
}
void op_check_all_ran(const op_table *t) {
    for (int i = 0; i < t->n; i++) CHECK_MSG(ran[t->cases[i].op], "the cases of %s were not run: add it to tests/ops/test_%s.c", lk_op_name(t->cases[i].op), t->family);
}
