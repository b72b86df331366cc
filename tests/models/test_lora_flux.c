/* Kohya's fused FLUX files straight into an adapter: the same bits, in output, training and merged weights, as through lk-lora convert to PEFT, and the
 * deltas that were joined; on the small FLUX of tests/golden/models/flux. LoHa and full differences come apart by rows too. */
#include "models/lora_file.h"
#include "models/models.h"
#include "tests/lib/lk_test.h"
#include "train/train.h"

#define GOLDEN "tests/golden/models/flux/"
enum { SIZE = 2 * 15 * 16 };
static const char *const fused[] = { "to_q", "to_k", "to_v", "add_q_proj", "add_k_proj", "add_v_proj", "to_out.0", "to_add_out", "ff.net.0.proj", "ff_context.net.2", "norm1.linear", "proj_mlp",
                                     "single_transformer_blocks.0.proj_out", "single_transformer_blocks.1.proj_out", "norm.linear", NULL };

typedef struct { lk_graph *g; lk_exec *exec; lk_val out; lk_optimiser *optimiser; const lk_val *params; int n; } net;
static lk_st *weights, *io;

static lk_val input(lk_graph *g, const char *name) {
    const lk_tensor *t = lk_st_find(io, name);
    lk_shape s = { .rank = t->rank };
    memcpy(s.d, t->d, sizeof s.d);
    return lk_input(g, name, LK_F32, s);
}
static lk_err open_net(net *m, lk_adapter *a) {
    lk_dit_config c;
    lk_graph *g = lk_graph_new();
    *m = (net){ .g = g };
    if (!weights) LK_TRY(lk_st_open(GOLDEN "model.safetensors", &weights));
    if (!io) LK_TRY(lk_st_open(GOLDEN "io.safetensors", &io));
    LK_TRY(lk_flux_config_load(GOLDEN "config.json", &c));
    lk_net root = lk_net_root(g);
    root.adapters = &a;
    root.n_adapters = a ? 1 : 0;
    m->out = lk_flux_transformer(&root, &c, input(g, "in.hidden_states"), input(g, "in.encoder_hidden_states"), input(g, "in.pooled_projections"), input(g, "in.timestep"),
                                 input(g, "in.img_ids"), input(g, "in.txt_ids"), input(g, "in.guidance"));
    if (a) {
        m->n = lk_adapter_params(a, g, &m->params);
        m->optimiser = lk_optimiser_new(g, m->params, m->n, (lk_optimiser_config){ 0 });
        lk_optimiser_add_loss(m->optimiser, lk_mean_all(g, lk_square(g, m->out)));
        lk_optimiser_finish(m->optimiser);
    }
    LK_TRY(lk_graph_error(g));
    LK_TRY(lk_exec_new(g, &m->out, 1, (lk_exec_opts){ 0 }, &m->exec));
    LK_TRY(lk_weights_set(m->exec, weights, "", NULL));
    for (int i = 0; i < lk_st_count(io); i++) {
        const lk_tensor *t = lk_st_at(io, i);
        lk_val v = lk_find(g, t->name);
        float x[1024];
        if (!lk_ok(v)) continue;
        LK_TRY(lk_st_f32(t, x));
        LK_TRY(lk_exec_set(m->exec, v, x, t->numel));
    }
    return a ? lk_optimiser_set(m->optimiser, m->exec, 0, 1e-3) : LK_OK;
}
static void close_net(net *m) {
    lk_exec_free(m->exec);
    lk_graph_free(m->g);
}
static void output(net *m, float *y) {
    CHECK_OK(lk_exec_run(m->exec));
    CHECK_OK(lk_exec_get(m->exec, m->out, y, SIZE));
}
static lk_adapter *load(const char *path, net *m) {
    lk_lora_config c;
    lk_arena *arena = lk_arena_new();
    CHECK_OK(lk_adapter_inspect(path, arena, &c));
    lk_adapter *a = lk_adapter_new(c, "");
    CHECK_OK(open_net(m, a));
    CHECK_OK(lk_adapter_load(a, m->exec, path));
    lk_arena_free(arena);
    return a;
}
static double distance(const float *x, const float *y) {
    double d = 0, s = 0;
    for (int i = 0; i < SIZE; i++) { d += pow((double)x[i] - y[i], 2); s += pow(y[i], 2); }
    return sqrt(d / s);
}
/* An adapter of random values, written with fused names; y: its output. */
static void write_kohya(lk_lora_kind kind, const char *path, float *y) {
    net m;
    lk_adapter *a = lk_adapter_new((lk_lora_config){ .kind = kind, .r = 2, .alpha = 3, .targets = fused }, "");
    CHECK_OK(open_net(&m, a));
    CHECK_OK(lk_adapter_init(a, m.exec, 1));                                  /* DoRA's magnitudes near the rows' norms */
    for (int i = 0; i < m.n; i++) {
        float x[8192];
        int64_t n = lk_numel(lk_shape_of(m.g, m.params[i]));
        CHECK_OK(lk_exec_get(m.exec, m.params[i], x, n));
        for (int64_t k = 0; k < n; k++) x[k] += .1f * lk_philox_normal(5, (uint64_t)i, 0, (uint64_t)k);
        CHECK_OK(lk_exec_set(m.exec, m.params[i], x, n));
    }
    CHECK_OK(lk_adapter_save_as(a, m.exec, path, LK_FORMAT_KOHYA_FLUX, "transformer"));
    output(&m, y);
    close_net(&m);
    lk_adapter_free(a);
}
static void merged_output(const lk_adapter *a, lk_exec *exec, float *y) {
    net plain;
    CHECK_OK(open_net(&plain, NULL));
    CHECK_OK(lk_adapter_merge(a, exec, 1, plain.exec));
    output(&plain, y);
    close_net(&plain);
}
TEST(a_fused_file_is_its_conversion) {
    for (lk_lora_kind kind = LK_LORA; kind <= LK_DORA; kind += LK_DORA - LK_LORA) {
        char kohya[512], peft[512];
        float joined[SIZE], first[SIZE], second[SIZE], x[SIZE], y[SIZE];
        net direct, converted;
        lk_lora_file *f;
        snprintf(kohya, sizeof kohya, "%s/kohya_%d.safetensors", lk_test_dir(), (int)kind);
        snprintf(peft, sizeof peft, "%s/peft_%d.safetensors", lk_test_dir(), (int)kind);
        write_kohya(kind, kohya, joined);
        CHECK_OK(lk_lora_file_read(kohya, &f));
        CHECK_OK(lk_lora_file_save(f, peft, LK_FORMAT_PEFT, false));
        lk_lora_file_free(f);
        lk_adapter *a = load(kohya, &direct), *b = load(peft, &converted);
        CHECK(lk_adapter_modules(a) == 2 * 11 + 2 * 6 && lk_adapter_modules(b) == lk_adapter_modules(a));
        merged_output(a, direct.exec, x);
        merged_output(b, converted.exec, y);
        CHECK(!memcmp(x, y, sizeof x));
        output(&direct, first);
        output(&converted, second);
        CHECK(!memcmp(first, second, sizeof first));
        CHECK_CLOSE(distance(first, joined), 0, 2e-6);                         /* ranks of query, key and value side by side: sums in another order, some roundings of 6e-8 */
        CHECK_CLOSE(distance(x, first), 0, 4e-6);                              /* the same, through weights */
        output(&direct, x);                                                    /* the runs above took a step */
        output(&converted, y);
        CHECK(!memcmp(x, y, sizeof x) && memcmp(x, first, sizeof x));
        close_net(&direct);
        close_net(&converted);
        lk_adapter_free(a);
        lk_adapter_free(b);
    }
}
TEST(the_base_alone_is_another) {                                              /* the comparisons above are of something */
    float x[SIZE], y[SIZE];
    char path[512];
    net plain;
    snprintf(path, sizeof path, "%s/alone.safetensors", lk_test_dir());
    write_kohya(LK_LORA, path, x);
    CHECK_OK(open_net(&plain, NULL));
    output(&plain, y);
    CHECK(distance(y, x) > 1e-2);
    close_net(&plain);
}

/* Rows of each part's delta are those of the fused one. */
static void comes_apart(const lk_st_item *items, int n, lk_lora_kind kind, double (*delta)(int64_t row, int64_t column)) {
    char path[512];
    lk_lora_file *f;
    double d[16], worst = 0;
    snprintf(path, sizeof path, "%s/apart.safetensors", lk_test_dir());
    CHECK_OK(lk_st_write(path, items, n, NULL));
    CHECK_OK(lk_lora_file_read(path, &f));
    CHECK(f->kind == kind && f->n == 3 && !strcmp(f->component, "transformer") && !strcmp(f->part[1].name, "transformer_blocks.4.attn.add_k_proj"));
    for (int i = 0; i < f->n; i++) {
        int64_t rows, columns;
        lk_lora_part_size(&f->part[i], &rows, &columns);
        if (!CHECK(rows == 4 && columns == 4)) continue;
        lk_lora_part_delta(f, &f->part[i], d);
        for (int k = 0; k < 16; k++) worst = fmax(worst, fabs(d[k] - delta(4 * i + k / 4, k % 4)));
    }
    CHECK_CLOSE(worst, 0, 0);                                                  /* small whole numbers */
    lk_lora_file_free(f);
}
static float up[12], down[4], all[48];
static double loha(int64_t row, int64_t column) { return up[row] * down[column] * up[11 - row] * down[column]; }
static double full(int64_t row, int64_t column) { return all[4 * row + column]; }
#define NAME "lora_unet_double_blocks_4_txt_attn_qkv."
TEST(other_kinds_come_apart_by_rows) {
    float reversed[12];
    char path[512];
    lk_lora_file *f;
    for (int i = 0; i < 12; i++) { up[i] = (float)(i % 5 - 2); reversed[11 - i] = up[i]; }
    for (int i = 0; i < 4; i++) down[i] = (float)(i + 1);
    for (int i = 0; i < 48; i++) all[i] = (float)(i * i % 13);
    comes_apart((lk_st_item[]){ { NAME "hada_w1_a", LK_ST_F32, 2, { 12, 1 }, up }, { NAME "hada_w1_b", LK_ST_F32, 2, { 1, 4 }, down }, { NAME "hada_w2_a", LK_ST_F32, 2, { 12, 1 }, reversed },
                                { NAME "hada_w2_b", LK_ST_F32, 2, { 1, 4 }, down } }, 4, LK_LOHA, loha);
    comes_apart((lk_st_item[]){ { NAME "diff", LK_ST_F32, 2, { 12, 4 }, all } }, 1, LK_FULL, full);
    snprintf(path, sizeof path, "%s/apart.safetensors", lk_test_dir());
    CHECK_OK(lk_st_write(path, (lk_st_item[]){ { NAME "lokr_w1", LK_ST_F32, 2, { 2, 2 }, up }, { NAME "lokr_w2", LK_ST_F32, 2, { 6, 2 }, all } }, 2, NULL));
    CHECK_FAILS(lk_lora_file_read(path, &f), "LoKr and Tucker forms of fused matrices cannot be split");
    CHECK_OK(lk_st_write(path, (lk_st_item[]){ { NAME "lora_down.weight", LK_ST_F32, 2, { 1, 4 }, down }, { NAME "lora_up.weight", LK_ST_F32, 2, { 12, 1 }, up }, { NAME "dora_scale", LK_ST_F32, 2, { 4, 1 }, down } }, 3, NULL));
    CHECK_FAILS(lk_lora_file_read(path, &f), "has not the 12 rows of its fused matrix");
}
