/* Training steps of a whole UNet (tests/golden/models/unet_sd15) by backend/cuda over the emulated runtime: forward, mean
 * square loss, the gradients of every param, clipping by global norm, AdamW and a moving average. Three steps: kernels one
 * by one, captured, replayed. The losses and every param, moment and average have the bits of backend/cpu, threads
 * shuffled; what was allocated is what was planned. In make check not a run on a device. */
#include "models/models.h"
#include "io/io.h"
#include "tests/backend/cuda/where.h"
#include "tests/lib/lk_test.h"

#define MODEL "tests/golden/models/unet_sd15/"
enum { MAX_PARAMS = 600, STEPS = 3 };
typedef struct { lk_graph *g; int n; lk_val param[MAX_PARAMS], state[3 * MAX_PARAMS], loss, bc1, bc2, step; } training;

static lk_val input_like(lk_graph *g, const lk_st *io, const char *name) {
    for (int i = 0; i < lk_st_count(io); i++) {
        const lk_tensor *t = lk_st_at(io, i);
        if (strcmp(t->name, name)) continue;
        lk_shape s = {.rank = t->rank};
        memcpy(s.d, t->d, sizeof s.d);
        return lk_input(g, name, LK_F32, s);
    }
    return LK_NONE;
}
static training training_new(const lk_st *weights, const lk_st *io) {
    training t = {.g = lk_graph_new()};
    lk_graph *g = t.g;
    lk_unet_config c;
    CHECK_OK(lk_unet_config_load(MODEL "config.json", &c));
    lk_net net = lk_net_root(g);
    lk_val x = input_like(g, io, "in.sample"), time = input_like(g, io, "in.timestep"), context = input_like(g, io, "in.encoder_hidden_states");
    lk_val seed = lk_const(g, LK_I64, LK_SCALAR, (int64_t[]){5}), samples = lk_const(g, LK_I64, LK_SHAPE(2), (int64_t[]){0, 1});
    t.step = lk_input(g, "step", LK_I64, LK_SCALAR); t.bc1 = lk_input(g, "bc1", LK_F32, LK_SCALAR); t.bc2 = lk_input(g, "bc2", LK_F32, LK_SCALAR);
    lk_val noise = lk_randn(g, seed, t.step, samples, "noise", lk_shape_of(g, x));
    t.loss = lk_mse(g, lk_unet2d(&net, &c, lk_add(g, x, noise), time, context, LK_UNET_PLAIN), noise);
    for (int i = 0; i < lk_st_count(weights) && t.n < MAX_PARAMS; i++) {
        lk_val p = lk_find(g, lk_st_at(weights, i)->name);
        if (lk_ok(p)) t.param[t.n++] = p;
    }
    static lk_val grad[MAX_PARAMS];
    lk_vjp(g, t.loss, LK_NONE, t.param, t.n, grad);
    lk_val clip = lk_min(g, lk_scalar(g, 1), lk_recip(g, lk_global_norm(g, grad, t.n)));
    for (int i = 0; i < t.n; i++) {
        char name[3][24];
        for (int k = 0; k < 3; k++) { snprintf(name[k], sizeof name[k], "state%d.%d", k, i); t.state[3 * i + k] = lk_param(g, name[k], lk_shape_of(g, t.param[i]), LK_MEM_OPTIMISER); }
        lk_adamw(g, t.param[i], t.state[3 * i], t.state[3 * i + 1], lk_mul(g, grad[i], clip), lk_scalar(g, 0.001), t.bc1, t.bc2, (lk_adamw_attr){0.9, 0.99, 1e-6, 0.01});
        lk_ema(g, t.state[3 * i + 2], t.param[i], lk_scalar(g, 0.75));
    }
    lk_err e = lk_graph_error(g);
    CHECK_MSG(!e && t.n > 100, "%d params: %s", t.n, lk_err_text(e));
    lk_err_free(e);
    return t;
}
static void set_leaf(lk_exec *e, lk_graph *g, const lk_tensor *t) {
    lk_val v = lk_find(g, t->name);
    if (!lk_ok(v)) return;
    float *x = lk_xaligned((size_t)(t->numel + 1) * sizeof *x);
    CHECK_OK(lk_st_f32(t, x));
    CHECK_OK(lk_exec_set(e, v, x, t->numel));
    free(x);
}
/* Losses, then every param and state, one after the other. */
static int64_t train(const lk_backend *b, float **out) {
    lk_st *weights, *io;
    lk_exec *e;
    CHECK_OK(lk_st_open(MODEL "model.safetensors", &weights)); CHECK_OK(lk_st_open(MODEL "io.safetensors", &io));
    training t = training_new(weights, io);
    int64_t n = STEPS, at = STEPS;
    for (int i = 0; i < t.n; i++) n += 4 * lk_numel(lk_shape_of(t.g, t.param[i]));
    float *x = *out = lk_xcalloc((size_t)n, sizeof *x);
    lk_err err = lk_exec_new(t.g, &t.loss, 1, (lk_exec_opts){.backend = b}, &e);
    if (!CHECK_MSG(!err, "%s", lk_err_text(err))) return 0;
    for (int i = 0; i < lk_st_count(weights); i++) set_leaf(e, t.g, lk_st_at(weights, i));
    for (int i = 0; i < lk_st_count(io); i++) set_leaf(e, t.g, lk_st_at(io, i));
    if (b->device && EMULATED) CHECK_MSG(lk_exec_bytes(e) == most_allocated(), "planned %lld bytes, allocated %lld", (long long)lk_exec_bytes(e), (long long)most_allocated());
    for (int s = 0; s < STEPS; s++) {
        CHECK_OK(lk_exec_set_scalar(e, t.step, s)); CHECK_OK(lk_exec_set_scalar(e, t.bc1, 1 - pow(0.9, s + 1))); CHECK_OK(lk_exec_set_scalar(e, t.bc2, 1 - pow(0.99, s + 1)));
        CHECK_OK(lk_exec_run(e)); CHECK_OK(lk_exec_get(e, t.loss, &x[s], 1));
    }
    for (int i = 0; i < 4 * t.n; i++) {
        lk_val v = i < t.n ? t.param[i] : t.state[i - t.n];
        int64_t k = lk_numel(lk_shape_of(t.g, v));
        CHECK_OK(lk_exec_get(e, v, x + at, k));
        at += k;
    }
    lk_exec_free(e); lk_graph_free(t.g); lk_st_close(weights); lk_st_close(io);
    return n;
}
TEST(training_steps_of_a_unet_have_the_bits_of_cpu) {
    const lk_backend *cpu, *cuda;
    float *want, *got;
    CHECK_OK(lk_backend_cpu(LK_ISA_AUTO, &cpu));
    int64_t n = train(cpu, &want);
    CHECK(n > 400000 && isfinite(want[0]) && want[0] != want[1]);
    CHECK_OK(lk_backend_cuda(LK_CUDA_EXACT, &cuda));
    train(cuda, &got);
    int64_t differ = 0;
    for (int64_t i = 0; i < n; i++) differ += memcmp(&want[i], &got[i], sizeof *got) != 0;
    CHECK_MSG(!differ, "%lld of %lld values differ", (long long)differ, (long long)n);
    if (EMULATED) CHECK_MSG(graph_launches() == STEPS - 1, "%lld launches of a captured step", (long long)graph_launches());
    lk_cuda_close();
    char *left = leaks();
    CHECK_MSG(!*left, "%s", left);
    free(left);
    if (EMULATED) CHECK(blocks_of(LK_CUDA_adamw) > 0 && blocks_of(LK_CUDA_ema) > 0 && blocks_of(LK_CUDA_conv_dw) > 0 && blocks_of(LK_CUDA_random) > 0);
    free(want); free(got);
}
