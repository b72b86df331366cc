/* The losses by central differences in binary64 under the reference backend; closed forms; teacher and stop-gradient sides that receive
 * nothing; a critic and a generator that do not leak into each other. */
#include "backend/backend.h"
#include "losses/adversarial.h"
#include "losses/distillation.h"
#include "tests/lib/lk_test.h"
#include "tests/lib/opcheck.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { N = 3, C = 2, S = 2, SIZE = N * C * S * S };
typedef struct { lk_graph *g; lk_val x, y, z, w, a, b; } leaves;
static leaves leaves_new(void) {
    leaves l = {.g = lk_graph_new()};
    lk_shape s = LK_SHAPE(N, C, S, S);
    l.x = lk_param(l.g, "x", s, LK_MEM_ADAPTER); l.y = lk_param(l.g, "y", s, LK_MEM_ADAPTER); l.z = lk_param(l.g, "z", s, LK_MEM_ADAPTER);
    l.w = lk_input(l.g, "w", LK_F32, LK_SHAPE(N)); l.a = lk_input(l.g, "a", LK_F32, LK_SHAPE(N)); l.b = lk_input(l.g, "b", LK_F32, LK_SHAPE(N));
    return l;
}
static void set(const leaves *l, lk_exec *e, const double *x, const double *y) {
    static const double w[N] = {0.7, 1.3, 0.4}, a[N] = {0.9, 0.5, 0.2}, b[N] = {-0.4, 0.8, 1.1};
    double z[SIZE];
    op_rng r = {77};
    for (int i = 0; i < SIZE; i++) z[i] = op_normal(&r);
    CHECK_OK(lk_exec_set_f64(e, l->x, x, SIZE)); CHECK_OK(lk_exec_set_f64(e, l->y, y, SIZE)); CHECK_OK(lk_exec_set_f64(e, l->z, z, SIZE));
    CHECK_OK(lk_exec_set_f64(e, l->w, w, N)); CHECK_OK(lk_exec_set_f64(e, l->a, a, N)); CHECK_OK(lk_exec_set_f64(e, l->b, b, N));
}
typedef lk_val (*loss_fn)(const leaves *);

/* d loss / d x against differences (h 2^-17: truncation 1e-10, rounding 1e-11 of values near 1, so 1e-7 of the largest slope); the gradient to
 * the target side y must not exist where `stopped`. */
static void check(const char *name, loss_fn f, bool stopped) {
    leaves l = leaves_new();
    lk_val loss = f(&l), grad[2];
    lk_vjp(l.g, loss, LK_NONE, (lk_val[]){l.x, l.y}, 2, grad);
    lk_err bad = lk_graph_error(l.g);
    if (!CHECK_MSG(!bad, "%s: %s", name, lk_err_text(bad))) return;
    CHECK_MSG(lk_ok(grad[0]), "%s: no gradient", name);
    if (stopped) CHECK_MSG(!lk_ok(grad[1]), "%s: the stopped side receives a gradient", name);
    else CHECK_MSG(lk_ok(grad[1]), "%s: the second side receives none", name);
    double x[SIZE], y[SIZE], got[SIZE], want[SIZE], value, error;
    op_rng r = {5};
    for (int i = 0; i < SIZE; i++) { x[i] = op_normal(&r); y[i] = op_normal(&r); }
    lk_exec *e;
    CHECK_OK(lk_exec_new(l.g, (lk_val[]){loss, grad[0]}, 2, (lk_exec_opts){.backend = lk_backend_ref()}, &e));
    set(&l, e, x, y);
    CHECK_OK(lk_exec_run(e));
    CHECK_OK(lk_exec_get_f64(e, loss, &value, 1)); CHECK_OK(lk_exec_get_f64(e, grad[0], got, SIZE));
    CHECK_MSG(isfinite(value), "%s = %g", name, value);
    for (int i = 0; i < SIZE; i++) {
        double f2[2], kept = x[i];
        for (int k = 0; k < 2; k++) {
            x[i] = kept + (k ? 1 : -1) * 0x1p-17;
            CHECK_OK(lk_exec_set_f64(e, l.x, x, SIZE)); CHECK_OK(lk_exec_run(e)); CHECK_OK(lk_exec_get_f64(e, loss, &f2[k], 1));
        }
        x[i] = kept;
        want[i] = (f2[1] - f2[0]) * 0x1p16;
    }
    CHECK_MSG(op_close(got, want, SIZE, 1e-7, &error), "%s: gradient off by %.3g", name, error);
    got[0] += 0.01 * fabs(got[0]) + 1e-4;
    CHECK_MSG(!op_close(got, want, SIZE, 1e-7, &error), "%s: a planted error was not seen", name);
    lk_exec_free(e);
    lk_graph_free(l.g);
}
static lk_val landing(const leaves *l) { return lk_distillation_loss(l->g, lk_jump_to(l->g, l->z, l->x, l->a, l->b), l->y, l->w); }
static lk_val trajectory(const leaves *l) { return lk_trajectory_loss(l->g, (lk_val[]){l->x, lk_square(l->g, l->x)}, (lk_val[]){l->y, l->z}, (lk_val[]){l->w, LK_NONE}, 2); }
static lk_val consistency(const leaves *l) { return lk_pseudo_huber(l->g, lk_consistency_output(l->g, l->z, l->x, l->a, l->b), l->y, 0.001); }
static lk_val score(const leaves *l) { return lk_score_distillation(l->g, l->x, l->y, l->w); }
static lk_val huber(const leaves *l) { return lk_diffusion_huber(l->g, l->x, l->y, 0.1, l->w); }
static lk_val masked(const leaves *l) { return lk_diffusion_masked(l->g, l->x, l->y, lk_sigmoid(l->g, lk_slice(l->g, l->z, 1, 0, 1)), l->w); }
static lk_val generator(const leaves *l) { return lk_add(l->g, lk_generator_loss(l->g, LK_NON_SATURATING, l->x), lk_generator_loss(l->g, LK_HINGE, lk_mul(l->g, l->x, l->x))); }
static lk_val critic(const leaves *l) { return lk_add(l->g, lk_critic_loss(l->g, LK_NON_SATURATING, l->x, l->y), lk_critic_loss(l->g, LK_HINGE, lk_scale(l->g, l->y, 0.3), lk_scale(l->g, l->x, 0.4))); }
static lk_val r1(const leaves *l) {      /* logits a cubic of x with weights y: |d/dx|^2 depends on both */
    return lk_r1_penalty(l->g, lk_reduce_sum(l->g, lk_mul(l->g, l->y, lk_mul(l->g, l->x, lk_square(l->g, l->x))), (lk_axes){3, {1, 2, 3}, false}), l->x);
}
TEST(gradients_follow_differences) {
    check("landing", landing, true); check("trajectory", trajectory, true); check("consistency", consistency, true); check("score distillation", score, true);
    check("huber", huber, false); check("masked", masked, false); check("generator", generator, true); check("critic", critic, false); check("R1", r1, false);
}
/* The loss is linear in x, so its gradient is the direction itself: (fake - real) / mean|x - real| / count, by hand. */
TEST(distribution_matching_pushes_from_fake_to_real) {
    leaves l = leaves_new();
    lk_val loss = lk_distribution_matching(l.g, l.x, l.y, l.z), grad[3];
    lk_vjp(l.g, loss, LK_NONE, (lk_val[]){l.x, l.y, l.z}, 3, grad);
    CHECK_MSG(lk_ok(grad[0]) && !lk_ok(grad[1]) && !lk_ok(grad[2]), "scores must receive no gradient");
    double x[SIZE], y[SIZE], z[SIZE], got[SIZE], want[SIZE], error;
    op_rng r = {9};
    for (int i = 0; i < SIZE; i++) { x[i] = op_normal(&r); y[i] = op_normal(&r); }
    lk_exec *e;
    CHECK_OK(lk_exec_new(l.g, grad, 1, (lk_exec_opts){.backend = lk_backend_ref()}, &e));
    set(&l, e, x, y);
    CHECK_OK(lk_exec_get_f64(e, l.z, z, SIZE)); CHECK_OK(lk_exec_run(e)); CHECK_OK(lk_exec_get_f64(e, grad[0], got, SIZE));
    for (int n = 0, each = SIZE / N; n < N; n++) {
        double size = 0;
        for (int i = n * each; i < (n + 1) * each; i++) size += fabs(x[i] - y[i]) / each;
        for (int i = n * each; i < (n + 1) * each; i++) want[i] = (z[i] - y[i]) / size / SIZE;
    }
    CHECK_MSG(op_close(got, want, SIZE, 1e-12, &error), "off by %.3g", error);
    lk_exec_free(e);
    lk_graph_free(l.g);
}
/* R1's own params: its slope with respect to y is a second-order term. For logits sum(y x^3): |d/dx|^2 = sum (3 y x^2)^2. */
TEST(r1_trains_the_critic) {
    leaves l = leaves_new();
    lk_val penalty = r1(&l), grad;
    lk_vjp(l.g, penalty, LK_NONE, &l.y, 1, &grad);
    double x[SIZE], y[SIZE], got[SIZE], want[SIZE], error;
    op_rng r = {13};
    for (int i = 0; i < SIZE; i++) { x[i] = op_normal(&r); y[i] = op_normal(&r); want[i] = 0.5 / N * 2 * y[i] * 9 * x[i] * x[i] * x[i] * x[i]; }
    lk_exec *e;
    CHECK_OK(lk_exec_new(l.g, &grad, 1, (lk_exec_opts){.backend = lk_backend_ref()}, &e));
    set(&l, e, x, y);
    CHECK_OK(lk_exec_run(e)); CHECK_OK(lk_exec_get_f64(e, grad, got, SIZE));
    CHECK_MSG(op_close(got, want, SIZE, 1e-7, &error), "another gradient than by hand");    /* the share .5/3 is a binary32 constant of the graph */
    lk_exec_free(e);
    lk_graph_free(l.g);
    leaves m = leaves_new();
    lk_r1_penalty(m.g, lk_sum_all(m.g, m.y), m.x);
    lk_err bad = lk_graph_error(m.g);
    CHECK_MSG(bad && strstr(lk_err_text(bad), "do not depend"), "an input that the logits do not see: %s", bad ? lk_err_text(bad) : "accepted");
    lk_err_free(bad);
    lk_graph_free(m.g);
}
/* Solver steps: where x = alpha x0 + sigma n exactly, every kind of prediction lands on alpha2 x0 + sigma2 n; two jumps are one. */
TEST(jumps_land_where_the_schedule_says) {
    const double x0 = 0.37, n = -1.2, a = 0.6, s = 0.8, a2 = 0.96, s2 = 0.28, x = a * x0 + s * n, want = a2 * x0 + s2 * n;
    const double said[3] = {n, a * n - s * x0, x0};
    for (int p = 0; p < 3; p++) {
        lk_jump j = lk_jump_between((lk_predict)p, a, s, a2, s2);
        CHECK_MSG(fabs(j.on_x * x + j.on_prediction * said[p] - want) < 1e-14, "prediction %d lands at %.17g, not %.17g", p, j.on_x * x + j.on_prediction * said[p], want);
    }
    lk_jump f = lk_jump_between(LK_PREDICT_FLOW, 0.4, 0.6, 0.9, 0.1);
    CHECK(fabs(f.on_x * (0.4 * x0 + 0.6 * n) + f.on_prediction * (n - x0) - (0.9 * x0 + 0.1 * n)) < 1e-14);
    lk_boundary zero = lk_consistency_boundary(0, 0.5, 10), late = lk_consistency_boundary(999, 0.5, 10);
    CHECK(zero.skip == 1 && zero.out == 0);
    CHECK(late.skip < 1e-8 && fabs(late.out - 1) < 1e-8);
}
/* At equilibrium logits of 0: log 2 a side; far logits stay finite. */
TEST(adversarial_values) {
    lk_graph *g = lk_graph_new();
    lk_val x = lk_input(g, "x", LK_F32, LK_SHAPE(2)), out[4] = {lk_generator_loss(g, LK_NON_SATURATING, x), lk_critic_loss(g, LK_NON_SATURATING, x, x), lk_generator_loss(g, LK_HINGE, x), lk_critic_loss(g, LK_HINGE, x, x)};
    lk_exec *e;
    CHECK_OK(lk_exec_new(g, out, 4, (lk_exec_opts){.backend = lk_backend_ref()}, &e));
    double v[4];
    CHECK_OK(lk_exec_set_f64(e, x, (double[]){0, 0}, 2)); CHECK_OK(lk_exec_run(e));
    for (int i = 0; i < 4; i++) CHECK_OK(lk_exec_get_f64(e, out[i], &v[i], 1));
    CHECK(fabs(v[0] - log(2)) < 1e-14 && fabs(v[1] - 2 * log(2)) < 1e-14 && v[2] == 0 && v[3] == 2);
    CHECK_OK(lk_exec_set_f64(e, x, (double[]){1000, -1000}, 2)); CHECK_OK(lk_exec_run(e));
    for (int i = 0; i < 4; i++) { CHECK_OK(lk_exec_get_f64(e, out[i], &v[i], 1)); CHECK(isfinite(v[i])); }
    CHECK(fabs(v[0] - 500) < 1e-9);
    lk_exec_free(e);
    lk_graph_free(g);
    lk_adversarial kind;
    CHECK_OK(lk_adversarial_parse("hinge", &kind));
    lk_err bad = lk_adversarial_parse("wgan", &kind);
    CHECK_MSG(bad && strstr(lk_err_text(bad), "non_saturating or hinge"), "an unknown kind must be refused");
    lk_err_free(bad);
}
