/* Adapters: files in three formats against the peers' outputs, corrupted files refused by name, an untrained adapter changes no bit,
 * what is saved loads again to the same bits, dropout. The oracle of the outputs is the peer run in binary64 (tests/golden/models). */
#include "tests/lib/lk_test.h"
#include "models/lora_file.h"
#include "models/models.h"

#define GOLDEN "tests/golden/models/"

/* One UNet with adapters, run on the inputs of an io file. */
typedef struct { lk_graph *g; lk_exec *exec; lk_val out; lk_st *weights, *io; } bench;

static lk_val input_like(lk_graph *g, const lk_st *io, const char *name) {
    const lk_tensor *t = lk_st_find(io, name);
    if (!t) return LK_NONE;
    lk_shape s = { .rank = t->rank };
    memcpy(s.d, t->d, sizeof s.d);
    return lk_input(g, name, LK_F32, s);
}

static lk_err set_inputs(bench *b) {
    for (int i = 0; i < lk_st_count(b->io); i++) {
        const lk_tensor *t = lk_st_at(b->io, i);
        lk_val v = lk_find(b->g, t->name);
        if (!lk_ok(v)) continue;
        float *x = lk_xaligned((size_t)t->numel * sizeof *x);
        lk_err err = lk_st_f32(t, x);
        if (!err) err = lk_exec_set(b->exec, v, x, t->numel);
        free(x);
        if (err) return err;
    }
    return LK_OK;
}

static lk_err bench_open(bench *b, const char *base, const char *io, lk_adapter *const *adapters, int n, double weight) {
    char path[256];
    lk_unet_config c;
    memset(b, 0, sizeof *b);
    snprintf(path, sizeof path, GOLDEN "%s/config.json", base);
    LK_TRY(lk_unet_config_load(path, &c));
    snprintf(path, sizeof path, GOLDEN "%s/model.safetensors", base);
    LK_TRY(lk_st_open(path, &b->weights));
    snprintf(path, sizeof path, GOLDEN "%s/io.safetensors", io);
    LK_TRY(lk_st_open(path, &b->io));
    b->g = lk_graph_new();
    lk_net net = lk_net_root(b->g);
    net.adapters = adapters;
    net.n_adapters = n;
    for (int i = 0; i < n; i++) lk_adapter_weight(adapters[i], weight == 1 ? LK_NONE : lk_scalar(b->g, weight));
    lk_unet_extra extra = LK_UNET_PLAIN;
    extra.text_embeds = input_like(b->g, b->io, "in.text_embeds");
    extra.time_ids = input_like(b->g, b->io, "in.time_ids");
    b->out = lk_unet2d(&net, &c, input_like(b->g, b->io, "in.sample"), input_like(b->g, b->io, "in.timestep"), input_like(b->g, b->io, "in.encoder_hidden_states"), extra);
    LK_TRY(lk_graph_error(b->g));
    LK_TRY(lk_exec_new(b->g, &b->out, 1, (lk_exec_opts){ 0 }, &b->exec));
    LK_TRY(lk_weights_bind(b->exec, b->weights, "", NULL));
    return set_inputs(b);
}

static void bench_close(bench *b) {
    lk_exec_free(b->exec);
    lk_graph_free(b->g);
    lk_st_close(b->weights);
    lk_st_close(b->io);
}

static float *bench_run(bench *b, int64_t *n) {
    *n = lk_numel(lk_shape_of(b->g, b->out));
    float *x = lk_xcalloc((size_t)*n, sizeof *x);
    CHECK_OK(lk_exec_run(b->exec));
    CHECK_OK(lk_exec_get(b->exec, b->out, x, *n));
    return x;
}

/* Relative L2 distance to a golden tensor; NaN and a wrong size give NaN. */
static double distance(bench *b, const char *name) {
    int64_t n;
    float *x = bench_run(b, &n);
    const lk_tensor *t = lk_st_find(b->io, name);
    double d = 0, s = 0;
    if (!t || t->numel != n) { free(x); return NAN; }
    float *want = lk_xaligned((size_t)n * sizeof *want);
    CHECK_OK(lk_st_f32(t, want));
    for (int64_t i = 0; i < n; i++) { d += pow((double)x[i] - want[i], 2); s += pow(want[i], 2); }
    free(x);
    free(want);
    return sqrt(d / s);
}

/* What a user does: look at the file, build with what it says, load it. */
static lk_err load(const char *base, const char *io, const char *file, double weight, bench *b, lk_adapter **a) {
    lk_lora_config c;
    lk_arena *arena = lk_arena_new();
    memset(b, 0, sizeof *b);
    *a = NULL;
    lk_err err = lk_adapter_inspect(file, arena, &c);
    if (!err) {
        *a = lk_adapter_new(c, "");
        err = bench_open(b, base, io, a, 1, weight);
    }
    if (!err) err = lk_adapter_load(*a, b->exec, file);
    lk_arena_free(arena);
    return err;
}

static void loads_to(const char *base, const char *io, const char *file, double weight, const char *out, double tol) {
    bench b;
    lk_adapter *a;
    char path[256];
    snprintf(path, sizeof path, GOLDEN "%s/%s", io, file);
    CHECK_OK(load(base, io, path, weight, &b, &a));
    double d = b.exec ? distance(&b, out) : NAN;
    CHECK_MSG(d <= tol, "%s: %s is %g away, allowed %g", file, out, d, tol);
    bench_close(&b);
    lk_adapter_free(a);
}

/* Tolerances: case.json's, 8 times the peer's own binary32 error. */
TEST(formats_give_the_peers_output) {
    const char *files[] = { "peft/adapter_model.safetensors", "diffusers/pytorch_lora_weights.safetensors", "diffusers_mixed/pytorch_lora_weights.safetensors", "kohya/lora.safetensors" };
    for (int i = 0; i < 4; i++) loads_to("unet_sd15", "lora_formats", files[i], 1, "out.lora", 1.7e-5);
    loads_to("unet_sd15", "lora_formats", "diffusers_no_metadata/pytorch_lora_weights.safetensors", 1, "out.alpha_equals_rank", 1.5e-5);
    loads_to("unet_sd15", "lora_formats", "kohya/lora.safetensors", 0.5, "out.fused_0.5", 1.3e-5);
}
TEST(sdxl_kohya_with_sgm_names) {
    loads_to("unet_sdxl", "lora_sdxl_kohya", "lora.safetensors", 1, "out.lora", 6.7e-6);
    loads_to("unet_sdxl", "lora_sdxl_kohya", "lora_per_module.safetensors", 1, "out.lora_per_module", 5.8e-6);
}
TEST(intact_controls_load) {
    const char *files[] = { "corrupt/peft_control/adapter_model.safetensors", "corrupt/diffusers_control/pytorch_lora_weights.safetensors", "corrupt/kohya_control/lora.safetensors" };
    for (int i = 0; i < 3; i++) loads_to("unet_sd15", "lora_formats", files[i], 1, "out.mid_only", 7.8e-6);
}
TEST(a_wrong_weight_is_noticed) {          /* the comparison above must be able to fail */
    bench b;
    lk_adapter *a;
    CHECK_OK(load("unet_sd15", "lora_formats", GOLDEN "lora_formats/kohya/lora.safetensors", 0.99, &b, &a));
    CHECK(distance(&b, "out.lora") > 1.7e-5);
    bench_close(&b);
    lk_adapter_free(a);
}

TEST(corrupt_files_are_refused_by_key) {
    const struct { const char *kind, *file, *dotted; } formats[] = {
        { "peft", "adapter_model.safetensors", "attn1.to_v" }, { "diffusers", "pytorch_lora_weights.safetensors", "attn1.to_v" }, { "kohya", "lora.safetensors", "attn1_to_v" } };
    const struct { const char *flaw, *says; } flaws[] = { { "wrong_key", "no module of the model" }, { "wrong_shape", "the model expects [16, 4]" }, { "missing_up", "is missing" } };
    for (int i = 0; i < 3; i++)
        for (int j = 0; j < 3; j++) {
            bench b;
            lk_adapter *a;
            char path[256], part[64];
            snprintf(path, sizeof path, GOLDEN "lora_formats/corrupt/%s_%s/%s", formats[i].kind, flaws[j].flaw, formats[i].file);
            lk_err err = load("unet_sd15", "lora_formats", path, 1, &b, &a);
            snprintf(part, sizeof part, "%s", formats[i].dotted);
            if (!strcmp(flaws[j].flaw, "wrong_key")) part[4] = '7';
            CHECK_MSG(err && strstr(lk_err_text(err), flaws[j].says) && strstr(lk_err_text(err), part), "%s: got \"%s\"", path, lk_err_text(err));
            lk_err_free(err);
            bench_close(&b);
            lk_adapter_free(a);
        }
}

static const char *const all_targets[] = { "to_q", "to_k", "to_v", "to_out.0", "conv1", "conv2", "proj_in", "proj_out", "ff.net.0.proj", NULL };

static bool same_bits(const float *x, const float *y, int64_t n) { return !memcmp(x, y, (size_t)n * sizeof *x); }

TEST(an_untrained_adapter_changes_no_bit) {
    bench plain;
    int64_t n;
    CHECK_OK(bench_open(&plain, "unet_sd15", "lora_formats", NULL, 0, 1));
    float *want = bench_run(&plain, &n);
    for (lk_lora_kind kind = LK_LORA; kind <= LK_DORA; kind++) {
        bench b;
        lk_adapter *a = lk_adapter_new((lk_lora_config){ .kind = kind, .r = 3, .alpha = 5, .targets = all_targets }, "face/");
        CHECK_OK(bench_open(&b, "unet_sd15", "lora_formats", &a, 1, 1));
        CHECK(lk_adapter_modules(a) > 100);
        CHECK_OK(lk_adapter_init(a, b.exec, 7));
        float *got = bench_run(&b, &n);
        CHECK_MSG(same_bits(got, want, n), "kind %d: the output of a fresh adapter differs from the base's", (int)kind);
        free(got);
        bench_close(&b);
        lk_adapter_free(a);
    }
    free(want);
    bench_close(&plain);
}

/* Fills every adapter param with small numbers, so that each matters. */
static void scramble(lk_adapter *a, bench *b) {
    const lk_val *p;
    int n = lk_adapter_params(a, b->g, &p);
    for (int i = 0; i < n; i++) {
        int64_t size = lk_numel(lk_shape_of(b->g, p[i]));
        float *x = lk_xaligned((size_t)size * sizeof *x);
        for (int64_t j = 0; j < size; j++) x[j] = 0.3f * lk_philox_normal(99, (uint64_t)i, 0, (uint64_t)j);
        CHECK_OK(lk_exec_set(b->exec, p[i], x, size));
        free(x);
    }
}

TEST(saved_and_loaded_gives_the_same_bits) {
    for (lk_lora_kind kind = LK_LORA; kind <= LK_DORA; kind++) {
        bench b, c;
        lk_adapter *a, *again;
        char path[512];
        int64_t n;
        const char *special[] = { "mid_block.attentions.0.proj_in", NULL };
        a = lk_adapter_new((lk_lora_config){ .kind = kind, .r = 3, .alpha = 5.5, .targets = all_targets, .rank_names = special, .rank_values = (int[]){ 2 },
                                             .alpha_names = special, .alpha_values = (double[]){ 9 } }, "");
        CHECK_OK(bench_open(&b, "unet_sd15", "lora_formats", &a, 1, 1));
        scramble(a, &b);
        snprintf(path, sizeof path, "%s/adapter_%d.safetensors", lk_test_dir(), (int)kind);
        CHECK_OK(lk_adapter_save(a, b.exec, path));
        CHECK_OK(load("unet_sd15", "lora_formats", path, 1, &c, &again));
        float *x = bench_run(&b, &n), *y = c.exec ? bench_run(&c, &n) : NULL;
        CHECK(y && same_bits(x, y, n));
        CHECK(distance(&b, "out.base") > 1e-3);
        free(x);
        free(y);
        bench_close(&b);
        bench_close(&c);
        lk_adapter_free(a);
        lk_adapter_free(again);
    }
}

TEST(an_adapter_of_another_alpha_is_refused) {
    bench b;
    lk_adapter *a = lk_adapter_new((lk_lora_config){ .r = 4, .alpha = 4, .targets = (const char *[]){ "to_q", "to_k", "to_v", "to_out.0", "conv1", "conv2", "proj_in", "proj_out", NULL } }, "");
    CHECK_OK(bench_open(&b, "unet_sd15", "lora_formats", &a, 1, 1));
    CHECK_FAILS(lk_adapter_load(a, b.exec, GOLDEN "lora_formats/kohya/lora.safetensors"), "was built with 4");
    bench_close(&b);
    lk_adapter_free(a);
}

/* W = 0, A = 1, B = 1, x = 1: the branch is the number of kept inputs over the keep probability. */
static void dropped_sum(double p, bool training, int64_t step, float out[2]) {
    enum { WIDTH = 1000 };
    lk_graph *g = lk_graph_new();
    lk_exec *exec = NULL;
    lk_net net = lk_net_root(g);
    lk_adapter *a = lk_adapter_new((lk_lora_config){ .r = 1, .alpha = 1, .dropout = p, .targets = (const char *[]){ "to_q", NULL } }, "");
    lk_val at = lk_input(g, "step", LK_I64, LK_SCALAR), samples = lk_input(g, "samples", LK_I64, LK_SHAPE(2)), seed = lk_input(g, "seed", LK_I64, LK_SCALAR);
    if (training) lk_adapter_training(a, true, seed, at, samples);
    net.adapters = &a;
    net.n_adapters = 1;
    lk_val y = lk_nn_linear(&net, "to_q", lk_ones(g, LK_SHAPE(2, WIDTH)), WIDTH, 1, false);
    CHECK_OK(lk_graph_error(g));
    CHECK_OK(lk_exec_new(g, &y, 1, (lk_exec_opts){ 0 }, &exec));
    float ones[WIDTH];
    for (int i = 0; i < WIDTH; i++) ones[i] = 1;
    const lk_val *params;
    CHECK(lk_adapter_params(a, g, &params) == 2);
    CHECK_OK(lk_exec_set(exec, params[0], ones, WIDTH));
    CHECK_OK(lk_exec_set(exec, params[1], ones, 1));
    if (training) {
        CHECK_OK(lk_exec_set_i64(exec, at, &step, 1));
        CHECK_OK(lk_exec_set_i64(exec, seed, (int64_t[]){ 11 }, 1));
        CHECK_OK(lk_exec_set_i64(exec, samples, (int64_t[]){ 0, 1 }, 2));
    }
    CHECK_OK(lk_exec_run(exec));
    CHECK_OK(lk_exec_get(exec, y, out, 2));
    lk_exec_free(exec);
    lk_graph_free(g);
    lk_adapter_free(a);
}

/* Rank and module dropout: 2 samples of 3 tokens (or a 3-pixel picture) through one module whose ranks each add 1 to every output. */
enum { RANKS = 600 };
static void dropped_branch(double neuron_p, double rank_p, double module_p, bool conv, int64_t step, float out[6]) {
    lk_graph *g = lk_graph_new();
    lk_exec *exec;
    lk_net net = lk_net_root(g);
    lk_adapter *a = lk_adapter_new((lk_lora_config){ .r = RANKS, .alpha = RANKS, .neuron_dropout = neuron_p, .rank_dropout = rank_p, .module_dropout = module_p, .targets = (const char *[]){ "m", NULL } }, "");
    lk_val at = lk_input(g, "step", LK_I64, LK_SCALAR), samples = lk_input(g, "samples", LK_I64, LK_SHAPE(2)), seed = lk_input(g, "seed", LK_I64, LK_SCALAR);
    lk_adapter_training(a, true, seed, at, samples);
    net.adapters = &a;
    net.n_adapters = 1;
    lk_val y = conv ? lk_nn_conv2d(&net, "m", lk_ones(g, LK_SHAPE(2, 1, 3, 1)), 1, 1, 1, 1, 0, false) : lk_nn_linear(&net, "m", lk_ones(g, LK_SHAPE(2, 3, 1)), 1, 1, false);
    CHECK_OK(lk_graph_error(g));
    CHECK_OK(lk_exec_new(g, &y, 1, (lk_exec_opts){ 0 }, &exec));
    float ones[RANKS];
    for (int i = 0; i < RANKS; i++) ones[i] = 1;
    const lk_val *params;
    CHECK(lk_adapter_params(a, g, &params) == 2);
    CHECK_OK(lk_exec_set(exec, params[0], ones, RANKS));
    CHECK_OK(lk_exec_set(exec, params[1], ones, RANKS));
    CHECK_OK(lk_exec_set_i64(exec, at, &step, 1));
    CHECK_OK(lk_exec_set_i64(exec, seed, (int64_t[]){ 11 }, 1));
    CHECK_OK(lk_exec_set_i64(exec, samples, (int64_t[]){ 0, 1 }, 2));
    CHECK_OK(lk_exec_run(exec));
    CHECK_OK(lk_exec_get(exec, y, out, 6));
    lk_exec_free(exec);
    lk_graph_free(g);
    lk_adapter_free(a);
}
TEST(ranks_and_modules_drop_by_sample) {
    for (int conv = 0; conv < 2; conv++) {
        float y[6], again[6], later[6];
        dropped_branch(0, .2, 0, conv, 3, y);
        dropped_branch(0, .2, 0, conv, 3, again);
        dropped_branch(0, .2, 0, conv, 4, later);
        for (int i = 0; i < 6; i++) {
            CHECK(y[i] == y[i / 3 * 3] && y[i] == again[i]);                        /* one mask for all positions of a sample */
            CHECK_CLOSE(y[i], RANKS, 5 * sqrt(RANKS * .2 / .8));                    /* five standard deviations of the kept ranks / 0.8 */
            CHECK_CLOSE(y[i] * .8, round(y[i] * .8), 1e-3);                         /* a whole number of ranks, each 1 / 0.8 */
        }
        CHECK(y[0] != RANKS && y[0] != y[3] && y[0] != later[0]);
        int off = 0, all = 0;
        for (int64_t step = 0; step < 60; step++) {
            dropped_branch(0, 0, .25, conv, step, y);
            for (int b = 0; b < 2; b++, all++) {
                CHECK((y[3 * b] == 0 || y[3 * b] == RANKS) && y[3 * b] == y[3 * b + 1] && y[3 * b] == y[3 * b + 2]);
                off += y[3 * b] == 0;
            }
        }
        CHECK_CLOSE(off, .25 * all, 5 * sqrt(.25 * .75 * all));
        dropped_branch(0, 0, 1, conv, 0, y);
        CHECK(y[0] == 0 && y[5] == 0);
    }
}
/* Kohya's dropout: every value behind A for itself, so positions of one sample differ, and the mean stays. */
TEST(neurons_drop_each_for_itself) {
    for (int conv = 0; conv < 2; conv++) {
        float y[6], again[6], later[6];
        dropped_branch(.2, 0, 0, conv, 3, y);
        dropped_branch(.2, 0, 0, conv, 3, again);
        dropped_branch(.2, 0, 0, conv, 4, later);
        for (int i = 0; i < 6; i++) {
            CHECK(y[i] == again[i]);
            CHECK_CLOSE(y[i], RANKS, 5 * sqrt(RANKS * .2 / .8));                    /* five standard deviations of the kept values / 0.8 */
            CHECK_CLOSE(y[i] * .8, round(y[i] * .8), 1e-3);
        }
        CHECK((y[0] != y[1] || y[1] != y[2]) && (y[0] != y[3] || y[1] != y[4]) && (y[0] != later[0] || y[1] != later[1]));
    }
}
TEST(gaussian_start_has_deviation_one_over_r) {
    lk_graph *g = lk_graph_new();
    lk_exec *exec;
    lk_net net = lk_net_root(g);
    lk_adapter *a = lk_adapter_new((lk_lora_config){ .r = 5, .alpha = 5, .gaussian = true, .targets = (const char *[]){ "m", NULL } }, "");
    net.adapters = &a;
    net.n_adapters = 1;
    lk_val y = lk_nn_linear(&net, "m", lk_ones(g, LK_SHAPE(1, 2000)), 2000, 3, false);
    CHECK_OK(lk_exec_new(g, &y, 1, (lk_exec_opts){ 0 }, &exec));
    CHECK_OK(lk_adapter_init(a, exec, 3));
    static float x[10000];
    float b[15];
    const lk_val *params;
    double sum = 0, square = 0, fourth = 0;
    CHECK(lk_adapter_params(a, g, &params) == 2);
    CHECK_OK(lk_exec_get(exec, params[0], x, 10000));
    CHECK_OK(lk_exec_get(exec, params[1], b, 15));
    for (int i = 0; i < 10000; i++) { double z = 5 * x[i]; sum += z; square += z * z; fourth += z * z * z * z; }
    CHECK_CLOSE(sum / 10000, 0, 5 / sqrt(10000.));                                   /* five standard errors of a standard normal's moments */
    CHECK_CLOSE(square / 10000, 1, 5 * sqrt(2 / 10000.));
    CHECK_CLOSE(fourth / 10000, 3, 5 * sqrt(96 / 10000.));
    for (int i = 0; i < 15; i++) CHECK(b[i] == 0);
    lk_exec_free(exec);
    lk_graph_free(g);
    lk_adapter_free(a);
}
TEST(dropout_is_of_the_input_in_training_alone) {
    float off[2], on[2], again[2], later[2];
    dropped_sum(0.25, false, 0, off);
    dropped_sum(0.25, true, 5, on);
    dropped_sum(0.25, true, 5, again);
    dropped_sum(0.25, true, 6, later);
    CHECK(off[0] == 1000 && off[1] == 1000);
    CHECK_CLOSE(on[0], 1000, 5 * sqrt(1000 * .25 / .75));       /* five standard deviations of the kept count / 0.75 */
    CHECK_CLOSE(on[1], 1000, 5 * sqrt(1000 * .25 / .75));
    CHECK(on[0] != 1000 || on[1] != 1000);
    CHECK(on[0] == again[0] && on[1] == again[1]);
    CHECK(on[0] != later[0] || on[1] != later[1]);
}

/* ---- formats written -------------------------------------------------------------------------------------------------- */

/* kohya has no rsLoRA: its scale is in alpha, exact here since the ranks are squares. */
static void written_as_loads_the_same(lk_lora_kind kind, lk_lora_format format, const char *base, const char *io) {
    bench b, c;
    lk_adapter *again, *a = lk_adapter_new((lk_lora_config){ .kind = kind, .r = 4, .alpha = 5.5, .targets = all_targets, .rank_names = (const char *[]){ "conv1", NULL }, .rank_values = (int[]){ 1 },
                                                             .alpha_names = (const char *[]){ "to_k", NULL }, .alpha_values = (double[]){ 3 } }, "");
    char path[512];
    int64_t n;
    CHECK_OK(bench_open(&b, base, io, &a, 1, 1));
    scramble(a, &b);
    snprintf(path, sizeof path, "%s/%s_%d_%d.safetensors", lk_test_dir(), base, (int)kind, (int)format);
    CHECK_OK(lk_adapter_save_as(a, b.exec, path, format, "unet"));
    CHECK_OK(load(base, io, path, 1, &c, &again));
    float *x = bench_run(&b, &n), *y = c.exec ? bench_run(&c, &n) : NULL;
    CHECK_MSG(y && same_bits(x, y, n), "kind %d, format %d: loads to other values", (int)kind, (int)format);
    free(x);
    free(y);
    bench_close(&b);
    bench_close(&c);
    lk_adapter_free(a);
    lk_adapter_free(again);
}
TEST(diffusers_and_kohya_files_load_to_the_same_bits) {
    for (lk_lora_kind kind = LK_LORA; kind <= LK_DORA; kind++) {
        written_as_loads_the_same(kind, LK_FORMAT_DIFFUSERS, "unet_sd15", "lora_formats");
        written_as_loads_the_same(kind, LK_FORMAT_KOHYA, "unet_sd15", "lora_formats");
    }
    written_as_loads_the_same(LK_LORA, LK_FORMAT_KOHYA_SGM, "unet_sd15", "lora_formats");
    written_as_loads_the_same(LK_LORA, LK_FORMAT_KOHYA_SGM, "unet_sdxl", "lora_sdxl_kohya");
}

/* The peer's own file, read and written again, has its very keys and values. */
static void rewrites_the_peers_keys(const char *file, const char *base, lk_lora_format format) {
    char path[512];
    lk_lora_file *f;
    lk_st *checkpoint, *theirs, *ours;
    const char *const *modules;
    int n;
    lk_arena *arena = lk_arena_new();
    CHECK_OK(lk_st_open(base, &checkpoint));
    CHECK_OK(lk_lora_modules_of(checkpoint, arena, &modules, &n));
    CHECK_OK(lk_lora_file_read(file, &f));
    CHECK_OK(lk_lora_file_resolve(f, modules, n));
    snprintf(path, sizeof path, "%s/rewritten.safetensors", lk_test_dir());
    CHECK_OK(lk_lora_file_save(f, path, format, false));
    CHECK_OK(lk_st_open(file, &theirs));
    CHECK_OK(lk_st_open(path, &ours));
    CHECK(lk_st_count(ours) == lk_st_count(theirs));
    for (int i = 0; i < lk_st_count(theirs); i++) {
        const lk_tensor *t = lk_st_at(theirs, i), *o = lk_st_find(ours, t->name);
        float x[4096], y[4096];
        bool same = o && o->numel == t->numel && t->numel <= 4096;
        if (same) { CHECK_OK(lk_st_f32(t, x)); CHECK_OK(lk_st_f32(o, y)); same = same_bits(x, y, t->numel); }
        CHECK_MSG(same, "%s: %s", file, t->name);
    }
    lk_st_close(checkpoint);
    lk_st_close(theirs);
    lk_st_close(ours);
    lk_lora_file_free(f);
    lk_arena_free(arena);
}
TEST(a_peers_file_written_again_has_its_keys) {
    rewrites_the_peers_keys(GOLDEN "lora_formats/kohya/lora.safetensors", GOLDEN "unet_sd15/model.safetensors", LK_FORMAT_KOHYA);
    rewrites_the_peers_keys(GOLDEN "lora_formats/diffusers/pytorch_lora_weights.safetensors", GOLDEN "unet_sd15/model.safetensors", LK_FORMAT_DIFFUSERS);
    rewrites_the_peers_keys(GOLDEN "lora_sdxl_kohya/lora_per_module.safetensors", GOLDEN "unet_sdxl/model.safetensors", LK_FORMAT_KOHYA_SGM);
}
TEST(an_underscored_name_without_a_base_is_refused) {
    lk_lora_file *f;
    char path[512];
    snprintf(path, sizeof path, "%s/never.safetensors", lk_test_dir());
    CHECK_OK(lk_lora_file_read(GOLDEN "lora_formats/kohya/lora.safetensors", &f));
    CHECK_FAILS(lk_lora_file_save(f, path, LK_FORMAT_PEFT, false), "the base checkpoint is needed");
    CHECK_FAILS(lk_lora_file_resolve(f, (const char *[]){ "mid_block.attentions.0.proj_in" }, 1), "the nearest is 'mid_block.attentions.0.proj_in'");
    lk_lora_file_free(f);
}

/* ---- modules_to_save ------------------------------------------------------------------------------------------------------- */

static lk_adapter *with_saved(const char *const *saved) {
    return lk_adapter_new((lk_lora_config){ .r = 3, .alpha = 5, .targets = all_targets, .modules_to_save = saved }, "face/");
}
TEST(whole_modules_start_as_the_base_and_come_back) {
    static const char *const saved[] = { "conv_in", "conv_norm_out", "mid_block", NULL };
    bench plain, b, c, merged;
    lk_adapter *a = with_saved(saved), *again;
    char path[512], other[512];
    int64_t n;
    CHECK_OK(bench_open(&plain, "unet_sd15", "lora_formats", NULL, 0, 1));
    CHECK_OK(bench_open(&b, "unet_sd15", "lora_formats", &a, 1, 1));
    CHECK_OK(lk_adapter_init(a, b.exec, 7));
    float *base = bench_run(&plain, &n), *fresh = bench_run(&b, &n);
    CHECK(same_bits(base, fresh, n));
    CHECK(lk_ok(lk_find(b.g, "face/conv_in.modules_to_save.weight")) && lk_ok(lk_find(b.g, "face/mid_block.resnets.0.conv1.modules_to_save.bias")));
    CHECK(!lk_ok(lk_find(b.g, "face/mid_block.resnets.0.conv1.lora_A.weight")));           /* PEFT too adapts nothing inside them */
    scramble(a, &b);
    snprintf(path, sizeof path, "%s/whole.safetensors", lk_test_dir());
    snprintf(other, sizeof other, "%s/other.safetensors", lk_test_dir());
    CHECK_OK(lk_adapter_save(a, b.exec, path));
    lk_st *st;
    CHECK_OK(lk_st_open(path, &st));
    CHECK(lk_st_find(st, "base_model.model.conv_in.weight") && lk_st_find(st, "base_model.model.mid_block.resnets.0.norm1.bias"));
    CHECK(strstr(lk_st_meta(st, "adapter_config"), "\"modules_to_save\"") && !strstr(lk_st_meta(st, "adapter_config"), "\"modules_to_save\":null"));
    lk_st_close(st);
    CHECK_OK(load("unet_sd15", "lora_formats", path, 1, &c, &again));
    float *x = bench_run(&b, &n), *y = c.exec ? bench_run(&c, &n) : NULL;
    CHECK(y && same_bits(x, y, n) && !same_bits(x, base, n));
    CHECK_FAILS(lk_adapter_save_as(a, b.exec, other, LK_FORMAT_KOHYA, "unet"), "only format peft can hold");
    CHECK_FAILS(lk_adapter_save_as(a, b.exec, other, LK_FORMAT_DIFFUSERS, "unet"), "only format peft can hold");
    CHECK_OK(bench_open(&merged, "unet_sd15", "lora_formats", NULL, 0, 1));                /* merged into copies: bound weights cannot be written */
    lk_exec *writable;
    CHECK_OK(lk_exec_new(merged.g, &merged.out, 1, (lk_exec_opts){ 0 }, &writable));
    CHECK_OK(lk_weights_set(writable, merged.weights, "", NULL));
    lk_exec_free(merged.exec);
    merged.exec = writable;
    CHECK_OK(set_inputs(&merged));
    CHECK_FAILS(lk_adapter_merge(a, b.exec, 0.5, writable), "has no weight but 1");
    CHECK_OK(lk_weights_set(writable, merged.weights, "", NULL));
    CHECK_OK(lk_adapter_merge(a, b.exec, 1, writable));
    float *z = bench_run(&merged, &n);
    double d = 0, s = 0;
    for (int64_t i = 0; i < n; i++) { d += pow((double)x[i] - z[i], 2); s += pow(x[i], 2); }
    CHECK(sqrt(d / s) < 1e-4);                                                             /* as out.fused of the golden case: rounding of W + s BA, amplified by scrambled weights */
    free(base); free(fresh); free(x); free(y); free(z);
    bench_close(&plain); bench_close(&b); bench_close(&c); bench_close(&merged);
    lk_adapter_free(a); lk_adapter_free(again);
}
TEST(a_whole_module_without_its_part_is_refused) {
    static const char *const misspelt[] = { "conv_inn", NULL }, *const stem[] = { "conv_in", NULL }, *const more[] = { "conv_in", "conv_out", NULL };
    bench b, c;
    char path[512];
    lk_adapter *a = with_saved(misspelt);
    CHECK_OK(bench_open(&b, "unet_sd15", "lora_formats", &a, 1, 1));
    CHECK_FAILS(lk_adapter_init(a, b.exec, 7), "no module of the model is called 'conv_inn'; the nearest is 'conv_in'");
    bench_close(&b);
    lk_adapter_free(a);
    a = with_saved(stem);
    CHECK_OK(bench_open(&b, "unet_sd15", "lora_formats", &a, 1, 1));
    CHECK_OK(lk_adapter_init(a, b.exec, 7));
    snprintf(path, sizeof path, "%s/stem.safetensors", lk_test_dir());
    CHECK_OK(lk_adapter_save(a, b.exec, path));
    lk_adapter *wants_more = with_saved(more), *wants_less = with_saved(NULL);
    CHECK_OK(bench_open(&c, "unet_sd15", "lora_formats", &wants_more, 1, 1));
    CHECK_FAILS(lk_adapter_load(wants_more, c.exec, path), "nothing for 'conv_out.weight'");
    bench_close(&c);
    CHECK_OK(bench_open(&c, "unet_sd15", "lora_formats", &wants_less, 1, 1));
    CHECK_FAILS(lk_adapter_load(wants_less, c.exec, path), "belongs to no module this adapter was built to replace");
    bench_close(&c);
    bench_close(&b);
    lk_adapter_free(a); lk_adapter_free(wants_more); lk_adapter_free(wants_less);
    const float x[4] = { 0 };
    const char *config = "{\"peft_type\":\"LORA\",\"r\":1,\"lora_alpha\":1,\"modules_to_save\":[\"conv_in\"]}";
    lk_lora_file *f;
    const lk_st_item items[] = { { "base_model.model.q.lora_A.weight", LK_ST_F32, 2, { 1, 4 }, x }, { "base_model.model.q.lora_B.weight", LK_ST_F32, 2, { 4, 1 }, x }, { "base_model.model.conv_on.weight", LK_ST_F32, 1, { 4 }, x } };
    CHECK_OK(lk_st_write(path, items, 3, (const char *[]){ "adapter_config", config, NULL }));
    CHECK_FAILS(lk_lora_file_read(path, &f), "base_model.model.conv_on.weight' is no part of a LoRA");
    CHECK_OK(lk_st_write(path, items, 2, (const char *[]){ "adapter_config", config, NULL }));
    CHECK_FAILS(lk_lora_file_read(path, &f), "'conv_in' in modules_to_save; the file holds no such module");
}
/* Nothing reads it (the last block's text half of some models), yet it is saved with the others. */
TEST(an_adapter_on_an_unused_module_is_saved) {
    lk_graph *g = lk_graph_new();
    lk_exec *exec;
    lk_net net = lk_net_root(g);
    lk_adapter *a = lk_adapter_new((lk_lora_config){ .r = 2, .alpha = 2, .targets = (const char *[]){ "m", "idle", NULL } }, "");
    char path[512];
    net.adapters = &a;
    net.n_adapters = 1;
    lk_val x = lk_ones(g, LK_SHAPE(1, 4)), y = lk_nn_linear(&net, "m", x, 4, 3, false);
    lk_nn_linear(&net, "idle", x, 4, 3, false);
    CHECK_OK(lk_exec_new(g, &y, 1, (lk_exec_opts){ 0 }, &exec));
    CHECK_OK(lk_adapter_init(a, exec, 3));
    snprintf(path, sizeof path, "%s/idle.safetensors", lk_test_dir());
    CHECK_OK(lk_adapter_save(a, exec, path));
    lk_st *st;
    CHECK_OK(lk_st_open(path, &st));
    float v[8];
    CHECK_OK(lk_st_f32(lk_st_find(st, "base_model.model.idle.lora_A.weight"), v));
    CHECK(v[0] != 0);
    lk_st_close(st);
    lk_exec_free(exec);
    lk_graph_free(g);
    lk_adapter_free(a);
}
