/* Whole graphs. A small network (convolution, group norm, attention, linear) trained by AdamW for some steps:
 * the same bits on every instruction set and thread count, near the binary64 reference. And gradients of
 * gradients at network scale: the WGAN-GP penalty (Gulrajani et al. 2017, eq. 3) and R1 (Mescheder et al.
 * 2018, eq. 9) of a small critic, their parameter gradients against central differences in binary64. */
#include "tests/lib/lk_test.h"
#include "tests/lib/opcheck.h"

enum { MAX_PARAMS = 24, STEPS = 4, BATCH = 3 };
typedef struct { lk_val val; float *start; int64_t n; } param;
typedef struct { lk_graph *g; int n; param param[MAX_PARAMS]; op_rng rng; } net;

static lk_val weight(net *m, const char *name, double size, lk_shape s) {
    param *p = &m->param[m->n++];
    p->val = lk_param(m->g, name, s, LK_MEM_ADAPTER);
    p->n = lk_numel(s);
    p->start = lk_xcalloc((size_t)p->n, sizeof *p->start);
    for (int64_t i = 0; i < p->n; i++) p->start[i] = (float)(op_normal(&m->rng) * size);
    return p->val;
}
static void net_free(net *m) {
    for (int i = 0; i < m->n; i++) free(m->param[i].start);
    lk_graph_free(m->g);
}
static void set_params(const net *m, lk_exec *e) { for (int i = 0; i < m->n; i++) CHECK_OK(lk_exec_set(e, m->param[i].val, m->param[i].start, m->param[i].n)); }

/* ---- a training step -------------------------------------------------------------------------------- */
/* Predicts noise that was added to a picture: pictures [BATCH, 3, 8, 8]. */
static lk_val predict(net *m, lk_val x) {
    lk_graph *g = m->g;
    lk_conv same = {.pad = {1, 1, 1, 1}};
    lk_val h = lk_conv2d(g, x, weight(m, "conv_in.weight", 0.2, LK_SHAPE(8, 3, 3, 3)), weight(m, "conv_in.bias", 0.1, LK_SHAPE(8)), same);
    h = lk_group_norm(g, h, weight(m, "norm.weight", 1, LK_SHAPE(8)), weight(m, "norm.bias", 0.1, LK_SHAPE(8)), (lk_norm){.groups = 4, .eps = 1e-5, .silu = true});
    lk_val tokens = lk_permute(g, lk_reshape(g, h, LK_SHAPE(BATCH, 8, 64)), (int[]){0, 2, 1});
    lk_val t = lk_layer_norm(g, tokens, weight(m, "norm1.weight", 1, LK_SHAPE(8)), weight(m, "norm1.bias", 0.1, LK_SHAPE(8)), 1e-5);
    lk_val q = lk_linear(g, t, weight(m, "to_q.weight", 0.4, LK_SHAPE(8, 8)), LK_NONE), k = lk_linear(g, t, weight(m, "to_k.weight", 0.4, LK_SHAPE(8, 8)), LK_NONE);
    lk_val v = lk_linear(g, t, weight(m, "to_v.weight", 0.4, LK_SHAPE(8, 8)), LK_NONE), a = lk_sdpa(g, q, k, v, LK_NONE, (lk_sdpa_attr){.heads = 2});
    tokens = lk_add(g, tokens, lk_linear(g, a, weight(m, "to_out.weight", 0.4, LK_SHAPE(8, 8)), weight(m, "to_out.bias", 0.1, LK_SHAPE(8))));
    tokens = lk_add(g, tokens, lk_linear(g, lk_geglu(g, lk_linear(g, tokens, weight(m, "ff.0.weight", 0.4, LK_SHAPE(32, 8)), LK_NONE)), weight(m, "ff.2.weight", 0.3, LK_SHAPE(8, 16)), LK_NONE));
    h = lk_reshape(g, lk_permute(g, tokens, (int[]){0, 2, 1}), LK_SHAPE(BATCH, 8, 8, 8));
    h = lk_upsample_nearest(g, lk_avg_pool2d(g, h, (lk_pool2d){.kernel = {2, 2}, .stride = {2, 2}}), 8, 8);
    return lk_conv2d(g, h, weight(m, "conv_out.weight", 0.2, LK_SHAPE(3, 8, 3, 3)), weight(m, "conv_out.bias", 0.1, LK_SHAPE(3)), same);
}

typedef struct { net m; lk_val step, bc1, bc2, loss; } training;
static training training_new(void) {
    training t = {.m = {.g = lk_graph_new(), .rng = {11}}};
    lk_graph *g = t.m.g;
    lk_shape picture = LK_SHAPE(BATCH, 3, 8, 8);
    t.step = lk_input(g, "step", LK_I64, LK_SCALAR); t.bc1 = lk_input(g, "bc1", LK_F32, LK_SCALAR); t.bc2 = lk_input(g, "bc2", LK_F32, LK_SCALAR);
    lk_val seed = lk_const(g, LK_I64, LK_SCALAR, (int64_t[]){5}), samples = lk_const(g, LK_I64, LK_SHAPE(BATCH), (int64_t[]){0, 1, 2});
    lk_val noise = lk_randn(g, seed, t.step, samples, "noise", picture), clean = lk_randu(g, seed, lk_const(g, LK_I64, LK_SCALAR, (int64_t[]){0}), samples, "pictures", picture);
    t.loss = lk_mse(g, predict(&t.m, lk_add(g, clean, lk_scale(g, noise, 0.5))), noise);
    lk_val wrt[MAX_PARAMS], grad[MAX_PARAMS];
    for (int i = 0; i < t.m.n; i++) wrt[i] = t.m.param[i].val;
    lk_vjp(g, t.loss, LK_NONE, wrt, t.m.n, grad);
    lk_val clip = lk_min(g, lk_scalar(g, 1), lk_recip(g, lk_global_norm(g, grad, t.m.n)));
    for (int i = 0; i < t.m.n; i++) {
        char name[2][32]; snprintf(name[0], 32, "m.%d", i); snprintf(name[1], 32, "v.%d", i);
        lk_shape s = lk_shape_of(g, wrt[i]);
        lk_adamw(g, wrt[i], lk_param(g, name[0], s, LK_MEM_OPTIMISER), lk_param(g, name[1], s, LK_MEM_OPTIMISER), lk_mul(g, grad[i], clip),
                 lk_scalar(g, 0.01), t.bc1, t.bc2, (lk_adamw_attr){0.9, 0.99, 1e-4, 0.01});
    }
    return t;
}

/* Trains and returns the losses, then every param, one after the other. */
static int64_t train(const lk_backend *b, int threads, double **out) {
    training t = training_new();
    lk_pool *pool = lk_pool_new(threads);
    lk_exec *e;
    int64_t n = STEPS;
    for (int i = 0; i < t.m.n; i++) n += t.m.param[i].n;
    double *x = *out = lk_xcalloc((size_t)n, sizeof *x);
    lk_err err = lk_exec_new(t.m.g, &t.loss, 1, (lk_exec_opts){.backend = b, .pool = pool}, &e);
    if (!CHECK_MSG(!err, "%s", lk_err_text(err))) return n;
    set_params(&t.m, e);
    for (int s = 0; s < STEPS; s++) {
        CHECK_OK(lk_exec_set_scalar(e, t.step, s));
        CHECK_OK(lk_exec_set_scalar(e, t.bc1, 1 - pow(0.9, s + 1))); CHECK_OK(lk_exec_set_scalar(e, t.bc2, 1 - pow(0.99, s + 1)));
        CHECK_OK(lk_exec_run(e));
        CHECK_OK(lk_exec_get_f64(e, t.loss, &x[s], 1));
    }
    int64_t at = STEPS;
    for (int i = 0; i < t.m.n; at += t.m.param[i++].n) CHECK_OK(lk_exec_get_f64(e, t.m.param[i].val, x + at, t.m.param[i].n));
    lk_exec_free(e); lk_pool_free(pool); net_free(&t.m);
    return n;
}

TEST(training_has_the_same_bits_everywhere_and_follows_the_reference) {
    op_variant v[OP_MAX_VARIANTS];
    double *want, *first = NULL, error;
    int64_t n = train(lk_backend_ref(), 1, &want);
    for (int i = 0, variants = op_variants(v); i < variants; i++) {
        const lk_backend *b; double *got;
        CHECK_OK(lk_backend_cpu(v[i].isa, &b));
        train(b, v[i].threads, &got);
        if (i) { CHECK_MSG(!memcmp(got, first, sizeof *got * (size_t)n), "%s has other bits than %s", v[i].name, v[0].name); free(got); continue; }
        first = got;
        /* Adam divides by the size of a gradient, so rounding errors of small gradients show: 4 steps of 0.01 at a relative 1e-3. */
        CHECK_MSG(op_close(got, want, STEPS, 1e-4, &error), "losses are off by %.3g", error);
        CHECK_MSG(op_close(got + STEPS, want + STEPS, n - STEPS, 1e-4, &error), "params are off by %.3g", error);
    }
    free(first); free(want);
}

/* ---- gradient penalties ------------------------------------------------------------------------------- */
typedef struct { net m; lk_val x, penalty; lk_val grad[MAX_PARAMS]; } critic;
typedef lk_val (*penalty_of)(lk_graph *, lk_val gradient /* [BATCH, 3, 6, 6] */);
static lk_val squared_norms(lk_graph *g, lk_val gradient) { return lk_reduce_sum(g, lk_square(g, gradient), (lk_axes){3, {1, 2, 3}, false}); }
static lk_val wgan_gp(lk_graph *g, lk_val gradient) { return lk_mean_all(g, lk_square(g, lk_shift(g, lk_sqrt(g, squared_norms(g, gradient)), -1))); }
static lk_val r1(lk_graph *g, lk_val gradient) { return lk_scale(g, lk_mean_all(g, squared_norms(g, gradient)), 0.5); }

static critic critic_new(penalty_of penalty) {
    critic c = {.m = {.g = lk_graph_new(), .rng = {23}}};
    lk_graph *g = c.m.g; net *m = &c.m;
    c.x = lk_input(g, "x", LK_F32, LK_SHAPE(BATCH, 3, 6, 6));
    lk_val h = lk_conv2d(g, c.x, weight(m, "conv1.weight", 0.3, LK_SHAPE(6, 3, 3, 3)), weight(m, "conv1.bias", 0.2, LK_SHAPE(6)), (lk_conv){.stride = {2, 2}, .pad = {1, 1, 1, 1}});
    h = lk_group_norm(g, h, weight(m, "norm.weight", 1, LK_SHAPE(6)), weight(m, "norm.bias", 0.3, LK_SHAPE(6)), (lk_norm){.groups = 2, .eps = 1e-5, .silu = true});
    lk_val t = lk_permute(g, lk_reshape(g, h, LK_SHAPE(BATCH, 6, 9)), (int[]){0, 2, 1});
    t = lk_add(g, t, lk_sdpa(g, lk_linear(g, t, weight(m, "to_q.weight", 0.5, LK_SHAPE(6, 6)), LK_NONE), t, t, LK_NONE, (lk_sdpa_attr){.heads = 2}));
    t = lk_gelu(g, lk_linear(g, lk_layer_norm(g, t, LK_NONE, LK_NONE, 1e-5), weight(m, "ff.weight", 0.5, LK_SHAPE(5, 6)), weight(m, "ff.bias", 0.2, LK_SHAPE(5))));
    lk_val score = lk_linear(g, lk_reshape(g, t, LK_SHAPE(BATCH, 45)), weight(m, "out.weight", 0.3, LK_SHAPE(1, 45)), LK_NONE), slope, wrt[MAX_PARAMS];
    lk_vjp(g, lk_sum_all(g, score), LK_NONE, &c.x, 1, &slope);
    c.penalty = penalty(g, slope);
    for (int i = 0; i < m->n; i++) wrt[i] = m->param[i].val;
    lk_vjp(g, c.penalty, LK_NONE, wrt, m->n, c.grad);
    return c;
}
static lk_exec *critic_run(const critic *c, const lk_backend *b, bool gradients) {
    static float x[BATCH * 3 * 6 * 6];
    op_rng r = {31};
    for (size_t i = 0; i < sizeof x / sizeof *x; i++) x[i] = (float)op_normal(&r);
    lk_val out[MAX_PARAMS + 1] = {c->penalty};
    int n = 1;
    for (int i = 0; i < c->m.n && gradients; i++) if (lk_ok(c->grad[i])) out[n++] = c->grad[i];
    lk_exec *e;
    CHECK_OK(lk_exec_new(c->m.g, out, n, (lk_exec_opts){.backend = b}, &e));
    if (!e) return NULL;
    set_params(&c->m, e);
    CHECK_OK(lk_exec_set(e, c->x, x, sizeof x / sizeof *x));
    CHECK_OK(lk_exec_run(e));
    return e;
}
static double slope_of(const critic *c, lk_exec *e, int p, int64_t at) {
    const param *w = &c->m.param[p];
    double *x = lk_xcalloc((size_t)w->n, sizeof *x), f[2];
    const double h = 0x1p-15;
    for (int k = 0; k < 2; k++) {
        for (int64_t i = 0; i < w->n; i++) x[i] = w->start[i];
        x[at] += k ? h : -h;
        CHECK_OK(lk_exec_set_f64(e, w->val, x, w->n)); CHECK_OK(lk_exec_run(e)); CHECK_OK(lk_exec_get_f64(e, c->penalty, &f[k], 1));
    }
    CHECK_OK(lk_exec_set(e, w->val, w->start, w->n));
    free(x);
    return (f[1] - f[0]) / (2 * h);
}

static void check_penalty(penalty_of penalty) {
    enum { SOME = 6 };
    critic c = critic_new(penalty);
    const lk_backend *cpu;
    CHECK_OK(lk_backend_cpu(LK_ISA_AUTO, &cpu));
    lk_exec *all = critic_run(&c, lk_backend_ref(), true), *one = critic_run(&c, lk_backend_ref(), false), *f32 = critic_run(&c, cpu, true);
    if (!all || !one || !f32) return;
    for (int p = 0; p < c.m.n; p++) {
        int64_t n = c.m.param[p].n;
        double *g = lk_xcalloc((size_t)n, sizeof *g), *g32 = lk_xcalloc((size_t)n, sizeof *g), got[SOME], want[SOME], error;
        const char *name = lk_graph_node(c.m.g, c.m.param[p].val)->name;
        if (!CHECK_MSG(lk_ok(c.grad[p]), "%s has no gradient", name)) continue;
        CHECK_OK(lk_exec_get_f64(all, c.grad[p], g, n)); CHECK_OK(lk_exec_get_f64(f32, c.grad[p], g32, n));
        int m = n < SOME ? (int)n : SOME;
        for (int i = 0; i < m; i++) { int64_t at = i * n / m; got[i] = g[at]; want[i] = slope_of(&c, one, p, at); }
        CHECK_MSG(op_close(got, want, m, 2e-6, &error), "%s: gradient off by %.3g: %.9g for %.9g", name, error, got[0], want[0]);
        CHECK_MSG(op_close(g32, g, n, 1e-3, &error), "%s: in binary32 off by %.3g", name, error);     /* two passes back through two norms */
        free(g); free(g32);
    }
    lk_exec_free(all); lk_exec_free(one); lk_exec_free(f32);
    net_free(&c.m);
}
TEST(wgan_gp_penalty) { check_penalty(wgan_gp); }
TEST(r1_penalty) { check_penalty(r1); }
