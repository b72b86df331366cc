/* Memory as planned and as taken: a LoRA training step of a UNet of 17.8 M parameters. The plan's bytes (weights, their packed copies,
 * adapter, optimiser, arena, workspaces) are those the executor counts, exactly, and those the kernel of the machine counts, within 10 %:
 * the step runs in a process of its own, and its resident memory at the peak is set against that before the executor was made. So for
 * weights in the caller's memory, in a mapped file of floats (what is packed leaves it) and in mapped halves (all leaves it). */
#include "backend/memory.h"
#include "models/models.h"
#include "tests/lib/lk_test.h"
#include "train/train.h"
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { BATCH = 2, SIZE = 16, TOKENS = 77, CONTEXT = 128 };
typedef struct { lk_graph *g; lk_adapter *adapter; lk_optimiser *optimiser; lk_val noisy, noise, timestep, text, loss; } step;

static void build(step *s) {
    static const char *const targets[] = {"to_q", "to_k", "to_v", "to_out.0", NULL};
    lk_unet_config c = {.levels = 3, .in_channels = 4, .out_channels = 4, .sample_size = SIZE, .mid = true, .mid_attn = true, .groups = 32, .eps = 1e-5, .flip_sin_to_cos = true, .time_dim = 256};
    for (int i = 0; i < c.levels; i++) {
        c.channels[i] = 64 << i; c.layers[i] = 2; c.heads[i] = 8; c.depth[i] = c.up_depth[i] = 1; c.context[i] = CONTEXT;
        c.down_attn[i] = i < 2; c.up_attn[i] = i > 0;
    }
    *s = (step){.g = lk_graph_new(), .adapter = lk_adapter_new((lk_lora_config){.r = 8, .alpha = 8, .targets = targets}, "")};
    lk_graph *g = s->g;
    lk_net net = lk_net_root(g);
    net.adapters = &s->adapter; net.n_adapters = 1;
    lk_shape latent = LK_SHAPE(BATCH, 4, SIZE, SIZE);
    s->noisy = lk_input(g, "noisy", LK_F32, latent); s->noise = lk_input(g, "noise", LK_F32, latent);
    s->timestep = lk_input(g, "timestep", LK_F32, LK_SHAPE(BATCH)); s->text = lk_input(g, "text", LK_F32, LK_SHAPE(BATCH, TOKENS, CONTEXT));
    lk_val loss = lk_mse(g, lk_unet2d(&net, &c, s->noisy, s->timestep, s->text, LK_UNET_PLAIN), s->noise);
    const lk_val *params;
    int n = lk_adapter_params(s->adapter, g, &params);
    s->optimiser = lk_optimiser_new(g, params, n, (lk_optimiser_config){.clip = 1});
    lk_optimiser_add_loss(s->optimiser, loss);
    lk_optimiser_finish(s->optimiser);
    s->loss = lk_optimiser_loss(s->optimiser);
}
static bool next_weight(const lk_graph *g, int *id, const lk_node **n) {
    for (; *id < lk_graph_count(g); ++*id) {
        *n = lk_graph_node(g, (lk_val){*id});
        if ((*n)->op == LK_OP_param && (*n)->mem == LK_MEM_WEIGHT) return true;
    }
    return false;
}
static float *drawn(const lk_node *n) {
    int64_t count = lk_numel(n->shape);
    float *w = lk_xaligned((size_t)count * sizeof *w);
    for (int64_t i = 0; i < count; i++) w[i] = n->shape.rank > 1 ? (float)(i % 7 - 3) * 0.01f : 1;
    return w;
}
static lk_err write_weights(const lk_graph *g, const char *path, bool halves) {
    const lk_node *n;
    int count = 0;
    lk_st_item *items = lk_xcalloc((size_t)lk_graph_count(g), sizeof *items);
    for (int id = 0; next_weight(g, &id, &n); id++) {
        float *w = drawn(n);
        if (halves) for (int64_t i = 0; i < lk_numel(n->shape); i++) ((uint16_t *)(void *)w)[i] = lk_half_of(w[i]);
        items[count] = (lk_st_item){.name = n->name, .dtype = halves ? LK_ST_F16 : LK_ST_F32, .rank = n->shape.rank, .data = w};
        memcpy(items[count++].d, n->shape.d, sizeof n->shape.d);
    }
    return lk_st_write(path, items, count, NULL);                          /* what was drawn goes with the process */
}
/* path NULL: in memory of the caller's. What is bound stays: a process of its own, or a test's end. */
static lk_err run(const step *s, lk_exec *x, const char *path) {
    const lk_node *n;
    lk_st *st;
    for (int id = 0; !path && next_weight(s->g, &id, &n); id++) LK_TRY(lk_exec_bind(x, (lk_val){id}, drawn(n), lk_numel(n->shape)));
    if (path) {
        LK_TRY(lk_st_open(path, &st));
        LK_TRY(lk_weights_bind(x, st, "", NULL));
    }
    LK_TRY(lk_adapter_init(s->adapter, x, 1));
    const lk_val inputs[] = {s->noisy, s->noise, s->text};
    for (int k = 0; k < 3; k++) {
        int64_t n = lk_numel(lk_shape_of(s->g, inputs[k]));
        float *v = lk_xmalloc((size_t)n * sizeof *v);
        for (int64_t i = 0; i < n; i++) v[i] = lk_philox_normal(5, 0, (uint32_t)k, (uint64_t)i);
        lk_err e = lk_exec_set(x, inputs[k], v, n);
        free(v);
        LK_TRY(e);
    }
    LK_TRY(lk_exec_set(x, s->timestep, (float[]){7, 901}, BATCH));
    LK_TRY(lk_optimiser_set(s->optimiser, x, 0, 1e-4));
    return lk_exec_run(x);
}
static int64_t planned(const lk_plan *p) {
    int64_t sum = p->packed_bytes;
    for (int c = 0; c < LK_MEM_CLASSES; c++) sum += p->by_class[c];
    return sum;
}
static int64_t resident(void) {
    FILE *f = fopen("/proc/self/statm", "r");
    long long size, pages = 0;
    if (f && fscanf(f, "%lld %lld", &size, &pages) != 2) pages = 0;
    if (f) fclose(f);
    return pages * sysconf(_SC_PAGESIZE);
}
typedef enum { IN_MEMORY, MAPPED_FLOATS, MAPPED_HALVES, STORES } store;
static const char *const store_names[STORES] = {"in memory", "mapped fp32", "mapped fp16"};
/* theirs: bytes of weights that the executor does not count. */
typedef struct { int64_t planned, counted, theirs, peak; bool ok; } answer;
static answer measure(store how, const char *path) {
    step s;
    lk_exec *x;
    answer a = {0};
    struct rusage u;
    build(&s);
    int64_t before = resident();
    lk_err e = lk_exec_new(s.g, &s.loss, 1, (lk_exec_opts){0}, &x);
    if (!e) e = run(&s, x, path);
    a.ok = !e;
    if (e) { fprintf(stderr, "%s\n", lk_err_text(e)); return a; }
    getrusage(RUSAGE_SELF, &u);
    const lk_plan *p = lk_exec_plan(x);
    a.planned = planned(p) - (how == IN_MEMORY ? 0 : p->by_class[LK_MEM_WEIGHT] - p->unpacked_bytes);
    a.theirs = how == IN_MEMORY ? p->by_class[LK_MEM_WEIGHT] : how == MAPPED_FLOATS ? p->unpacked_bytes : 0;
    a.counted = lk_exec_bytes(x);
    a.peak = (int64_t)u.ru_maxrss * 1024 - before;
    return a;
}
static void check_planned(store how, const char *path) {
    int ends[2], status = 0;
    answer a = {0};
    if (!CHECK(!pipe(ends))) return;
    fflush(NULL);
    pid_t pid = fork();
    if (!pid) { a = measure(how, path); _exit(write(ends[1], &a, sizeof a) != (ssize_t)sizeof a); }
    close(ends[1]);
    ssize_t got = read(ends[0], &a, sizeof a);
    close(ends[0]);
    waitpid(pid, &status, 0);
    if (!CHECK_MSG(got == (ssize_t)sizeof a && a.ok, "the process that measures ended with status %d", status)) return;
    CHECK_MSG(a.counted + a.theirs == a.planned, "%s: planned %lld, counted %lld and %lld of weights", store_names[how], (long long)a.planned, (long long)a.counted, (long long)a.theirs);
#ifndef __SANITIZE_ADDRESS__
    double off = (double)a.peak / (double)a.planned - 1;
    printf("%s: planned %.1f MiB, resident at the peak %.1f MiB (%+.1f %%)\n", store_names[how], (double)a.planned / 0x1p20, (double)a.peak / 0x1p20, 100 * off);
    CHECK_MSG(off > -0.1 && off < 0.1, "%s: planned %lld, resident %lld", store_names[how], (long long)a.planned, (long long)a.peak);
#endif
}
TEST(what_is_planned_is_what_is_taken) {
    char *path = lk_xfmt("%s/weights.safetensors", lk_test_dir());
    step s;
    build(&s);
    for (store how = IN_MEMORY; how < STORES; how++) {
        int status = 0;
        pid_t pid = how == IN_MEMORY ? 0 : fork();                         /* freed pages that stay would count as there before */
        if (!pid && how != IN_MEMORY) _exit(write_weights(s.g, path, how == MAPPED_HALVES) != LK_OK);
        if (pid) waitpid(pid, &status, 0);
        CHECK(!status);
        check_planned(how, how == IN_MEMORY ? NULL : path);
    }
    lk_adapter_free(s.adapter); lk_graph_free(s.g);
    free(path);
}

/* ---- the limit of a process --------------------------------------------------------------------------------- */
TEST(executors_share_the_limit_of_the_process) {
    step s;
    lk_plan *p, *least;
    lk_exec *one, *two;
    build(&s);
    const lk_backend *cpu;
    CHECK_OK(lk_backend_cpu(LK_ISA_AUTO, &cpu));
    lk_plan_opts o = {.workspace = cpu->workspace, .threads = 1};
    CHECK_OK(lk_plan_new(s.g, &s.loss, 1, o, &p));
    o.arena_budget = 1;
    CHECK_OK(lk_plan_new(s.g, &s.loss, 1, o, &least));
    CHECK(p->alive_bytes <= p->arena_bytes && least->alive_bytes <= least->arena_bytes && least->alive_bytes < p->alive_bytes);
    int64_t whole = planned(p), small = planned(least);                                          /* without packed copies: no backend's pack_form is asked */
    CHECK(small < whole - whole / 8);
    lk_memory_limit(whole + small, 0);
    CHECK_OK(lk_exec_new(s.g, &s.loss, 1, (lk_exec_opts){0}, &one));
    CHECK(lk_exec_plan(one)->recomputed == 0);
    CHECK_OK(lk_exec_new(s.g, &s.loss, 1, (lk_exec_opts){.memory_limit = whole}, &two));       /* the caller's own limit is another matter */
    lk_exec_free(two);
    lk_memory_limit(small + small / 4, 0);
    CHECK_FAILS(lk_exec_new(s.g, &s.loss, 1, (lk_exec_opts){0}, &two), "left of mem=");          /* the first holds its arena */
    lk_exec_free(one);
    lk_memory_limit(small, 0);
    CHECK_OK(lk_exec_new(s.g, &s.loss, 1, (lk_exec_opts){0}, &one));
    CHECK(lk_exec_plan(one)->recomputed > 0 && lk_exec_bytes(one) <= small);
    lk_exec_free(one);
    lk_memory_limit(whole, small);                                                               /* kept to less than there is */
    CHECK_OK(lk_exec_new(s.g, &s.loss, 1, (lk_exec_opts){0}, &one));
    CHECK(lk_exec_plan(one)->recomputed > 0);
    lk_exec_free(one);
    lk_memory_limit(small / 2, 0);
    CHECK_FAILS(lk_exec_new(s.g, &s.loss, 1, (lk_exec_opts){0}, &one), "largest values");
    lk_memory_limit(0, 0);
    CHECK(lk_memory_limit_left() == INT64_MAX);
    lk_plan_free(p); lk_plan_free(least);
    lk_adapter_free(s.adapter); lk_graph_free(s.g);
}
TEST(sizes_are_read_with_their_units) {
    int64_t b = 0;
    CHECK_OK(lk_memory_parse("2G", &b));
    CHECK(b == (int64_t)2 << 30);
    CHECK_OK(lk_memory_parse("1.5M", &b));
    CHECK(b == 3 << 19);
    CHECK_OK(lk_memory_parse("4096", &b));
    CHECK(b == 4096);
    const char *const wrong[] = {"", "G", "2GB", "-1G", "0", "nan", "1e99G", "2 G"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) CHECK_FAILS(lk_memory_parse(wrong[i], &b), "mem=");
}
