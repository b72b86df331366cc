/* Every kind of adapter on a small net, against the peers in binary64 (tests/golden/models/lora_kinds, made by tests/peers/make_lora_kinds.py):
 * output, gradients of input and factors, three steps of AdamW, merging in the graph and on the host, files written and read again, what is refused. */
#include "models/lora_internal.h"
#include "tests/lib/lk_test.h"
#include "train/train.h"

#define GOLDEN "tests/golden/models/lora_kinds/"

/* merged: whether weights exist that do what the adapter does. kohya: whether its files have a form for it; alone: whether they only do; whole: whether it has
 * trained biases of the base or whole modules. */
static const struct { const char *name, *file; bool merged, kohya, alone, whole; } kinds[] = {
    { "lora_groups", "adapter_model", false, false }, { "rslora_groups", "adapter_model", false, false }, { "dora_groups", "adapter_model", false, false },
    { "loha_groups", "adapter_model", true, true }, { "lokr_groups", "adapter_model", true, true },
    { "loha_tucker", "adapter_model", true, true }, { "lokr_tucker", "adapter_model", true, true }, { "lokr_tucker_both", "adapter_model", true, true },
    { "lora_bias", "adapter_model", true, false }, { "rsdora", "adapter_model", true, true }, { "options", "adapter_model", true, true },
    { "lycoris_loha_tucker", "lora", true, true }, { "lycoris_lokr_tucker", "lora", true, true },
    { "lycoris_locon_tucker", "lora", true, true, true },
    { "bias_all", "adapter_model", true, .whole = true }, { "bias_lora_only", "adapter_model", true, .whole = true }, { "bias_and_lora_bias", "adapter_model", true, .whole = true },
    { "lycoris_loha_wd", "lora", true, true, true }, { "lycoris_lokr_wd", "lora", true, true, true }, { "lycoris_loha_wd_in", "lora", true, true, true },
    { "lycoris_lokr_wd_in", "lora", true, true, true }, { "lycoris_locon_wd_in", "lora", true, true, true } };
enum { KINDS = sizeof kinds / sizeof *kinds, SIZE = 2 * 9 * 14, LARGEST = 4096 };

typedef struct { lk_graph *g; lk_exec *exec; lk_val x, out, grad_x; lk_optimiser *optimiser; const lk_val *params; int n; } net;

static const lk_st *base(void) {
    static lk_st *st;
    if (!st) CHECK_OK(lk_st_open(GOLDEN "base.safetensors", &st));
    return st;
}
static const char *path_of(const char *kind, const char *file) {
    static char path[256];
    snprintf(path, sizeof path, GOLDEN "%s/%s.safetensors", kind, file);
    return path;
}
static const char *file_of(int k) { return path_of(kinds[k].name, kinds[k].file); }

static lk_err set_tensor(lk_exec *exec, lk_val v, const lk_tensor *t) {
    float x[LARGEST];
    if (!lk_ok(v) || !t || t->numel > LARGEST) return lk_error(LK_ESHAPE, "nothing to set");
    LK_TRY(lk_st_f32(t, x));
    return lk_exec_set(exec, v, x, t->numel);
}

/* The net, its loss against the target and, with an adapter, gradients and updates of the adapter's params. */
static lk_err open_net(net *m, lk_adapter *a, bool point_bias) {
    lk_graph *g = lk_graph_new();
    *m = (net){ .g = g, .x = lk_input(g, "x", LK_F32, LK_SHAPE(2, 8, 6, 5)), .grad_x = LK_NONE };
    lk_net root = lk_net_root(g);
    root.adapters = &a;
    root.n_adapters = a ? 1 : 0;
    lk_conv grouped = { .stride = { 1, 1 }, .pad = { 1, 1, 1, 1 }, .groups = 4 };
    lk_val h = lk_silu(g, lk_nn_conv2d_attr(&root, "grouped", m->x, 8, 12, 3, 3, true, grouped));
    h = lk_silu(g, lk_nn_conv2d(&root, "point", h, 12, 12, 1, 1, 0, point_bias));
    h = lk_nn_conv2d(&root, "conv", h, 12, 10, 3, 2, 1, true);
    m->out = lk_nn_linear(&root, "to_q", lk_transpose(g, lk_reshape(g, h, LK_SHAPE(2, 10, 9)), 1, 2), 10, 14, true);
    lk_val outputs[64] = { m->out };
    int n = 1;
    if (a) {
        lk_val loss = lk_mse(g, m->out, lk_input(g, "target", LK_F32, LK_SHAPE(2, 9, 14)));
        lk_vjp(g, loss, LK_NONE, &m->x, 1, &m->grad_x);
        outputs[n++] = m->grad_x;
        m->n = lk_adapter_params(a, g, &m->params);
        m->optimiser = lk_optimiser_new(g, m->params, m->n, (lk_optimiser_config){ .adamw = { .9, .999, 1e-8, .02 } });
        lk_optimiser_add_loss(m->optimiser, loss);
        lk_optimiser_finish(m->optimiser);
        for (int i = 0; i < m->n; i++) outputs[n++] = lk_optimiser_grad(m->optimiser, i);
    }
    LK_TRY(lk_graph_error(g));
    LK_TRY(lk_exec_new(g, outputs, n, (lk_exec_opts){ 0 }, &m->exec));
    for (int i = 0; i < lk_st_count(base()); i++) {
        lk_val v = lk_find(g, lk_st_at(base(), i)->name);
        if (lk_ok(v)) LK_TRY(set_tensor(m->exec, v, lk_st_at(base(), i)));
    }
    return a ? lk_optimiser_set(m->optimiser, m->exec, 0, .01) : LK_OK;
}
static void close_net(net *m) {
    lk_exec_free(m->exec);
    lk_graph_free(m->g);
}
static lk_lora_decompose decompose_as;                                   /* not NONE: in place of what the file tells */
static lk_adapter *load(const char *path, net *m) {
    lk_lora_config c;
    lk_arena *arena = lk_arena_new();
    CHECK_OK(lk_adapter_inspect(path, arena, &c));
    if (decompose_as) c.decompose = decompose_as;
    lk_adapter *a = lk_adapter_new(c, "");
    CHECK_OK(open_net(m, a, true));
    CHECK_OK(lk_adapter_load(a, m->exec, path));
    lk_arena_free(arena);
    return a;
}
static void output(net *m, float *y) {
    CHECK_OK(lk_exec_run(m->exec));
    CHECK_OK(lk_exec_get(m->exec, m->out, y, SIZE));
}

/* Sums of squared differences and of squares, of a value and a golden tensor less `from` (NULL: 0). */
typedef struct { double d, s; } sums;
static void add_difference(sums *t, const float *got, const lk_tensor *want, const float *from, int64_t n) {
    float w[LARGEST];
    if (!want || want->numel != n) { t->d = NAN; return; }
    CHECK_OK(lk_st_f32(want, w));
    for (int64_t i = 0; i < n; i++) { t->d += pow((double)got[i] - w[i], 2); t->s += pow(w[i] - (from ? (double)from[i] : 0), 2); }
}
static int64_t value(net *m, lk_val v, float *x) {
    int64_t n = lk_numel(lk_shape_of(m->g, v));
    CHECK_OK(lk_exec_get(m->exec, v, x, n));
    return n;
}
/* The peer's own binary32 run is as far off; eight times that is allowed, and not less than 2e-6: some hundred roundings of 6e-8, of which it may have had luck. */
static double allowed(const lk_st *golden, const char *part) {
    double gap = NAN;
    char name[32];
    snprintf(name, sizeof name, "gap.%s", part);
    const lk_tensor *t = lk_st_find(golden, name);
    if (t) CHECK_OK(lk_st_f64(t, &gap));
    return fmax(8 * gap, 2e-6);
}
static bool near(const lk_st *golden, const char *part, sums t, const char *kind) {
    double d = sqrt(t.d / t.s), most = allowed(golden, part);
    return CHECK_MSG(d <= most, "%s: %s is %.3g away, allowed %.3g", kind, part, d, most);
}

static void compare(const char *kind, const char *path) {
    net m;
    lk_st *golden;
    float x[LARGEST], start[64][LARGEST];
    sums out = { 0 }, grad = { 0 }, after = { 0 };
    lk_adapter *a = load(path, &m);
    CHECK_OK(lk_st_open(path_of(kind, "case"), &golden));
    for (int i = 0; i < m.n; i++) value(&m, m.params[i], start[i]);
    for (int step = 0; step < 3; step++) {
        CHECK_OK(lk_optimiser_set(m.optimiser, m.exec, step, .01));
        CHECK_OK(lk_exec_run(m.exec));
        if (step) continue;
        add_difference(&out, x, lk_st_find(golden, "out"), NULL, value(&m, m.out, x));
        add_difference(&grad, x, lk_st_find(golden, "grad.x"), NULL, value(&m, m.grad_x, x));
        for (int i = 0; i < m.n; i++)
            add_difference(&grad, x, lk_st_find(golden, lk_fmt(lk_graph_arena(m.g), "grad.%s", lk_graph_node(m.g, m.params[i])->name)), NULL, value(&m, lk_optimiser_grad(m.optimiser, i), x));
    }
    for (int i = 0; i < m.n; i++)
        add_difference(&after, x, lk_st_find(golden, lk_fmt(lk_graph_arena(m.g), "after.%s", lk_graph_node(m.g, m.params[i])->name)), start[i], value(&m, m.params[i], x));
    near(golden, "out", out, kind);
    near(golden, "grad", grad, kind);
    near(golden, "after", after, kind);
    CHECK(m.n > 0 && 2 * m.n + 2 + 3 == lk_st_count(golden));               /* every tensor there was compared: out, grad.x, grad and after of each param, three gaps */
    lk_st_close(golden);
    close_net(&m);
    lk_adapter_free(a);
}
TEST(outputs_gradients_and_steps_are_the_peers) { for (int k = 0; k < KINDS; k++) compare(kinds[k].name, file_of(k)); }

/* A LoCon with a magnitude a row is read as DoRA, whose norm is detached; asked for, it is trained as LyCORIS does. */
TEST(dora_by_rows_trains_as_lycoris_does) {
    decompose_as = LK_DECOMPOSE_ROWS;
    compare("lycoris_locon_wd", path_of("lycoris_locon_wd", "lora"));
    decompose_as = LK_DECOMPOSE_NONE;
    net m;
    lk_st *golden;
    float x[LARGEST];
    sums out = { 0 }, grad = { 0 };
    lk_adapter *a = load(path_of("lycoris_locon_wd", "lora"), &m);
    CHECK_OK(lk_st_open(path_of("lycoris_locon_wd", "case"), &golden));
    CHECK(lk_adapter_config(a)->kind == LK_DORA && !lk_adapter_config(a)->decompose);
    CHECK_OK(lk_exec_run(m.exec));
    add_difference(&out, x, lk_st_find(golden, "out"), NULL, value(&m, m.out, x));
    for (int i = 0; i < m.n; i++)
        add_difference(&grad, x, lk_st_find(golden, lk_fmt(lk_graph_arena(m.g), "grad.%s", lk_graph_node(m.g, m.params[i])->name)), NULL, value(&m, lk_optimiser_grad(m.optimiser, i), x));
    near(golden, "out", out, "the same file as DoRA");
    CHECK(sqrt(grad.d / grad.s) > 1e-2);                                   /* the other gradient: the comparison above can fail */
    lk_st_close(golden);
    close_net(&m);
    lk_adapter_free(a);
}

/* One per mille in one factor moves the output by more than what is allowed. */
TEST(a_wrong_factor_is_seen) {
    for (int k = 0; k < KINDS; k++) {
        net m;
        lk_st *golden;
        float x[LARGEST];
        sums out = { 0 };
        lk_adapter *a = load(file_of(k), &m);
        CHECK_OK(lk_st_open(path_of(kinds[k].name, "case"), &golden));
        int64_t n = value(&m, m.params[0], x);
        for (int64_t i = 0; i < n; i++) x[i] *= 1.001f;
        CHECK_OK(lk_exec_set(m.exec, m.params[0], x, n));
        output(&m, x);
        add_difference(&out, x, lk_st_find(golden, "out"), NULL, SIZE);
        CHECK_MSG(sqrt(out.d / out.s) > allowed(golden, "out"), "%s", kinds[k].name);
        lk_st_close(golden);
        close_net(&m);
        lk_adapter_free(a);
    }
}

static lk_lora_file *read_file(const char *path) {
    lk_lora_file *f;
    CHECK_OK(lk_lora_file_read(path, &f));
    CHECK_OK(lk_lora_file_resolve(f, (const char *[]){ "grouped", "point", "conv", "to_q" }, 4));
    return f;
}

/* Merged in the graph and on the host, or refused by both. */
static void merge_on_the_host(const char *path, net *plain, bool merged) {
    lk_lora_file *f = read_file(path);
    for (int i = 0; i < f->n_saved; i++) CHECK_OK(lk_exec_set(plain->exec, lk_find(plain->g, f->saved[i].name), f->saved[i].v.x, lk_numel(f->saved[i].v.s)));
    for (int i = 0; i < f->n; i++) {
        float w[LARGEST];
        lk_val v = lk_find(plain->g, lk_fmt(f->arena, "%s.weight", f->part[i].name));
        if (!CHECK(lk_ok(v))) continue;
        int64_t n = value(plain, v, w);
        if (!merged && lk_lora_part_groups(&f->part[i]) > 1) { CHECK_FAILS(lk_lora_part_merge(f, &f->part[i], 1, w), "it cannot be merged"); continue; }
        CHECK_OK(lk_lora_part_merge(f, &f->part[i], 1, w));
        CHECK_OK(lk_exec_set(plain->exec, v, w, n));
        if (!f->part[i].t[LK_SLOT_BIAS].x) continue;
        v = lk_find(plain->g, lk_fmt(f->arena, "%s.bias", f->part[i].name));
        n = value(plain, v, w);
        lk_lora_part_merge_bias(f, &f->part[i], 1, w);
        CHECK_OK(lk_exec_set(plain->exec, v, w, n));
    }
    lk_lora_file_free(f);
}
TEST(merged_weights_give_the_peers_output) {
    for (int k = 0; k < KINDS; k++) {
        lk_st *golden;
        CHECK_OK(lk_st_open(path_of(kinds[k].name, "case"), &golden));
        for (int host = 0; host < 2; host++) {
            net m, plain;
            float y[LARGEST];
            sums out = { 0 };
            lk_adapter *a = load(file_of(k), &m);
            CHECK_OK(open_net(&plain, NULL, true));
            if (host) merge_on_the_host(file_of(k), &plain, kinds[k].merged);
            else if (kinds[k].merged) CHECK_OK(lk_adapter_merge(a, m.exec, 1, plain.exec));
            else CHECK_FAILS(lk_adapter_merge(a, m.exec, 1, plain.exec), "LoRA on a convolution in 4 groups sees all channels");
            output(&plain, y);
            add_difference(&out, y, lk_st_find(golden, "out"), NULL, SIZE);
            if (kinds[k].merged) near(golden, "out", out, kinds[k].name);
            close_net(&m);
            close_net(&plain);
            lk_adapter_free(a);
        }
        lk_st_close(golden);
    }
}

/* LyCORIS' decomposed weights, whole and at half weight: what its forward puts in the layer's place. Each weight is some products' sum brought to its norm: 1e-6. */
TEST(decomposed_weights_merge_as_lycoris_has_them) {
    static const double weights[] = { 1, .5 };
    for (int k = 0; k < KINDS; k++) {
        lk_st *golden;
        if (!strstr(kinds[k].name, "_wd")) continue;
        CHECK_OK(lk_st_open(path_of(kinds[k].name, "merged"), &golden));
        lk_lora_file *f = read_file(file_of(k));
        CHECK(2 * f->n == lk_st_count(golden));
        for (int way = 0; way < 4; way++) {
            net m, plain;
            float w[LARGEST];
            lk_adapter *a = load(file_of(k), &m);
            CHECK_OK(open_net(&plain, NULL, true));
            if (way & 1) CHECK_OK(lk_adapter_merge(a, m.exec, weights[way / 2], plain.exec));
            for (int i = 0; i < f->n; i++) {
                sums t = { 0 };
                lk_val v = lk_find(plain.g, lk_fmt(f->arena, "%s.weight", f->part[i].name));
                int64_t n = value(&plain, v, w);
                if (!(way & 1)) CHECK_OK(lk_lora_part_merge(f, &f->part[i], weights[way / 2], w));
                add_difference(&t, w, lk_st_find(golden, lk_fmt(f->arena, "%g.%s", weights[way / 2], f->part[i].name)), NULL, n);
                CHECK_MSG(sqrt(t.d / t.s) <= 1e-6, "%s, %s, way %d: %.3g away", kinds[k].name, f->part[i].name, way, sqrt(t.d / t.s));
            }
            close_net(&m);
            close_net(&plain);
            lk_adapter_free(a);
        }
        lk_lora_file_free(f);
        lk_st_close(golden);
    }
}
/* The same numbers as rows and as columns of a square weight are two adapters. */
TEST(rows_and_columns_are_told_apart) {
    char path[512];
    float x[LARGEST] = { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 }, w[2][16];
    lk_lora_file *f;
    snprintf(path, sizeof path, "%s/axis.safetensors", lk_test_dir());
    for (int columns = 0; columns < 2; columns++) {
        lk_st_item items[] = { { "lora_unet_q.lokr_w1", LK_ST_F32, 2, { 2, 2 }, x }, { "lora_unet_q.lokr_w2", LK_ST_F32, 2, { 2, 2 }, x }, { "lora_unet_q.dora_scale", LK_ST_F32, 2, { columns ? 1 : 4, columns ? 4 : 1 }, x } };
        CHECK_OK(lk_st_write(path, items, 3, NULL));
        CHECK_OK(lk_lora_file_read(path, &f));
        CHECK(f->decompose == (columns ? LK_DECOMPOSE_COLUMNS : LK_DECOMPOSE_ROWS));
        memset(w[columns], 0, sizeof w[columns]);
        CHECK_OK(lk_lora_part_merge(f, &f->part[0], 1, w[columns]));
        for (int i = 0; i < 4; i++) {
            double square = 0;
            for (int j = 0; j < 4; j++) square += pow(w[columns][columns ? 4 * j + i : 4 * i + j], 2);
            CHECK_CLOSE(sqrt(square), x[i], 1e-5);
        }
        CHECK_OK(lk_lora_file_resolve(f, (const char *[]){ "q" }, 1));
        CHECK_FAILS(lk_lora_file_save(f, path, LK_FORMAT_PEFT, false), "LyCORIS' weight decomposition");
        lk_lora_file_free(f);
        items[2].d[columns] = 3;                                 /* three magnitudes of four rows or columns */
        CHECK_OK(lk_st_write(path, items, 3, NULL));
        CHECK_FAILS(lk_lora_file_read(path, &f), "dora_scale of 'lora_unet_q' has 3 values; its delta has 4 rows and 4 columns");
        items[2].d[columns] = 4;
        items[2].name = "lora_unet_r.dora_scale";
        CHECK_OK(lk_st_write(path, items, 3, NULL));
        CHECK_FAILS(lk_lora_file_read(path, &f), "module 'lora_unet_q' has no dora_scale, others of the file do");
    }
    CHECK_OK(lk_st_write(path, (lk_st_item[]){ { "lora_unet_q.lokr_w1", LK_ST_F32, 2, { 2, 2 }, x }, { "lora_unet_q.lokr_w2", LK_ST_F32, 2, { 2, 2 }, x }, { "lora_unet_q.dora_scale", LK_ST_F32, 2, { 1, 4 }, x },
                                               { "lora_unet_k.dora_scale", LK_ST_F32, 2, { 4, 1 }, x } }, 4, NULL));
    CHECK_FAILS(lk_lora_file_read(path, &f), "other magnitudes of the file are not");
    net m;
    lk_lora_config c = { .kind = LK_LOHA, .r = 2, .alpha = 3, .targets = (const char *[]){ "grouped", "point", "conv", "to_q", NULL }, .decompose = LK_DECOMPOSE_COLUMNS };
    lk_adapter *a = lk_adapter_new(c, "");
    CHECK_OK(open_net(&m, a, true));
    CHECK_FAILS(lk_adapter_load(a, m.exec, path_of("lycoris_loha_wd", "lora")), "its magnitudes (dora_scale) are of rows; the adapter was built for columns");
    close_net(&m);
    lk_adapter_free(a);
    c.kind = LK_LORA;
    c.targets = (const char *[]){ "to_q", NULL };
    a = lk_adapter_new(c, "");
    CHECK_FAILS(open_net(&m, a, true), "weight decomposition (decompose) is of LoHa, LoKr and, in one group, DoRA");
    close_net(&m);
    lk_adapter_free(a);
}

/* What is written, from the graph or from a file, gives the bits of what was read. */
TEST(written_and_read_again_gives_the_same_bits) {
    for (int k = 0; k < KINDS; k++)
        for (int way = 0; way < 4; way++) {
            net m, again;
            float x[LARGEST], y[LARGEST];
            char path[512];
            bool kohya = way & 1;
            lk_lora_file *f = NULL;
            lk_err err;
            lk_adapter *a = load(file_of(k), &m);
            output(&m, x);                                     /* this run also trains: load once more before writing */
            CHECK_OK(lk_adapter_load(a, m.exec, file_of(k)));
            snprintf(path, sizeof path, "%s/%s_%d.safetensors", lk_test_dir(), kinds[k].name, way);
            if (way & 2) err = lk_lora_file_save(f = read_file(file_of(k)), path, kohya ? LK_FORMAT_KOHYA : LK_FORMAT_PEFT, false);
            else err = lk_adapter_save_as(a, m.exec, path, kohya ? LK_FORMAT_KOHYA : LK_FORMAT_PEFT, "unet");
            lk_lora_file_free(f);
            if (kohya && !kinds[k].kohya) CHECK_FAILS(err, kinds[k].whole ? "only format peft can hold" : "write peft or diffusers");
            else if (!kohya && kinds[k].alone) CHECK_FAILS(err, "for which PEFT and diffusers have no form");
            else if (CHECK_MSG(!err, "%s, way %d: %s", kinds[k].name, way, lk_err_text(err))) {
                lk_adapter *b = load(path, &again);
                output(&again, y);
                CHECK_MSG(!memcmp(x, y, SIZE * sizeof *x), "%s, way %d", kinds[k].name, way);
                close_net(&again);
                lk_adapter_free(b);
            }
            close_net(&m);
            lk_adapter_free(a);
        }
}

/* The config beside a file says what the one in its header says; of a built adapter it is composed without its values. */
TEST(the_config_is_the_headers) {
    for (int k = 0; k < KINDS; k++) {
        net m;
        lk_st *st;
        json_t *beside, *header;
        char path[512], config[512];
        if (kinds[k].alone) continue;
        lk_adapter *a = load(file_of(k), &m);
        snprintf(path, sizeof path, "%s/headed.safetensors", lk_test_dir());
        snprintf(config, sizeof config, "%s/adapter_config.json", lk_test_dir());
        CHECK_OK(lk_adapter_save(a, m.exec, path));
        CHECK_OK(lk_adapter_save_config(a, config));
        CHECK_OK(lk_st_open(path, &st));
        CHECK_OK(lk_json_load(config, &beside));
        const char *text = lk_st_meta(st, "adapter_config");
        CHECK_OK(lk_json_parse(text, strlen(text), path, &header));
        CHECK_MSG(json_equal(beside, header), "%s", kinds[k].name);
        json_decref(beside);
        json_decref(header);
        lk_st_close(st);
        close_net(&m);
        lk_adapter_free(a);
    }
}

/* A fresh adapter changes no bit, whatever kind. */
TEST(a_fresh_adapter_changes_no_bit) {
    net plain;
    float x[LARGEST], y[LARGEST];
    CHECK_OK(open_net(&plain, NULL, true));
    output(&plain, x);
    for (int k = 0; k < KINDS; k++) {
        net m;
        lk_lora_config c;
        lk_arena *arena = lk_arena_new();
        CHECK_OK(lk_adapter_inspect(file_of(k), arena, &c));
        lk_adapter *a = lk_adapter_new(c, "");
        CHECK_OK(open_net(&m, a, true));
        if (kinds[k].whole) CHECK_OK(lk_weights_bind(m.exec, base(), "", (const char *const[]){ "x", "target", NULL }));
        CHECK_OK(lk_adapter_init(a, m.exec, 9));
        output(&m, y);
        CHECK_MSG(!memcmp(x, y, SIZE * sizeof *x), "%s", kinds[k].name);
        close_net(&m);
        lk_adapter_free(a);
        lk_arena_free(arena);
    }
    close_net(&plain);
}

TEST(a_core_must_fit_its_halves) {
    char path[512];
    float x[64] = { 0 };
    lk_lora_file *f, *out;
    double kept;
    net m;
    snprintf(path, sizeof path, "%s/core.safetensors", lk_test_dir());
    CHECK_OK(lk_st_write(path, (lk_st_item[]){ { "lora_unet_conv.lora_down.weight", LK_ST_F32, 4, { 2, 3, 1, 1 }, x }, { "lora_unet_conv.lora_up.weight", LK_ST_F32, 4, { 4, 2, 1, 1 }, x },
                                               { "lora_unet_conv.lora_mid.weight", LK_ST_F32, 4, { 2, 1, 3, 3 }, x } }, 3, NULL));
    CHECK_FAILS(lk_lora_file_read(path, &f), "must be a core [r, r, kh, kw] between halves of 1x1 kernels and rank r");
    lk_adapter *a = lk_adapter_new((lk_lora_config){ .r = 4, .alpha = 1, .tucker = true, .targets = (const char *[]){ "grouped", NULL } }, "");
    CHECK_FAILS(open_net(&m, a, true), "Tucker's form of a convolution in 4 groups is not implemented");
    close_net(&m);
    lk_adapter_free(a);
    f = read_file(path_of("lycoris_locon_tucker", "lora"));
    CHECK_FAILS(lk_lora_file_mix((const lk_lora_file *const[]){ f }, (double[]){ 1 }, 1, &out), "which mixing cannot treat: resize it first");
    CHECK_OK(lk_lora_file_resize(f, 3, &out, &kept));                           /* the delta is of rank 3: nothing is lost */
    CHECK_CLOSE(kept, 1, 1e-12);
    lk_lora_file_free(f);
    lk_lora_file_free(out);
}

TEST(what_has_no_meaning_in_groups_is_refused) {
    net m;
    lk_lora_file *f, *out;
    double kept;
    lk_adapter *a = lk_adapter_new((lk_lora_config){ .r = 6, .alpha = 1, .targets = (const char *[]){ "grouped", NULL } }, "");
    CHECK_FAILS(open_net(&m, a, true), "rank 6 is not divisible by the convolution's 4 groups");
    close_net(&m);
    lk_adapter_free(a);
    CHECK_OK(lk_lora_file_read(file_of(0), &f));
    CHECK_FAILS(lk_lora_file_resize(f, 1, &out, &kept), "LoRA on a convolution in 4 groups, whose delta reaches across them: it cannot be resized");
    CHECK_FAILS(lk_lora_file_mix((const lk_lora_file *const[]){ f }, (double[]){ 1 }, 1, &out), "it cannot be mixed");
    lk_lora_file_free(f);
}

/* lora_bias where it has no place: DoRA, kohya's files (above), a layer without a bias (merging). */
TEST(a_bias_of_B_needs_a_place) {
    net m, plain;
    lk_lora_config c;
    lk_lora_file *f, *out;
    double kept;
    float x[LARGEST], y[LARGEST];
    lk_arena *arena = lk_arena_new();
    lk_adapter *a = load(path_of("lora_bias", "adapter_model"), &m);
    CHECK_OK(open_net(&plain, NULL, false));
    CHECK_FAILS(lk_adapter_merge(a, m.exec, 1, plain.exec), "merging point: B has a bias (lora_bias), the base's layer has none");
    close_net(&plain);
    close_net(&m);
    lk_adapter_free(a);
    CHECK_OK(lk_adapter_inspect(path_of("lora_bias", "adapter_model"), arena, &c));
    c.kind = LK_DORA;
    a = lk_adapter_new(c, "");
    CHECK_FAILS(open_net(&m, a, true), "only LoRA and rsLoRA have a bias of B");
    close_net(&m);
    lk_adapter_free(a);
    lk_arena_free(arena);
    f = read_file(path_of("lora_bias", "adapter_model"));                     /* algebra keeps it: the same file at weights .25 and .75, then at its own rank */
    CHECK_OK(lk_lora_file_mix((const lk_lora_file *const[]){ f, f }, (double[]){ .25, .75 }, 2, &out));
    lk_lora_file_free(f);
    CHECK_OK(lk_lora_file_resize(out, 3, &f, &kept));
    lk_lora_file_free(out);
    CHECK_OK(lk_lora_file_halves(f, f, .5, &out));
    char path[512];
    snprintf(path, sizeof path, "%s/mixed.safetensors", lk_test_dir());
    CHECK_OK(lk_lora_file_save(out, path, LK_FORMAT_PEFT, false));
    lk_lora_file_free(f);
    lk_lora_file_free(out);
    a = load(path, &m);
    output(&m, x);
    close_net(&m);
    lk_adapter_free(a);
    a = load(path_of("lora_bias", "adapter_model"), &m);
    output(&m, y);
    close_net(&m);
    lk_adapter_free(a);
    double d = 0, s = 0;
    for (int i = 0; i < SIZE; i++) { d += pow((double)x[i] - y[i], 2); s += pow(y[i], 2); }
    CHECK_CLOSE(sqrt(d / s), 0, 2e-6);                                         /* factors rounded to binary32 thrice */
}

/* ---- biases of the base ------------------------------------------------------------------------------------------------------- */

TEST(biases_need_their_places) {
    net m, plain;
    lk_adapter *a = load(path_of("bias_all", "adapter_model"), &m), *b;
    CHECK_OK(open_net(&plain, NULL, true));
    CHECK_FAILS(lk_adapter_merge(a, m.exec, .5, plain.exec), "(bias) has no weight but 1");
    close_net(&plain);
    close_net(&m);
    lk_adapter_free(a);
    lk_lora_config c = { .r = 2, .alpha = 3, .targets = (const char *[]){ "point", "to_q", NULL }, .biases = LK_BIASES_ADAPTED };
    b = lk_adapter_new(c, "");
    CHECK_OK(open_net(&m, b, true));
    CHECK(m.n == 6);                                                          /* A and B of two modules and their biases */
    CHECK_FAILS(lk_adapter_load(b, m.exec, path_of("bias_all", "adapter_model")), "'base_model.model.conv.bias' (bias) belongs to no module this adapter was built to replace");
    close_net(&m);
    lk_adapter_free(b);
    c.targets = (const char *[]){ "point", "grouped", NULL };
    c.biases = LK_BIASES_ALL;
    c.kind = LK_LOHA;
    b = lk_adapter_new(c, "");
    CHECK_FAILS(open_net(&m, b, true), "only LoRA, rsLoRA and DoRA train biases of the base");
    close_net(&m);
    lk_adapter_free(b);
    lk_graph *g = lk_graph_new();
    lk_exec *exec;
    lk_net root = lk_net_root(g);
    b = lk_adapter_new((lk_lora_config){ .r = 1, .alpha = 1, .targets = (const char *[]){ "norm", "up", NULL }, .biases = LK_BIASES_ADAPTED }, "");
    root.adapters = &b;
    root.n_adapters = 1;
    lk_val y = lk_nn_linear(&root, "up", lk_nn_layer_norm(&root, "norm", lk_ones(g, LK_SHAPE(2, 4)), 4, 1e-5, true), 4, 3, true);
    CHECK_OK(lk_exec_new(g, &y, 1, (lk_exec_opts){ 0 }, &exec));
    CHECK_FAILS(lk_adapter_init(b, exec, 1), "a target names the module of 'norm.bias', which is no linear layer or convolution");
    lk_exec_free(exec);
    lk_graph_free(g);
    lk_adapter_free(b);
}
