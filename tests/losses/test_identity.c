/* Identity, alignment, total variation and feature losses by central differences in binary64; sides that must receive nothing; closed forms. */
#include "backend/backend.h"
#include "losses/alignment.h"
#include "losses/identity.h"
#include "tests/lib/lk_test.h"
#include "tests/lib/opcheck.h"
#include <math.h>
#include <string.h>

enum { B = 2, T = 5, S = 3, D = 4, Q = B * T * D, K = B * S * D };
typedef struct { lk_graph *g; lk_val q, k, q2, k2, x, y, gate; } leaves;
static leaves leaves_new(void) {
    leaves l = {.g = lk_graph_new()};
    l.q = lk_param(l.g, "q", LK_SHAPE(B, T, D), LK_MEM_ADAPTER); l.k = lk_param(l.g, "k", LK_SHAPE(B, S, D), LK_MEM_ADAPTER);
    l.q2 = lk_param(l.g, "q2", LK_SHAPE(B, T, D), LK_MEM_ADAPTER); l.k2 = lk_param(l.g, "k2", LK_SHAPE(B, S, D), LK_MEM_ADAPTER);
    l.gate = lk_input(l.g, "gate", LK_F32, LK_SHAPE(B));
    return l;
}
typedef lk_val (*loss_fn)(const leaves *);
/* Gradients to q and k against differences; none may reach q2 and k2. h 2^-17, 1e-7 as in test_distillation.c. */
static void check(const char *name, loss_fn f, bool keys) {
    leaves l = leaves_new();
    lk_val loss = f(&l), grad[4];
    lk_vjp(l.g, loss, LK_NONE, (lk_val[]){l.q, l.k, l.q2, l.k2}, 4, grad);
    lk_err bad = lk_graph_error(l.g);
    if (!CHECK_MSG(!bad, "%s: %s", name, lk_err_text(bad))) return;
    CHECK_MSG(lk_ok(grad[0]) && lk_ok(grad[1]) == keys && !lk_ok(grad[2]) && !lk_ok(grad[3]), "%s: gradients reach other values than they should", name);
    static const double gate[B] = {1, 0};
    double v[4][Q], got[Q], want[Q], error;
    op_rng r = {11};
    lk_exec *e;
    CHECK_OK(lk_exec_new(l.g, (lk_val[]){loss, grad[0], keys ? grad[1] : grad[0]}, 3, (lk_exec_opts){.backend = lk_backend_ref()}, &e));
    const lk_val leaf[4] = {l.q, l.k, l.q2, l.k2};
    for (int i = 0; i < 4; i++) { for (int j = 0; j < Q; j++) v[i][j] = op_normal(&r); CHECK_OK(lk_exec_set_f64(e, leaf[i], v[i], i % 2 ? K : Q)); }
    CHECK_OK(lk_exec_set_f64(e, l.gate, gate, B));
    for (int side = 0; side < 1 + keys; side++) {
        int n = side ? K : Q;
        CHECK_OK(lk_exec_run(e)); CHECK_OK(lk_exec_get_f64(e, grad[side], got, n));
        for (int i = 0; i < n; i++) {
            double f2[2], kept = v[side][i];
            for (int s = 0; s < 2; s++) {
                v[side][i] = kept + (s ? 1 : -1) * 0x1p-17;
                CHECK_OK(lk_exec_set_f64(e, leaf[side], v[side], n)); CHECK_OK(lk_exec_run(e)); CHECK_OK(lk_exec_get_f64(e, loss, &f2[s], 1));
            }
            v[side][i] = kept;
            want[i] = (f2[1] - f2[0]) * 0x1p16;
        }
        CHECK_OK(lk_exec_set_f64(e, leaf[side], v[side], n));
        bool close = op_close(got, want, n, 1e-7, &error);
        CHECK_MSG(close, "%s, side %d: off by %.3g", name, side, error);
    }
    lk_exec_free(e);
    lk_graph_free(l.g);
}
static lk_cross_attention with(const leaves *l) { return (lk_cross_attention){l->q, l->k, 2}; }
static lk_cross_attention without(const leaves *l) { return (lk_cross_attention){l->q2, l->k2, 2}; }
static lk_val semantic(const leaves *l) { return lk_alignment_semantic(l->g, with(l), without(l)); }
static lk_val layout(const leaves *l) { return lk_alignment_layout(l->g, with(l), without(l)); }
static lk_val both(const leaves *l) { return lk_alignment_loss(l->g, (lk_cross_attention[]){with(l), with(l)}, (lk_cross_attention[]){without(l), without(l)}, 2, 0.6, 0.1); }
static lk_val rows(lk_graph *g, lk_val v) { return lk_reshape(g, v, LK_SHAPE(B, T * D)); }
static lk_val identity(const leaves *l) { return lk_identity_loss(l->g, rows(l->g, l->q), lk_slice(l->g, rows(l->g, l->q2), 0, 0, 1), LK_NONE); }
static lk_val gated(const leaves *l) { return lk_identity_loss(l->g, rows(l->g, l->q), lk_slice(l->g, rows(l->g, l->q2), 0, 1, 2), l->gate); }
static lk_val features(const leaves *l) { return lk_feature_loss(l->g, rows(l->g, l->q), rows(l->g, l->q2)); }
static lk_val variation(const leaves *l) { return lk_total_variation(l->g, lk_reshape(l->g, l->q, LK_SHAPE(B, 1, T, D))); }
TEST(gradients_follow_differences) {
    check("semantic", semantic, true); check("layout", layout, false); check("both, two layers", both, true);
    check("identity", identity, false); check("identity with a gate", gated, false); check("features", features, false); check("total variation", variation, false);
}
/* The same picture: 0; the opposite: 2; all gates closed: 0. A ramp of slope 1 along x: variation 1. */
TEST(values) {
    lk_graph *g = lk_graph_new();
    lk_val a = lk_input(g, "a", LK_F32, LK_SHAPE(1, 4)), r = lk_input(g, "r", LK_F32, LK_SHAPE(1, 4)), gate = lk_input(g, "gate", LK_F32, LK_SHAPE(1)), x = lk_input(g, "x", LK_F32, LK_SHAPE(1, 1, 2, 3));
    lk_val out[5] = {lk_identity_loss(g, a, a, LK_NONE), lk_identity_loss(g, lk_neg(g, a), a, LK_NONE), lk_identity_loss(g, a, r, gate), lk_total_variation(g, x), lk_feature_loss(g, lk_scale(g, a, 3), a)};
    lk_exec *e;
    CHECK_OK(lk_exec_new(g, out, 5, (lk_exec_opts){.backend = lk_backend_ref()}, &e));
    CHECK_OK(lk_exec_set_f64(e, a, (double[]){1, -2, 0.5, 3}, 4)); CHECK_OK(lk_exec_set_f64(e, r, (double[]){0, 1, 1, 1}, 4)); CHECK_OK(lk_exec_set_f64(e, gate, (double[]){0}, 1));
    CHECK_OK(lk_exec_set_f64(e, x, (double[]){0, 1, 2, 0, 1, 2}, 6));
    CHECK_OK(lk_exec_run(e));
    static const double want[5] = {0, 2, 0, 1, 0};
    for (int i = 0; i < 5; i++) { double v = NAN; CHECK_OK(lk_exec_get_f64(e, out[i], &v, 1)); CHECK_MSG(fabs(v - want[i]) < 1e-12, "value %d is %.17g, not %g", i, v, want[i]); }
    lk_exec_free(e);
    lk_graph_free(g);
    g = lk_graph_new();
    lk_alignment_loss(g, NULL, NULL, 0, 1, 1);
    CHECK_FAILS(lk_graph_error(g), "no cross-attention layer");
    lk_graph_free(g);
}
