/* Times one piece of work on a UNet or an MMDiT for tests/bench/bench_step.sh, which asks a peer the same in turn. Weights are drawn, not loaded.
 *   usage:  bench_step MODEL THREADS [work=lora] [batch=8] [size=16] [mem=MiB] [weights=FILE: a checkpoint, mapped] [backend=cpu] [apart=LIST]
 *             MODEL  a UNet's channels (64,128,256) or config.json, zoo (models/zoo/unet/config.json) or mmdit (6 blocks of width 256)
 *             work   lora: a training step of rank 8 on to_q, to_k, to_v, to_out.0, clipped AdamW; full: the same of every weight;
 *                    sample: 20 DDIM steps with guidance, batch pictures; decode: MODEL is an autoencoder's config.json, latents to pictures
 *             apart  norm, geglu, attention: these are built from primitives
 *   stdout: "ready" after the first step (sample: of the chain), then for each line of stdin
 *             a number N   seconds of the median of N steps
 *             memory       bytes planned (packed weights included), peak resident bytes
 *             digest       SHA-256 of the adapter's values
 *             plan         the plan's table */
#include "models/models.h"
#include "models/schedulers.h"
#include "train/train.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>

enum { TOKENS = 77, POOLED = 128, SAMPLING_STEPS = 20 };
typedef struct {
    lk_graph *g; lk_exec *x; lk_adapter *adapter; lk_optimiser *optimiser;
    lk_val noisy, noise, timestep, text, pooled, predicted;
    int64_t batch, size, step, channels, context, rows;      /* rows: of a model call; with guidance twice the batch */
    const char *work, *weights, *apart; lk_unet_config unet; lk_vae_config vae; lk_scheduler *scheduler;
    int threads; lk_pool *pool;
} bench;
static bool samples(const bench *b) { return !strcmp(b->work, "sample"); }
static bool decodes(const bench *b) { return !strcmp(b->work, "decode"); }
static void unfuse(const bench *b) {
    static const struct { const char *name; int n; lk_op op[8]; } families[] = {
        {"norm", 2, {LK_OP_group_norm, LK_OP_group_norm_dx}}, {"geglu", 4, {LK_OP_geglu, LK_OP_geglu_dx, LK_OP_gelu, LK_OP_gelu_dx}}, {"attention", 4, {LK_OP_sdpa, LK_OP_sdpa_grad, LK_OP_softmax, LK_OP_softmax_dx}}};
    for (int i = 0; i < 3; i++) if (strstr(b->apart, families[i].name)) lk_graph_unfuse(b->g, families[i].op, families[i].n);
}

static lk_unet_config config_of(const char *channels, int64_t size) {
    lk_unet_config c = {.in_channels = 4, .out_channels = 4, .sample_size = size, .mid = true, .mid_attn = true, .groups = 32, .eps = 1e-5, .flip_sin_to_cos = true};
    for (char *at = (char *)channels; *at && c.levels < LK_MAX_LEVELS; at += *at == ',') c.channels[c.levels++] = strtol(at, &at, 10);
    for (int i = 0; i < c.levels; i++) {
        c.layers[i] = 2; c.heads[i] = 8; c.depth[i] = c.up_depth[i] = 1; c.context[i] = 128;
        c.down_attn[i] = i < c.levels - 1;
        c.up_attn[i] = i > 0;
    }
    c.time_dim = 4 * c.channels[0];
    return c;
}
static lk_val predict(bench *b, const lk_net *net, const char *model, lk_val noisy) {
    if (strcmp(model, "mmdit")) return lk_unet2d(net, &b->unet, noisy, b->timestep, b->text, LK_UNET_PLAIN);
    lk_dit_config c = {.layers = 6, .heads = 4, .head_dim = 64, .in_channels = b->channels, .out_channels = b->channels, .patch = 2, .joint_dim = b->context, .pooled_dim = POOLED,
                       .caption_dim = 256, .pos_embed_max = 32, .sample_size = b->size};
    b->pooled = lk_input(b->g, "pooled", LK_F32, LK_SHAPE(b->rows, POOLED));
    return lk_sd3_transformer(net, &c, noisy, b->text, b->pooled, b->timestep);
}
/* Uniform in [-size, size): a function of seed and place (a 32-bit mix), so that threads share a weight. */
typedef struct { float *x, size; uint32_t seed; } draw;
static void draw_part(void *ctx, int64_t begin, int64_t end, int thread) {
    const draw d = *(const draw *)ctx; (void)thread;
    for (int64_t i = begin; i < end; i++) {
        uint32_t u = ((uint32_t)i ^ d.seed) * 0x9e3779b1u;
        u = (u ^ u >> 16) * 0x7feb352du;
        u = (u ^ u >> 15) * 0x846ca68bu;
        d.x[i] = ((float)(int32_t)(u >> 8) * 0x1p-23f - 1) * d.size;
    }
}
static void fill(const bench *b, float *x, int64_t n, float size, uint64_t seed) {
    draw d = {x, size, (uint32_t)seed * 0x85ebca6bu};
    lk_parallel(b->pool, n, 1 << 16, draw_part, &d);
}

/* Weights: norms 1 and 0, the rest uniform by fan-in. Frozen ones are bound as a file's would be, side by side, and what is packed of them given
 * back as a file's pages are; trained ones are set. */
static lk_err fill_weights(const bench *b) {
    if (b->weights) {
        lk_st *st;                                        /* the mapping stays as long as the process */
        LK_TRY(lk_st_open(b->weights, &st));
        return lk_weights_bind(b->x, st, "", NULL);
    }
    const bool bound = strcmp(b->work, "full");
    int64_t all = 0, most = 0;
    for (int pass = 0; pass < 2; pass++) {
        float *w = pass ? lk_xaligned((size_t)(bound ? all : most) * sizeof *w) : NULL, *first = w;
        uint64_t seed = 0;                                /* by order: the same weights however the rest is built */
        for (int id = 0; id < lk_graph_count(b->g); id++) {
            const lk_node *n = lk_graph_node(b->g, (lk_val){id});
            if (n->op != LK_OP_param || n->mem != LK_MEM_WEIGHT) continue;
            int64_t count = lk_numel(n->shape), fan = count / n->shape.d[0], room = (count + 15) / 16 * 16;
            seed++;
            if (!pass) { all += room; most = room > most ? room : most; continue; }
            if (n->shape.rank > 1) fill(b, w, count, 1 / __builtin_sqrtf((float)fan), seed);
            else for (int64_t i = 0; i < count; i++) w[i] = lk_ends(n->name, ".weight");
            LK_TRY(bound ? lk_exec_bind_stored(b->x, (lk_val){id}, (lk_stored){.data = w, .mapped = true}, count) : lk_exec_set(b->x, (lk_val){id}, w, count));
            if (bound) w += room;
        }
        if (!bound) free(first);
    }
    return LK_OK;
}
/* Every weight of the model so far. */
static int weights_of(const bench *b, lk_val **out) {
    int n = 0;
    *out = lk_alloc(lk_graph_arena(b->g), sizeof **out * (size_t)lk_graph_count(b->g));
    for (int id = 0; id < lk_graph_count(b->g); id++) {
        const lk_node *node = lk_graph_node(b->g, (lk_val){id});
        if (node->op == LK_OP_param && node->mem == LK_MEM_WEIGHT) (*out)[n++] = (lk_val){id};
    }
    return n;
}
static void build_training(bench *b, const lk_net *net, const char *model) {
    lk_val loss = lk_mse(b->g, predict(b, net, model, b->noisy), b->noise);
    const lk_val *params = NULL;
    lk_val *weights = NULL;
    int n = b->adapter ? lk_adapter_params(b->adapter, b->g, &params) : weights_of(b, &weights);
    b->optimiser = lk_optimiser_new(b->g, b->adapter ? params : weights, n, (lk_optimiser_config){.adamw = {.weight_decay = 0.01}, .clip = 1});
    lk_optimiser_add_loss(b->optimiser, loss);
    lk_optimiser_finish(b->optimiser);
}
/* One model call of a chain: [without | with] text in one batch, joined by the guidance scale. */
static void build_sampling(bench *b, const lk_net *net, const char *model) {
    lk_val both = predict(b, net, model, b->noisy);
    b->predicted = lk_lerp(b->g, lk_slice(b->g, both, 0, 0, b->batch), lk_slice(b->g, both, 0, b->batch, b->rows), lk_scalar(b->g, 7.5));
}
static lk_err build(bench *b, const char *model, int64_t memory) {
    static const char *const targets[] = {"to_q", "to_k", "to_v", "to_out.0", NULL};
    lk_graph *g = b->g = lk_graph_new();
    b->pool = lk_pool_new(b->threads);
    unfuse(b);
    if (decodes(b)) {
        LK_TRY(lk_vae_config_load(model, &b->vae));
        lk_net net = lk_net_root(g);
        b->channels = b->vae.latent_channels;
        b->noisy = lk_input(g, "latent", LK_F32, LK_SHAPE(b->batch, b->channels, b->size, b->size));
        b->predicted = lk_vae_decode(&net, &b->vae, b->noisy);
        LK_TRY(lk_exec_new(g, &b->predicted, 1, (lk_exec_opts){.pool = b->pool, .memory_limit = memory}, &b->x));
        return fill_weights(b);
    }
    b->channels = 4; b->context = 128; b->rows = samples(b) ? 2 * b->batch : b->batch;
    if (!strcmp(model, "zoo") || lk_ends(model, ".json")) {
        LK_TRY(lk_unet_config_load(strcmp(model, "zoo") ? model : "models/zoo/unet/config.json", &b->unet));
        b->channels = b->unet.in_channels; b->context = b->unet.context[b->unet.levels - 1];
    } else b->unet = config_of(model, b->size);
    lk_shape latent = LK_SHAPE(b->batch, b->channels, b->size, b->size);
    lk_net net = lk_net_root(g);
    if (!strcmp(b->work, "lora")) {
        b->adapter = lk_adapter_new((lk_lora_config){.r = 8, .alpha = 8, .targets = targets}, "");
        net.adapters = &b->adapter; net.n_adapters = 1;
    }
    b->noisy = lk_input(g, "noisy", LK_F32, latent);
    b->timestep = lk_input(g, "timestep", LK_F32, LK_SHAPE(b->batch)); b->text = lk_input(g, "text", LK_F32, LK_SHAPE(b->rows, TOKENS, b->context));
    if (samples(b)) {
        build_sampling(b, &net, model);
        LK_TRY(lk_scheduler_parse("DDIMScheduler", "{}", &b->scheduler));
        LK_TRY(lk_scheduler_set_timesteps(b->scheduler, SAMPLING_STEPS, (lk_timestep_opts){0}));
    } else {
        b->noise = lk_input(g, "noise", LK_F32, latent);
        build_training(b, &net, model);
    }
    lk_val trained[] = {samples(b) ? b->predicted : lk_optimiser_loss(b->optimiser), samples(b) ? LK_NONE : lk_optimiser_grad_norm(b->optimiser)};
    LK_TRY(lk_exec_new(g, trained, samples(b) ? 1 : 2, (lk_exec_opts){.pool = b->pool, .memory_limit = memory}, &b->x));
    LK_TRY(fill_weights(b));
    return b->adapter ? lk_adapter_init(b->adapter, b->x, 1) : LK_OK;
}
static lk_err set(const bench *b, lk_val v, float size, uint64_t seed) {
    int64_t n = lk_numel(lk_shape_of(b->g, v));
    float *x = lk_xmalloc((size_t)n * sizeof *x);
    fill(b, x, n, size, seed);
    lk_err e = lk_exec_set(b->x, v, x, n);
    free(x);
    return e;
}
static lk_err chain(bench *b, int steps) {
    int64_t n = b->batch * b->channels * b->size * b->size;
    float *x = lk_xmalloc((size_t)n * sizeof *x), *out = lk_xmalloc((size_t)n * sizeof *out), t[128];
    lk_err e = set(b, b->text, 1.7f, 7);
    fill(b, x, n, 1.7f, (uint64_t)b->step++);
    for (int i = 0; i < steps && !e; i++) {
        for (int64_t r = 0; r < b->batch; r++) t[r] = (float)lk_scheduler_timesteps(b->scheduler)[i];
        e = lk_exec_set(b->x, b->timestep, t, b->batch);
        if (!e) e = lk_exec_set(b->x, b->noisy, x, n);
        if (!e) e = lk_exec_run(b->x);
        if (!e) e = lk_exec_get(b->x, b->predicted, out, n);
        if (!e) e = lk_scheduler_step(b->scheduler, i, out, x, n, NULL, 0, x, NULL);
    }
    free(x); free(out);
    return e;
}
static lk_err one_step(bench *b) {
    float t[128];
    if (samples(b)) return chain(b, SAMPLING_STEPS);
    if (decodes(b)) { LK_TRY(set(b, b->noisy, 1.7f, (uint64_t)b->step++)); return lk_exec_run(b->x); }
    for (int64_t i = 0; i < b->batch; i++) t[i] = (float)((i * 397 + b->step * 31) % 1000);
    LK_TRY(set(b, b->noisy, 1.7f, (uint64_t)b->step)); LK_TRY(set(b, b->noise, 1.7f, (uint64_t)b->step + 1000)); LK_TRY(set(b, b->text, 1.7f, 7));
    if (lk_ok(b->pooled)) LK_TRY(set(b, b->pooled, 1.7f, 8));
    LK_TRY(lk_exec_set(b->x, b->timestep, t, b->batch));
    LK_TRY(lk_optimiser_set(b->optimiser, b->x, b->step++, 1e-4));
    return lk_exec_run(b->x);
}

static int by_size(const void *x, const void *y) { double a = *(const double *)x, b = *(const double *)y; return (a > b) - (a < b); }
/* With one thread its own seconds, on both sides: what else the machine does then disturbs less. */
static double now(const bench *b) {
    struct timespec t;
    clock_gettime(b->threads > 1 ? CLOCK_MONOTONIC : CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
static lk_err timed(bench *b, int n) {
    double t[256];
    n = n < 1 ? 1 : n > 256 ? 256 : n;
    for (int i = 0; i < n; i++) { double start = now(b); LK_TRY(one_step(b)); t[i] = now(b) - start; }
    qsort(t, (size_t)n, sizeof *t, by_size);
    printf("%.6f\n", t[n / 2]);
    return LK_OK;
}
static lk_err digest(const bench *b) {
    const lk_val *params;
    int n = b->adapter ? lk_adapter_params(b->adapter, b->g, &params) : 0;
    lk_sha256 s;
    char hex[65];
    lk_sha256_init(&s);
    for (int i = 0; i < n; i++) {
        int64_t count = lk_numel(lk_shape_of(b->g, params[i]));
        float *x = lk_xmalloc((size_t)count * sizeof *x);
        lk_err e = lk_exec_get(b->x, params[i], x, count);
        lk_sha256_add(&s, x, (size_t)count * sizeof *x);
        free(x);
        LK_TRY(e);
    }
    lk_sha256_hex(&s, hex);
    puts(hex);
    return LK_OK;
}
static void memory(const bench *b) {
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    const lk_plan *p = lk_exec_plan(b->x);
    struct stat file;                                     /* beside what the executor counts: of bound fp32 what stays read, of halves and trained weights nothing */
    int64_t weights = strcmp(b->work, "full") ? p->unpacked_bytes : 0;
    if (b->weights && !stat(b->weights, &file) && file.st_size < p->by_class[LK_MEM_WEIGHT] * 3 / 4) weights = 0;
    printf("%lld %lld\n", (long long)(lk_exec_bytes(b->x) + weights), (long long)u.ru_maxrss * 1024);
}
static lk_err answer(bench *b, char *line) {
    line[strcspn(line, "\n")] = 0;
    if (!strcmp(line, "memory")) { memory(b); return LK_OK; }
    if (!strcmp(line, "digest")) return digest(b);
    if (strcmp(line, "plan")) return timed(b, atoi(line));
    lk_arena *a = lk_arena_new();
    fputs(lk_plan_text(a, b->g, lk_exec_plan(b->x), 16), stdout);
    lk_arena_free(a);
    return LK_OK;
}
static const char *text_option(int argc, char **argv, const char *name, const char *otherwise) {
    for (int i = 3; i < argc; i++) if (lk_starts(argv[i], name)) return argv[i] + strlen(name);
    return otherwise;
}
static int64_t option(int argc, char **argv, const char *name, int64_t otherwise) {
    const char *text = text_option(argc, argv, name, NULL);
    return text ? strtol(text, NULL, 10) : otherwise;
}
int main(int argc, char **argv) {
    if (argc < 3) { fprintf(stderr, "usage: bench_step MODEL THREADS [work=lora|full|sample] [batch=8] [size=16] [mem=MiB]\n"); return 2; }
    bench b = {.pooled = LK_NONE, .work = text_option(argc, argv, "work=", "lora"), .apart = text_option(argc, argv, "apart=", ""), .weights = text_option(argc, argv, "weights=", NULL), .threads = atoi(argv[2]), .batch = option(argc, argv, "batch=", 8), .size = option(argc, argv, "size=", 16)};
    if (b.batch < 1 || b.batch > 64) { fprintf(stderr, "batch=%lld: it is 1 to 64\n", (long long)b.batch); return 2; }
    lk_err e = lk_backend_choose(text_option(argc, argv, "backend=", "cpu"));
    if (!e) e = build(&b, argv[1], option(argc, argv, "mem=", 0) << 20);
    if (!e) e = samples(&b) ? chain(&b, 1) : one_step(&b);
    if (e) return lk_err_report(e);
    puts("ready");
    fflush(stdout);
    char line[64];
    while (!e && fgets(line, sizeof line, stdin)) { e = answer(&b, line); fflush(stdout); }
    lk_exec_free(b.x);
    return e ? lk_err_report(e) : 0;
}
