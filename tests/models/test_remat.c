/* Recomputation under a memory budget: a LoRA training step of a public UNet gives the same bits whatever it keeps, in as
 * many bytes as the plan said. The plan's oracle: turns are executed symbolically, each 4 bytes of the arena remember who
 * wrote them, and a turn must find every input's bytes last written by that input; a planted wrong offset is seen. */
#include "models/models.h"
#include "tests/lib/lk_test.h"
#include "train/train.h"

static const char unet_dir[] = "tests/golden/models/unet_sd15";
enum { BATCH = 2, SIZE = 12, STEPS = 2, TOKENS = 5 };
typedef struct { lk_graph *g; lk_unet_config config; lk_adapter *adapter; lk_optimiser *optimiser; lk_val noisy, noise, timestep, text, out[2]; } step;

static bool step_new(step *s, int micro_batches) {
    static const char *const targets[] = {"to_q", "to_k", "to_v", "to_out.0", "conv1", NULL};
    *s = (step){.g = lk_graph_new(), .adapter = lk_adapter_new((lk_lora_config){.r = 2, .alpha = 3, .targets = targets}, "")};
    char path[128];
    snprintf(path, sizeof path, "%s/config.json", unet_dir);
    lk_err e = lk_unet_config_load(path, &s->config);
    if (!CHECK_MSG(!e, "%s", lk_err_text(e))) return false;
    lk_graph *g = s->g;
    lk_net net = lk_net_root(g);
    net.adapters = &s->adapter; net.n_adapters = 1;
    lk_shape latent = LK_SHAPE(BATCH, s->config.in_channels, SIZE, SIZE);
    s->noisy = lk_input(g, "noisy", LK_F32, latent); s->noise = lk_input(g, "noise", LK_F32, latent);
    s->timestep = lk_input(g, "timestep", LK_F32, LK_SHAPE(BATCH)); s->text = lk_input(g, "text", LK_F32, LK_SHAPE(BATCH, TOKENS, s->config.context[0]));
    lk_unet2d(&net, &s->config, s->noisy, s->timestep, s->text, LK_UNET_PLAIN);
    const lk_val *params;
    int n = lk_adapter_params(s->adapter, g, &params);
    s->optimiser = lk_optimiser_new(g, params, n, (lk_optimiser_config){.clip = 1, .micro_batches = micro_batches});
    for (int i = 0; i < micro_batches; i++) {
        lk_val x = i ? lk_scale(g, s->noisy, 1 - 0.25 * i) : s->noisy;
        lk_optimiser_add_loss(s->optimiser, lk_mse(g, lk_unet2d(&net, &s->config, x, s->timestep, s->text, LK_UNET_PLAIN), s->noise));
    }
    lk_optimiser_finish(s->optimiser);
    s->out[0] = lk_optimiser_loss(s->optimiser); s->out[1] = lk_optimiser_grad_norm(s->optimiser);
    CHECK_OK(lk_graph_error(g));
    return true;
}
static void step_free(step *s) {
    lk_adapter_free(s->adapter);
    lk_graph_free(s->g);
}
static void random_input(lk_exec *x, lk_graph *g, lk_val v, uint64_t seed) {
    int64_t n = lk_numel(lk_shape_of(g, v));
    float *values = lk_xcalloc((size_t)n, sizeof *values);
    for (int64_t i = 0; i < n; i++) values[i] = lk_philox_normal(lk_stream_key(seed, "input"), 0, 0, (uint64_t)i);
    CHECK_OK(lk_exec_set(x, v, values, n));
    free(values);
}
/* Trains under the limit; the digest of every adapter value, the loss and the norm. */
static void train(const step *s, const lk_st *weights, int64_t limit, char hex[65], int64_t *arena, int *recomputed) {
    lk_exec *x;
    lk_err e = lk_exec_new(s->g, s->out, 2, (lk_exec_opts){.memory_limit = limit}, &x);
    hex[0] = 0;
    if (!CHECK_MSG(!e, "%s", lk_err_text(e))) return;
    CHECK_OK(lk_weights_bind(x, weights, "", NULL));
    CHECK_OK(lk_adapter_init(s->adapter, x, 3));
    const lk_val *params;
    int n = lk_adapter_params(s->adapter, s->g, &params);
    for (int i = 0; i < n; i++) random_input(x, s->g, params[i], (uint64_t)i);       /* B = 0 would hide half of the gradients */
    random_input(x, s->g, s->noisy, 101); random_input(x, s->g, s->noise, 102); random_input(x, s->g, s->text, 103);
    CHECK_OK(lk_exec_set(x, s->timestep, (float[]){7, 901}, BATCH));
    lk_sha256 sha;
    lk_sha256_init(&sha);
    for (int i = 0; i < STEPS; i++) {
        float got[2];
        CHECK_OK(lk_optimiser_set(s->optimiser, x, i, 0.01));
        CHECK_OK(lk_exec_run(x));
        for (int k = 0; k < 2; k++) CHECK_OK(lk_exec_get(x, s->out[k], &got[k], 1));
        CHECK(isfinite(got[0]) && isfinite(got[1]) && got[1] > 0);
        lk_sha256_add(&sha, got, sizeof got);
    }
    for (int i = 0; i < n; i++) {
        int64_t size = lk_numel(lk_shape_of(s->g, params[i]));
        float *v = lk_xcalloc((size_t)size, sizeof *v);
        CHECK_OK(lk_exec_get(x, params[i], v, size));
        lk_sha256_add(&sha, v, (size_t)size * sizeof *v);
        free(v);
    }
    lk_sha256_hex(&sha, hex);
    *arena = lk_exec_plan(x)->arena_bytes; *recomputed = lk_exec_plan(x)->recomputed;
    lk_exec_free(x);
}

TEST(a_training_step_has_the_same_bits_whatever_it_keeps) {
    char path[128];
    snprintf(path, sizeof path, "%s/model.safetensors", unet_dir);
    lk_st *weights;
    lk_err e = lk_st_open(path, &weights);
    if (!CHECK_MSG(!e, "%s", lk_err_text(e))) return;
    for (int micro = 1; micro <= 2; micro++) {
        step s;
        if (!step_new(&s, micro)) break;
        lk_plan *p;
        const lk_backend *cpu;
        CHECK_OK(lk_backend_cpu(LK_ISA_AUTO, &cpu));
        CHECK_OK(lk_plan_new(s.g, s.out, 2, (lk_plan_opts){.workspace = cpu->workspace, .threads = 1}, &p));
        int64_t whole = 0, fixed;
        for (int c = 0; c < LK_MEM_CLASSES; c++) whole += p->by_class[c];
        fixed = whole - p->arena_bytes;
        char want[65], got[65];
        int64_t arena, most = p->arena_bytes, least;
        int recomputed, before = 0;
        train(&s, weights, whole, want, &arena, &recomputed);
        CHECK(arena == most && recomputed == 0);
        lk_plan *smallest;
        CHECK_OK(lk_plan_new(s.g, s.out, 2, (lk_plan_opts){.arena_budget = 1}, &smallest));
        least = smallest->arena_bytes;
        CHECK_MSG(least < most * 2 / 3, "%lld of %lld bytes at the least", (long long)least, (long long)most);
        CHECK_MSG(smallest->recomputed_flops * 2 < smallest->flops, "recomputing costs more than one forward pass");
        for (int part = 3; part >= 0; part--) {
            int64_t budget = least + (most - least) * part / 4;
            train(&s, weights, fixed + budget, got, &arena, &recomputed);
            CHECK_MSG(!strcmp(want, got), "budget %lld of %lld: other bits", (long long)budget, (long long)most);
            CHECK_MSG(arena <= budget, "arena %lld, budget %lld", (long long)arena, (long long)budget);
            CHECK(recomputed > 0 && recomputed >= before);
            before = recomputed;
        }
        lk_exec *none;
        CHECK_FAILS(lk_exec_new(s.g, s.out, 2, (lk_exec_opts){.memory_limit = fixed + least - 64}, &none), "memory_limit allows");
        lk_plan_free(p); lk_plan_free(smallest);
        step_free(&s);
    }
    lk_st_close(weights);
}

/* ---- the plan's oracle -------------------------------------------------------------------------------------- */
static int root_of(const lk_plan *p, int turn) {
    while (lk_op_traits(p->turn[turn].op) & (T_VIEW | T_EFFECT)) turn = p->turn[turn].in[0].id;
    return turn;
}
/* The first turn that reads what is not its input's, or is not what the graph says; -1: none. */
static int first_wrong_turn(const lk_graph *g, const lk_plan *p) {
    int *writer = lk_xcalloc((size_t)(p->arena_bytes / 4 + 1), sizeof *writer), wrong = -1;
    for (int t = 0; t < p->n_turns && wrong < 0; t++) {
        const lk_node *n = &p->turn[t], *original = lk_graph_node(g, (lk_val){p->node_of[t]});
        if (!p->turn_live[t] || lk_op_traits(n->op) & T_LEAF) continue;
        if (n->op != original->op || n->n_in != original->n_in || !lk_shape_eq(n->shape, original->shape)) wrong = t;
        for (int i = 0; i < n->n_in && wrong < 0; i++) {
            int source = n->in[i].id, root = root_of(p, source);
            if (source >= t || p->node_of[source] != original->in[i].id || !p->turn_live[source]) wrong = t;
            lk_slot s = p->place[source];
            if (lk_op_traits(n->op) & T_VIEW) continue;
            for (int64_t b = s.offset / 4; b < (s.offset + s.bytes) / 4 && wrong < 0; b++) if (writer[b] != root + 1) wrong = t;
        }
        lk_slot s = p->place[t];
        if (wrong >= 0 || lk_op_traits(n->op) & (T_VIEW | T_EFFECT)) continue;
        if (s.offset % 64 || s.offset + s.bytes > p->arena_bytes || s.bytes < 4 * lk_numel(n->shape)) wrong = t;
        else for (int64_t b = s.offset / 4; b < (s.offset + s.bytes) / 4; b++) writer[b] = t + 1;
    }
    free(writer);
    return wrong;
}
TEST(no_kept_or_recomputed_value_is_overwritten) {
    step s;
    if (!step_new(&s, 2)) return;
    lk_plan *plain;
    CHECK_OK(lk_plan_new(s.g, s.out, 2, (lk_plan_opts){0}, &plain));
    for (int part = 1; part <= 4; part++) {
        lk_plan *p;
        CHECK_OK(lk_plan_new(s.g, s.out, 2, (lk_plan_opts){.arena_budget = plain->arena_bytes * part / 5}, &p));
        int wrong = first_wrong_turn(s.g, p), planted = 0, seen = 0;
        CHECK_MSG(wrong < 0, "budget %d/5: turn %d (%s) finds another value's bytes", part, wrong, lk_op_name(p->turn[wrong < 0 ? 0 : wrong].op));
        for (int t = 0; t < p->n_turns && planted < 5; t += 97) {      /* a value moved over one that is still to be read */
            if (!p->turn_live[t] || root_of(p, t) != t || !p->place[t].bytes || p->place[t].last < t + 5) continue;
            int over = t + 1;
            while (over < p->place[t].last && (root_of(p, over) != over || !p->turn_live[over] || p->place[over].bytes < 64)) over++;
            if (over >= p->place[t].last) continue;
            lk_slot *place = (lk_slot *)p->place;
            int64_t kept = place[over].offset;
            place[over].offset = place[t].offset;
            planted++;
            seen += first_wrong_turn(s.g, p) >= 0;
            place[over].offset = kept;
        }
        CHECK_MSG(planted > 0 && seen == planted, "%d planted, %d seen", planted, seen);
        lk_plan_free(p);
    }
    lk_plan_free(plain);
    step_free(&s);
}

/* The plan's text says how small recomputing makes the run, and a run of that size is possible. */
TEST(the_plan_says_what_would_help) {
    step s;
    if (!step_new(&s, 1)) return;
    lk_plan *p, *smallest;
    int64_t arena = 0, flops = 0;
    CHECK_OK(lk_plan_new(s.g, s.out, 2, (lk_plan_opts){0}, &p));
    CHECK_OK(lk_plan_new(s.g, s.out, 2, (lk_plan_opts){.arena_budget = 1}, &smallest));
    CHECK(lk_plan_least(s.g, p, &arena, &flops));
    CHECK(arena == smallest->arena_bytes && flops == smallest->flops && flops > p->flops && flops == p->flops + smallest->recomputed_flops);
    CHECK(!lk_plan_least(s.g, smallest, &arena, &flops));
    lk_arena *a = lk_arena_new();
    const char *text = lk_plan_text(a, s.g, p, 5), *again = lk_plan_text(a, s.g, smallest, 5);
    CHECK_MSG(strstr(text, "a memory limit") && strstr(text, "half the batch") && strstr(text, ".weight"), "%s", text);
    CHECK_MSG(strstr(again, "of which recomputed") && !strstr(again, "a memory limit"), "%s", again);
    CHECK(!strstr(lk_plan_text(a, s.g, p, 0), "would help"));
    lk_arena_free(a);
    lk_plan_free(p); lk_plan_free(smallest);
    step_free(&s);
}

/* A value whose param is written between its two readings is kept, not computed again. */
TEST(what_an_effect_changes_is_not_recomputed) {
    lk_graph *g = lk_graph_new();
    lk_val x = lk_input(g, "x", LK_F32, LK_SHAPE(64, 64)), w = lk_param(g, "w", LK_SHAPE(64, 64), LK_MEM_ADAPTER), d;
    lk_val e = lk_exp(g, w), y = lk_mul(g, e, x), z = lk_sum_all(g, lk_exp(g, lk_exp(g, y)));
    lk_assign(g, w, lk_scale(g, w, 0.5));
    lk_vjp(g, z, LK_NONE, &w, 1, &d);
    lk_plan *p;
    CHECK_OK(lk_plan_new(g, &d, 1, (lk_plan_opts){.arena_budget = 1}, &p));
    CHECK_MSG(p->recomputed == 0, "%d nodes are computed again after their param changed", p->recomputed);
    lk_plan_free(p);
    lk_graph_free(g);
}
