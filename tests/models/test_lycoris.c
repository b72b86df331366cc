/* LoHa and LoKr against PEFT run in binary64 (tests/golden/models/lycoris, made by tests/peers/make_lycoris.py): as branches, merged, on the
 * host, through kohya's (LyCORIS') keys and back; a fresh adapter changes no bit; damaged files are refused. */
#include "tests/lib/lk_test.h"
#include "models/lora_file.h"

#define GOLDEN "tests/golden/models/lycoris/"
static const char *const kinds[] = { "loha", "lokr", "lokr_both" };
enum { KINDS = 3 };

typedef struct { lk_graph *g; lk_exec *exec; lk_val y[2]; lk_st *io; } bench;
static const char *const layers[2] = { "to_q", "conv1" };

static lk_err set_from(lk_exec *exec, lk_val v, const lk_tensor *t) {
    float x[4096];
    if (t->numel > 4096) return lk_error(LK_ESHAPE, "%s is too large for this test", t->name);
    LK_TRY(lk_st_f32(t, x));
    return lk_exec_set(exec, v, x, t->numel);
}

static lk_err open_bench(bench *b, lk_adapter *a) {
    *b = (bench){ .g = lk_graph_new() };
    LK_TRY(lk_st_open(GOLDEN "io.safetensors", &b->io));
    lk_net net = lk_net_root(b->g);
    net.adapters = &a;
    net.n_adapters = a ? 1 : 0;
    b->y[0] = lk_nn_linear(&net, "to_q", lk_input(b->g, "in.to_q", LK_F32, LK_SHAPE(5, 20)), 20, 24, true);
    b->y[1] = lk_nn_conv2d(&net, "conv1", lk_input(b->g, "in.conv1", LK_F32, LK_SHAPE(2, 12, 6, 7)), 12, 16, 3, 1, 1, true);
    LK_TRY(lk_graph_error(b->g));
    LK_TRY(lk_exec_new(b->g, b->y, 2, (lk_exec_opts){ 0 }, &b->exec));
    for (int i = 0; i < lk_st_count(b->io); i++) {
        lk_val v = lk_find(b->g, lk_st_at(b->io, i)->name);
        if (lk_ok(v)) LK_TRY(set_from(b->exec, v, lk_st_at(b->io, i)));
    }
    return LK_OK;
}
static void close_bench(bench *b) {
    lk_exec_free(b->exec);
    lk_graph_free(b->g);
    lk_st_close(b->io);
}

/* Relative L2 distance to the peer's output. */
static double distance(bench *b, int layer, const char *kind) {
    float x[4096], want[4096];
    char name[64];
    double d = 0, s = 0;
    snprintf(name, sizeof name, "out.%s.%s", kind, layers[layer]);
    const lk_tensor *t = lk_st_find(b->io, name);
    int64_t n = lk_numel(lk_shape_of(b->g, b->y[layer]));
    if (!t || t->numel != n || n > 4096) return NAN;
    CHECK_OK(lk_st_f32(t, want));
    CHECK_OK(lk_exec_run(b->exec));
    CHECK_OK(lk_exec_get(b->exec, b->y[layer], x, n));
    for (int64_t i = 0; i < n; i++) { d += pow((double)x[i] - want[i], 2); s += pow(want[i], 2); }
    return sqrt(d / s);
}

static lk_adapter *load(const char *path, bench *b) {
    lk_lora_config c;
    lk_arena *arena = lk_arena_new();
    CHECK_OK(lk_adapter_inspect(path, arena, &c));
    lk_adapter *a = lk_adapter_new(c, "");
    CHECK_OK(open_bench(b, a));
    CHECK_OK(lk_adapter_load(a, b->exec, path));
    lk_arena_free(arena);
    return a;
}

/* Sums of some hundred products in binary32: 2e-6 leaves several roundings of room; a wrong scale or order is off by more than .1. */
static const double tolerance = 2e-6;

static const char *peer_file(const char *kind) {
    static char path[256];
    snprintf(path, sizeof path, GOLDEN "%s/adapter_model.safetensors", kind);
    return path;
}

TEST(branches_give_pefts_output) {
    for (int k = 0; k < KINDS; k++) {
        bench b;
        lk_adapter *a = load(peer_file(kinds[k]), &b);
        CHECK(lk_adapter_modules(a) == 2);
        for (int i = 0; i < 2; i++) {
            double d = distance(&b, i, kinds[k]);
            CHECK_MSG(d <= tolerance, "%s on %s: %g away", kinds[k], layers[i], d);
            CHECK(distance(&b, i, kinds[(k + 1) % KINDS]) > 0.1);
        }
        close_bench(&b);
        lk_adapter_free(a);
    }
}

TEST(merged_weights_give_pefts_output) {
    for (int k = 0; k < KINDS; k++) {
        bench b, plain;
        lk_adapter *a = load(peer_file(kinds[k]), &b);
        CHECK_OK(open_bench(&plain, NULL));
        CHECK_OK(lk_adapter_merge(a, b.exec, 1, plain.exec));
        for (int i = 0; i < 2; i++) CHECK_CLOSE(distance(&plain, i, kinds[k]), 0, tolerance);
        close_bench(&b);
        close_bench(&plain);
        lk_adapter_free(a);
    }
}

/* The host's delta, put into the weights, gives the same; so does a file written with LyCORIS' keys or PEFT's and read again. */
TEST(files_and_the_host_agree) {
    for (int k = 0; k < KINDS; k++)
        for (lk_lora_format format = LK_FORMAT_PEFT; format <= LK_FORMAT_KOHYA; format += LK_FORMAT_KOHYA - LK_FORMAT_PEFT) {
            lk_lora_file *f, *again;
            char path[512];
            double x[4096], y[4096];
            CHECK_OK(lk_lora_file_read(peer_file(kinds[k]), &f));
            snprintf(path, sizeof path, "%s/%s_%d.safetensors", lk_test_dir(), kinds[k], (int)format);
            if (k == 1 && format == LK_FORMAT_KOHYA) { CHECK_FAILS(lk_lora_file_save(f, path, format, false), "LyCORIS' scale is 1"); lk_lora_file_free(f); continue; }
            CHECK_OK(lk_lora_file_save(f, path, format, false));
            CHECK_OK(lk_lora_file_read(path, &again));
            CHECK_OK(lk_lora_file_resolve(again, layers, 2));
            for (int i = 0; i < 2; i++) {
                int64_t rows, columns;
                lk_lora_part_size(&f->part[i], &rows, &columns);
                lk_lora_part_delta(f, &f->part[i], x);
                lk_lora_part_delta(again, &again->part[i], y);
                CHECK(!strcmp(f->part[i].name, again->part[i].name) && !memcmp(x, y, (size_t)(rows * columns) * sizeof *x));
            }
            lk_lora_file_free(f);
            lk_lora_file_free(again);
            bench b;
            if (format != LK_FORMAT_PEFT) continue;
            lk_adapter *a = load(path, &b);
            for (int i = 0; i < 2; i++) CHECK_CLOSE(distance(&b, i, kinds[k]), 0, tolerance);
            close_bench(&b);
            lk_adapter_free(a);
        }
}

TEST(a_fresh_adapter_changes_no_bit) {
    for (lk_lora_kind kind = LK_LOHA; kind <= LK_FULL; kind++) {
        bench b, plain;
        float x[4096], y[4096];
        lk_adapter *a = lk_adapter_new((lk_lora_config){ .kind = kind, .r = 2, .alpha = 4, .both = true, .factor = 4, .targets = (const char *[]){ "to_q", "conv1", NULL } }, "");
        CHECK_OK(open_bench(&b, a));
        CHECK_OK(open_bench(&plain, NULL));
        CHECK_OK(lk_adapter_init(a, b.exec, 5));
        CHECK_OK(lk_exec_run(b.exec));
        CHECK_OK(lk_exec_run(plain.exec));
        CHECK_OK(lk_exec_get(b.exec, b.y[1], x, 2 * 16 * 42));
        CHECK_OK(lk_exec_get(plain.exec, plain.y[1], y, 2 * 16 * 42));
        CHECK(!memcmp(x, y, 2 * 16 * 42 * sizeof *x));
        close_bench(&b);
        close_bench(&plain);
        lk_adapter_free(a);
    }
}

static void write_part(const char *path, const char *first, const char *second) {
    float x[12] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 };
    lk_st_item items[] = { { .name = first, .dtype = LK_ST_F32, .rank = 2, .d = { 6, 2 }, .data = x }, { .name = second, .dtype = LK_ST_F32, .rank = 2, .d = { 2, 5 }, .data = x } };
    CHECK_OK(lk_st_write(path, items, 2, NULL));
}
TEST(half_a_module_is_refused) {
    char path[512];
    lk_lora_file *f;
    snprintf(path, sizeof path, "%s/half.safetensors", lk_test_dir());
    write_part(path, "lora_unet_to_q.hada_w1_a", "lora_unet_to_q.hada_w1_b");
    CHECK_FAILS(lk_lora_file_read(path, &f), "hada_w2_b of module 'lora_unet_to_q' is missing");
    write_part(path, "lora_unet_to_q.lokr_w2_a", "lora_unet_to_q.lokr_w2_b");
    CHECK_FAILS(lk_lora_file_read(path, &f), "lokr_w1_b of module 'lora_unet_to_q' is missing");
    write_part(path, "lora_unet_to_q.hada_w1_a", "lora_unet_to_q.lokr_w1");
    CHECK_FAILS(lk_lora_file_read(path, &f), "mixed in one file");
    write_part(path, "lora_unet_to_q.hada_w1_b", "lora_unet_to_q.hada_t1");
    CHECK_FAILS(lk_lora_file_read(path, &f), "hada_w1_a of module 'lora_unet_to_q' is missing");
    float x[16] = { 0 };
    lk_st_item core[] = { { "lora_unet_to_q.lokr_w1", LK_ST_F32, 2, { 2, 2 }, x }, { "lora_unet_to_q.lokr_w2_a", LK_ST_F32, 2, { 2, 3 }, x }, { "lora_unet_to_q.lokr_w2_b", LK_ST_F32, 2, { 2, 3 }, x },
                          { "lora_unet_to_q.lokr_t2", LK_ST_F32, 4, { 2, 1, 2, 2 }, x } };
    CHECK_OK(lk_st_write(path, core, 4, NULL));
    CHECK_FAILS(lk_lora_file_read(path, &f), "must be a core [r, r, kh, kw] and matrices [r, ..] of one rank a module");
}

/* Full differences: a layer with W and D gives the bits of the layer with W + D in W's place, also merged and through a file; after another adapter, and
 * where its weight is scaled, the difference is a branch of its own and gives the same to rounding. */
static void fill(lk_exec *x, lk_val v, float step) {
    float values[4096];
    int64_t n = lk_numel(lk_shape_of(lk_exec_graph(x), v));
    for (int64_t i = 0; i < n; i++) values[i] = step * (float)((i * 37) % 101 - 50);
    CHECK_OK(lk_exec_set(x, v, values, n));
}
static void output(bench *b, int layer, float *y, int64_t n) { CHECK_OK(lk_exec_run(b->exec)); CHECK_OK(lk_exec_get(b->exec, b->y[layer], y, n)); }
TEST(full_differences_are_the_weights_themselves) {
    static const int64_t size[2] = { 5 * 24, 2 * 16 * 42 };
    static const char *const weight[2] = { "to_q.weight", "conv1.weight" };
    bench b, sum, merged, again, scaled;
    float x[4096], y[4096];
    char path[512];
    const lk_val *params;
    lk_lora_config c = { .kind = LK_FULL, .r = 7, .alpha = 3, .targets = (const char *[]){ "to_q", "conv1", NULL } };       /* rank and alpha mean nothing here */
    lk_adapter *a = lk_adapter_new(c, "");
    CHECK_OK(open_bench(&b, a));
    CHECK_OK(open_bench(&sum, NULL));
    CHECK_OK(open_bench(&merged, NULL));
    if (!CHECK(lk_adapter_params(a, b.g, &params) == 2)) return;
    for (int i = 0; i < 2; i++) {
        float w[4096], d[4096];
        fill(b.exec, params[i], 0.003f);
        lk_val v = lk_find(sum.g, weight[i]);
        int64_t n = lk_numel(lk_shape_of(sum.g, v));
        CHECK_OK(lk_exec_get(sum.exec, v, w, n));
        CHECK_OK(lk_exec_get(b.exec, params[i], d, n));
        for (int64_t k = 0; k < n; k++) w[k] += d[k];
        CHECK_OK(lk_exec_set(sum.exec, v, w, n));
    }
    CHECK_OK(lk_adapter_merge(a, b.exec, 1, merged.exec));
    snprintf(path, sizeof path, "%s/full.safetensors", lk_test_dir());
    CHECK_OK(lk_adapter_save(a, b.exec, path));
    lk_adapter *read = load(path, &again);
    CHECK(lk_adapter_config(read)->kind == LK_FULL);
    for (int i = 0; i < 2; i++) {
        output(&sum, i, x, size[i]);
        output(&b, i, y, size[i]);
        CHECK(!memcmp(x, y, (size_t)size[i] * sizeof *x));
        output(&merged, i, y, size[i]);
        CHECK(!memcmp(x, y, (size_t)size[i] * sizeof *x));
        output(&again, i, y, size[i]);
        CHECK(!memcmp(x, y, (size_t)size[i] * sizeof *x));
        output(&again, 1 - i, y, size[1 - i]);
    }
    lk_graph *g = lk_graph_new();                                /* as a branch: y + D x instead of (W + D) x */
    lk_net net = lk_net_root(g);
    lk_adapter *branch = lk_adapter_new(c, "");
    lk_adapter_weight(branch, lk_scalar(g, 1));
    net.adapters = &branch;
    net.n_adapters = 1;
    scaled = (bench){ .g = g, .y = { lk_nn_linear(&net, "to_q", lk_input(g, "in.to_q", LK_F32, LK_SHAPE(5, 20)), 20, 24, true) } };
    CHECK_OK(lk_exec_new(g, scaled.y, 1, (lk_exec_opts){ 0 }, &scaled.exec));
    for (int i = 0; i < lk_st_count(b.io); i++) {
        lk_val v = lk_find(g, lk_st_at(b.io, i)->name);
        if (lk_ok(v)) CHECK_OK(set_from(scaled.exec, v, lk_st_at(b.io, i)));
    }
    if (CHECK(lk_adapter_params(branch, g, &params) == 1)) fill(scaled.exec, params[0], 0.003f);
    output(&scaled, 0, y, size[0]);
    output(&sum, 0, x, size[0]);
    double d = 0, s = 0;
    for (int64_t k = 0; k < size[0]; k++) { d += pow((double)x[k] - y[k], 2); s += pow(x[k], 2); }
    CHECK_MSG(sqrt(d / s) < 1e-6, "as a branch off by %.3g", sqrt(d / s));      /* 20 products in binary32 */
    lk_exec_free(scaled.exec);
    lk_graph_free(g);
    close_bench(&b); close_bench(&sum); close_bench(&merged); close_bench(&again);
    lk_adapter_free(a); lk_adapter_free(read); lk_adapter_free(branch);
    float whole[6] = { 0 };
    lk_st_item mixed[] = { { .name = "lora_unet_to_q.diff", .dtype = LK_ST_F32, .rank = 2, .d = { 3, 2 }, .data = whole }, { .name = "lora_unet_to_k.lokr_w1", .dtype = LK_ST_F32, .rank = 2, .d = { 3, 2 }, .data = whole } };
    lk_lora_file *f;
    CHECK_OK(lk_st_write(path, mixed, 2, NULL));
    CHECK_FAILS(lk_lora_file_read(path, &f), "mixed in one file");
    CHECK_OK(lk_st_write(path, mixed, 1, NULL));                 /* LyCORIS' keys alone */
    CHECK_OK(lk_lora_file_read(path, &f));
    CHECK(f->kind == LK_FULL && f->n == 1);
    lk_lora_file_free(f);
}
