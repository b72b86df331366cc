/* Leaves and effects, on the reference and on the cpu: what is set is read, effects write the storage of a
 * param, nodes built before an effect see the old value and nodes built after it the new one. */
#include "tests/lib/lk_test.h"
#include "tests/lib/opcheck.h"

enum { N = 7 };
static const lk_backend *backends(int i) {
    op_variant v[OP_MAX_VARIANTS];
    const lk_backend *b = NULL;
    if (i == 0) return lk_backend_ref();
    int n = op_variants(v);
    if (i > n) return NULL;
    CHECK_OK(lk_backend_cpu(v[i - 1].isa, &b));
    return b;
}
static double tolerance(const lk_backend *b) { return b->element_bytes == 8 ? 1e-14 : 2e-7; }   /* a few roundings of binary32 near 1 */
static void fill(double *x, uint64_t seed) { op_rng r = {seed}; for (int i = 0; i < N; i++) x[i] = op_normal(&r); }

TEST(leaves_hold_what_they_are_given) {
    const lk_backend *b;
    for (int k = 0; (b = backends(k)); k++) {
        lk_graph *g = lk_graph_new();
        float constant[N]; double x[N], w[N], got[N];
        fill(x, 1); fill(w, 2);
        for (int i = 0; i < N; i++) constant[i] = (float)i - 2.5f;
        int64_t ids[3] = {5, 0, 3};
        lk_val c = lk_const(g, LK_F32, LK_SHAPE(N), constant), in = lk_input(g, "x", LK_F32, LK_SHAPE(N)), p = lk_param(g, "w", LK_SHAPE(N), LK_MEM_WEIGHT);
        lk_val whole = lk_const(g, LK_I64, LK_SHAPE(3), ids), rows = lk_gather_rows(g, lk_reshape(g, p, LK_SHAPE(N, 1)), whole), y = lk_add(g, lk_add(g, in, p), c);
        lk_val outs[] = {y, c, rows};
        lk_exec *e;
        CHECK_OK(lk_exec_new(g, outs, 3, (lk_exec_opts){.backend = b}, &e));
        CHECK_OK(lk_exec_set_f64(e, in, x, N));
        CHECK_OK(lk_exec_run(e));
        CHECK_OK(lk_exec_get_f64(e, y, got, N));
        for (int i = 0; i < N; i++) CHECK_CLOSE(got[i], x[i] + constant[i], 1e-6);       /* a param starts as zero */
        CHECK_OK(lk_exec_set_f64(e, p, w, N));
        CHECK_OK(lk_exec_run(e));
        CHECK_OK(lk_exec_get_f64(e, y, got, N));
        for (int i = 0; i < N; i++) CHECK_CLOSE(got[i], x[i] + w[i] + constant[i], 1e-6);
        CHECK_OK(lk_exec_get_f64(e, c, got, N));
        for (int i = 0; i < N; i++) CHECK(got[i] == constant[i]);
        CHECK_OK(lk_exec_get_f64(e, rows, got, 3));
        for (int i = 0; i < 3; i++) CHECK(got[i] == w[ids[i]]);
        lk_exec_free(e); lk_graph_free(g);
    }
}

TEST(assign_between_readers) {
    const lk_backend *b;
    for (int k = 0; (b = backends(k)); k++) {
        lk_graph *g = lk_graph_new();
        lk_val p = lk_param(g, "p", LK_SHAPE(N), LK_MEM_ADAPTER), x = lk_input(g, "x", LK_F32, LK_SHAPE(N));
        lk_val before = lk_scale(g, p, 2);
        lk_assign(g, p, lk_add(g, p, x));
        lk_val after = lk_scale(g, p, 2), outs[] = {before, after};
        lk_exec *e;
        double start[N], step[N], got[N];
        fill(start, 3); fill(step, 4);
        CHECK_OK(lk_exec_new(g, outs, 2, (lk_exec_opts){.backend = b}, &e));
        CHECK_OK(lk_exec_set_f64(e, p, start, N));
        CHECK_OK(lk_exec_set_f64(e, x, step, N));
        for (int run = 0; run < 2; run++) {
            CHECK_OK(lk_exec_run(e));
            CHECK_OK(lk_exec_get_f64(e, before, got, N));
            for (int i = 0; i < N; i++) CHECK_CLOSE(got[i], 2 * (start[i] + run * step[i]), 1e-5);
            CHECK_OK(lk_exec_get_f64(e, after, got, N));
            for (int i = 0; i < N; i++) CHECK_CLOSE(got[i], 2 * (start[i] + (run + 1) * step[i]), 1e-5);
        }
        lk_exec_free(e); lk_graph_free(g);
    }
}

TEST(ema_moves_by_one_minus_decay) {
    const lk_backend *b;
    for (int k = 0; (b = backends(k)); k++) {
        lk_graph *g = lk_graph_new();
        lk_val a = lk_param(g, "a", LK_SHAPE(N), LK_MEM_OPTIMISER), v = lk_input(g, "v", LK_F32, LK_SHAPE(N)), decay = lk_input(g, "decay", LK_F32, LK_SCALAR);
        lk_ema(g, a, v, decay);
        lk_exec *e;
        double start[N], value[N], got[N];
        fill(start, 5); fill(value, 6);
        CHECK_OK(lk_exec_new(g, &a, 1, (lk_exec_opts){.backend = b}, &e));
        CHECK_OK(lk_exec_set_f64(e, a, start, N));
        CHECK_OK(lk_exec_set_f64(e, v, value, N));
        CHECK_OK(lk_exec_set_scalar(e, decay, 0.875));                                 /* exact in binary32 */
        CHECK_OK(lk_exec_run(e));
        CHECK_OK(lk_exec_get_f64(e, a, got, N));
        for (int i = 0; i < N; i++) CHECK_CLOSE(got[i], 0.875 * start[i] + 0.125 * value[i], 4 * tolerance(b));
        lk_exec_free(e); lk_graph_free(g);
    }
}

/* Loshchilov and Hutter 2019, algorithm 2, by hand in binary64. */
typedef struct { double p, m, v; } state;
static state adamw_step(state s, double g, double lr, int t, lk_adamw_attr a) {
    s.m = a.beta1 * s.m + (1 - a.beta1) * g;
    s.v = a.beta2 * s.v + (1 - a.beta2) * g * g;
    double m = s.m / (1 - pow(a.beta1, t)), v = s.v / (1 - pow(a.beta2, t));
    s.p = s.p - lr * a.weight_decay * s.p - lr * m / (sqrt(v) + a.eps);
    return s;
}
TEST(adamw_follows_the_paper) {
    const lk_backend *b;
    lk_adamw_attr a = {.beta1 = 0.9, .beta2 = 0.99, .eps = 1e-8, .weight_decay = 0.1};
    for (int k = 0; (b = backends(k)); k++) {
        lk_graph *g = lk_graph_new();
        lk_val p = lk_param(g, "p", LK_SHAPE(N), LK_MEM_ADAPTER), m = lk_param(g, "m", LK_SHAPE(N), LK_MEM_OPTIMISER), v = lk_param(g, "v", LK_SHAPE(N), LK_MEM_OPTIMISER);
        lk_val grad = lk_input(g, "g", LK_F32, LK_SHAPE(N)), lr = lk_input(g, "lr", LK_F32, LK_SCALAR), bc1 = lk_input(g, "bc1", LK_F32, LK_SCALAR), bc2 = lk_input(g, "bc2", LK_F32, LK_SCALAR);
        lk_adamw(g, p, m, v, grad, lr, bc1, bc2, a);
        lk_exec *e;
        state want[N]; double x[N], got[3][N];
        fill(x, 7);
        for (int i = 0; i < N; i++) want[i] = (state){x[i], 0, 0};
        CHECK_OK(lk_exec_new(g, &p, 1, (lk_exec_opts){.backend = b}, &e));
        CHECK_OK(lk_exec_set_f64(e, p, x, N));
        for (int t = 1; t <= 4; t++) {
            fill(x, 100 + (uint64_t)t);
            for (int i = 0; i < N; i++) want[i] = adamw_step(want[i], x[i], 0.0625, t, a);
            CHECK_OK(lk_exec_set_f64(e, grad, x, N));
            CHECK_OK(lk_exec_set_scalar(e, lr, 0.0625));
            CHECK_OK(lk_exec_set_scalar(e, bc1, 1 - pow(a.beta1, t)));
            CHECK_OK(lk_exec_set_scalar(e, bc2, 1 - pow(a.beta2, t)));
            CHECK_OK(lk_exec_run(e));
        }
        CHECK_OK(lk_exec_get_f64(e, p, got[0], N)); CHECK_OK(lk_exec_get_f64(e, m, got[1], N)); CHECK_OK(lk_exec_get_f64(e, v, got[2], N));
        for (int i = 0; i < N; i++) {
            double tol = 20 * tolerance(b);                          /* four steps of about ten roundings */
            CHECK_CLOSE(got[0][i], want[i].p, tol); CHECK_CLOSE(got[1][i], want[i].m, tol); CHECK_CLOSE(got[2][i], want[i].v, tol);
        }
        lk_exec_free(e); lk_graph_free(g);
    }
}
