/* Training as nodes: the optimiser against AdamW written out by hand in binary64, micro-batches, clipping, the moving average,
 * checkpoints (resumed = uninterrupted, bit for bit), schedules' refusals. Peers' training runs are in tests/golden. */
#include "train/train.h"
#include "tests/lib/lk_test.h"

enum { N = 7 };
typedef struct { lk_graph *g; lk_val p, q, input; lk_optimiser *o; lk_average *e; lk_exec *x; } fixture;
/* loss = mean((p * x)^2) + mean(q * x), one micro-batch each of `micro`. */
static fixture make(double clip, int micro, bool average) {
    fixture f = { .g = lk_graph_new() };
    f.p = lk_param(f.g, "p", LK_SHAPE(N), LK_MEM_ADAPTER);
    f.q = lk_param(f.g, "q", LK_SHAPE(N), LK_MEM_ADAPTER);
    f.input = lk_input(f.g, "x", LK_F32, LK_SHAPE(micro, N));
    f.o = lk_optimiser_new(f.g, (lk_val[]){ f.p, f.q }, 2, (lk_optimiser_config){ .clip = clip, .micro_batches = micro, .adamw.weight_decay = .1 });
    for (int i = 0; i < micro; i++) {
        lk_val x = lk_reshape(f.g, lk_slice(f.g, f.input, 0, i, i + 1), LK_SHAPE(N));
        lk_optimiser_add_loss(f.o, lk_add(f.g, lk_mean_all(f.g, lk_square(f.g, lk_mul(f.g, f.p, x))), lk_mean_all(f.g, lk_mul(f.g, f.q, x))));
    }
    lk_optimiser_finish(f.o);
    if (average) f.e = lk_average_new(f.g, (lk_val[]){ f.p, f.q }, 2);
    CHECK_OK(lk_graph_error(f.g));
    CHECK_OK(lk_exec_new(f.g, (lk_val[]){ lk_optimiser_loss(f.o), lk_optimiser_grad_norm(f.o), lk_optimiser_grad(f.o, 0), lk_optimiser_grad(f.o, 1) }, 4, (lk_exec_opts){ 0 }, &f.x));
    float p[N], q[N];
    for (int i = 0; i < N; i++) { p[i] = .385f + .1f * (float)i; q[i] = -.2f * (float)i; }
    CHECK_OK(lk_exec_set(f.x, f.p, p, N));
    CHECK_OK(lk_exec_set(f.x, f.q, q, N));
    return f;
}
static void drop(fixture *f) { lk_exec_free(f->x); lk_graph_free(f->g); }
static void step(fixture *f, int64_t i, int micro, double lr) {
    float x[4 * N];
    for (int k = 0; k < micro * N; k++) x[k] = lk_philox_normal(77, (uint64_t)i, 0, (uint64_t)k);
    CHECK_OK(lk_exec_set(f->x, f->input, x, micro * N));
    CHECK_OK(lk_optimiser_set(f->o, f->x, i, lr));
    if (f->e) CHECK_OK(lk_average_set(f->e, f->x, i, .9));
    CHECK_OK(lk_exec_run(f->x));
}
static void read(fixture *f, lk_val v, float *out) { CHECK_OK(lk_exec_get(f->x, v, out, N)); }

/* The same steps in binary64, from the definition. */
static void by_hand(double clip, int micro, int steps, double lr, double *p, double *q, double *last_norm) {
    double m[2 * N] = { 0 }, v[2 * N] = { 0 }, *w[2] = { p, q };
    for (int i = 0; i < N; i++) { p[i] = .385f + .1f * (float)i; q[i] = -.2f * (float)i; }
    for (int s = 0; s < steps; s++) {
        double g[2 * N] = { 0 }, norm = 0;
        for (int b = 0; b < micro; b++)
            for (int i = 0; i < N; i++) {
                double x = lk_philox_normal(77, (uint64_t)s, 0, (uint64_t)(b * N + i));
                g[i] += 2 * p[i] * x * x / N / micro;
                g[N + i] += x / N / micro;
            }
        for (int i = 0; i < 2 * N; i++) norm += g[i] * g[i];
        norm = sqrt(norm);
        *last_norm = norm;
        double c = clip > 0 ? fmin(1, clip / (norm + 1e-6)) : 1;
        for (int i = 0; i < 2 * N; i++) {
            double *t = &w[i / N][i % N], d = g[i] * c;
            m[i] = .9 * m[i] + .1 * d;
            v[i] = .999 * v[i] + .001 * d * d;
            *t = *t * (1 - lr * .1) - lr * (m[i] / (1 - pow(.9, s + 1))) / (sqrt(v[i] / (1 - pow(.999, s + 1))) + 1e-8);
        }
    }
}
static void against_hand(double clip, int micro) {
    fixture f = make(clip, micro, false);
    double p[N], q[N], norm = 0; float got[N], got_norm;
    by_hand(clip, micro, 5, .03, p, q, &norm);
    for (int i = 0; i < 5; i++) step(&f, i, micro, .03);
    read(&f, f.p, got);
    for (int i = 0; i < N; i++) CHECK_CLOSE(got[i], p[i], 1e-5);       /* five steps of binary32 on values near 1 */
    read(&f, f.q, got);
    for (int i = 0; i < N; i++) CHECK_CLOSE(got[i], q[i], 1e-5);
    CHECK_OK(lk_exec_get(f.x, lk_optimiser_grad_norm(f.o), &got_norm, 1));
    CHECK_CLOSE(got_norm, norm, 1e-5 * norm);
    drop(&f);
}
TEST(adamw_without_clipping) { against_hand(0, 1); }
TEST(adamw_with_clipping) { against_hand(.05, 1); }
TEST(micro_batches_are_averaged) { against_hand(.2, 3); }
TEST(a_wrong_step_would_be_seen) {                                     /* the bound above tells a learning rate one percent off */
    double a[N], b[N], q[N], norm;
    by_hand(0, 1, 5, .03, a, q, &norm);
    by_hand(0, 1, 5, .0302, b, q, &norm);
    CHECK(fabs(a[0] - b[0]) > 1e-4);
}
TEST(the_average_follows) {
    fixture f = make(0, 1, true);
    float p[N], avg[N]; double want[N] = { 0 };
    for (int s = 0; s < 4; s++) {
        step(&f, s, 1, .1);
        read(&f, f.p, p);
        double decay = s == 0 ? 0 : fmin(.9, (1. + s) / (10. + s));
        for (int i = 0; i < N; i++) want[i] += (1 - decay) * (p[i] - want[i]);
    }
    read(&f, lk_average_of(f.e, 0), avg);
    for (int i = 0; i < N; i++) CHECK_CLOSE(avg[i], want[i], 1e-6);
    CHECK_OK(lk_average_apply(f.e, f.x));
    read(&f, f.p, p);
    CHECK(!memcmp(p, avg, sizeof p));
    drop(&f);
}
TEST(resuming_changes_no_bit) {
    char *path = lk_xfmt("%s/ckpt.safetensors", lk_test_dir());
    fixture whole = make(.1, 2, true), first = make(.1, 2, true), second = make(.1, 2, true);
    for (int i = 0; i < 6; i++) step(&whole, i, 2, .05);
    for (int i = 0; i < 3; i++) step(&first, i, 2, .05);
    CHECK_OK(lk_checkpoint_save(first.x, 3, path));
    int64_t at = -1;
    CHECK_OK(lk_checkpoint_load(second.x, path, &at));
    CHECK(at == 3);
    for (int64_t i = at; i < 6; i++) step(&second, i, 2, .05);
    float a[N], b[N];
    const char *const names[] = { "p", "q", "p.adamw_m", "q.adamw_v", "p.ema" };
    for (int k = 0; k < 5; k++) {
        read(&whole, lk_find(whole.g, names[k]), a);
        read(&second, lk_find(second.g, names[k]), b);
        CHECK_MSG(!memcmp(a, b, sizeof a), "%s differs after resuming", names[k]);
    }
    drop(&whole); drop(&first); drop(&second);
    free(path);
}
TEST(a_checkpoint_of_another_graph_is_refused) {
    char *path = lk_xfmt("%s/other.safetensors", lk_test_dir()); int64_t at;
    fixture with = make(0, 1, true), without = make(0, 1, false);
    step(&without, 0, 1, .1);
    CHECK_OK(lk_checkpoint_save(without.x, 1, path));
    CHECK_FAILS(lk_checkpoint_load(with.x, path, &at), "states");
    lk_st_item item = { .name = "p", .dtype = LK_ST_F32, .rank = 1, .d = { 1 }, .data = &(float){ 1 } };
    CHECK_OK(lk_st_write(path, &item, 1, NULL));
    CHECK_FAILS(lk_checkpoint_load(with.x, path, &at), "not a training checkpoint");
    drop(&with); drop(&without);
    free(path);
}
TEST(mistakes_are_told) {
    lk_graph *g = lk_graph_new();
    lk_optimiser *o = lk_optimiser_new(g, NULL, 0, (lk_optimiser_config){ 0 });
    lk_optimiser_add_loss(o, lk_scalar(g, 1));
    CHECK_FAILS(lk_graph_error(g), "needs params");
    lk_graph_free(g);
    double rate;
    CHECK_FAILS(lk_lr_at(&(lk_lr){ .name = "cosin", .base = 1, .total = 10 }, 0, &rate), "nearest is cosine");
    CHECK_FAILS(lk_lr_at(&(lk_lr){ .name = "cosine", .base = 1 }, 0, &rate), "total");
    lk_predict p;
    CHECK_FAILS(lk_predict_parse("noise", &p), "epsilon");
}

/* ---- the diffusion step with its own noise --------------------------------------------------------------------------- */
static lk_val scaled_model(void *ctx, lk_graph *g, int micro, lk_val noisy, lk_val timestep) {
    (void)micro; (void)timestep;
    return lk_mul(g, noisy, *(lk_val *)ctx);
}
TEST(philox_noise_does_not_depend_on_the_batch) {                     /* two samples in one batch = the same two in two micro-batches */
    double loss[2];
    for (int micro = 1; micro <= 2; micro++) {
        lk_graph *g = lk_graph_new(); lk_exec *x; lk_scheduler *s;
        int64_t B = 2 / micro, per = 3 * 4 * 4;
        lk_val w = lk_param(g, "w", LK_SCALAR, LK_MEM_ADAPTER);
        lk_optimiser *o = lk_optimiser_new(g, &w, 1, (lk_optimiser_config){ .micro_batches = micro });
        lk_diffusion_config c = { .prediction = LK_PREDICT_V, .latent = LK_SHAPE(B, 3, 4, 4), .micro_batches = micro, .snr_gamma = 5, .noise_offset = .1 };
        lk_diffusion_step *d = lk_diffusion_step_new(g, c, scaled_model, &w, NULL, o);
        lk_optimiser_finish(o);
        CHECK_OK(lk_graph_error(g));
        CHECK_OK(lk_exec_new(g, (lk_val[]){ lk_optimiser_loss(o) }, 1, (lk_exec_opts){ .backend = lk_backend_ref() }, &x));
        CHECK_OK(lk_scheduler_parse("DDPMScheduler", "{\"prediction_type\": \"v_prediction\"}", &s));
        CHECK_OK(lk_exec_set_scalar(x, w, .7));
        CHECK_OK(lk_optimiser_set(o, x, 0, .1));
        const double t[2] = { 37, 981 }; const int64_t ids[2] = { 5, 11 };
        float x0[2 * 48];
        for (int k = 0; k < 96; k++) x0[k] = lk_philox_normal(3, 0, 0, (uint64_t)k);
        for (int m = 0; m < micro; m++) {
            CHECK_OK(lk_exec_set(x, d->micro[m].x0, x0 + m * B * per, B * per));
            CHECK_OK(lk_diffusion_set_timesteps(d, x, m, s, t + m * B, NULL));
            CHECK_OK(lk_diffusion_set_noise_key(d, x, m, 42, 7, ids + m * B));
        }
        CHECK_OK(lk_exec_run(x));
        CHECK_OK(lk_exec_get_f64(x, lk_optimiser_loss(o), &loss[micro - 1], 1));
        lk_scheduler_free(s); lk_exec_free(x); lk_graph_free(g);
    }
    CHECK(loss[0] > 0);
    CHECK_CLOSE(loss[1], loss[0], 1e-12 * loss[0]);
}
