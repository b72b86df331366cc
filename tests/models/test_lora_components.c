/* Files of several models (a denoiser and its text encoders): each component loads alone to what its own file gives, what is left is counted, every
 * format that can hold them carries all over, a component that is not there and a file read without naming one are refused. */
#include "models/lora_internal.h"
#include "tests/lib/lk_test.h"

/* Two modules of a UNet, one of each text encoder, under one dotted name: only the component tells these apart. */
enum { PARTS = 4, ITEMS = 3 * PARTS };
static const struct { const char *component, *module, *kohya; int out, in, r; float alpha, step; } parts[PARTS] = {
    { "unet", "down.to_q", "lora_unet_down_to_q", 5, 4, 2, 3, .1f }, { "unet", "mid.conv", "lora_unet_mid_conv", 3, 4, 1, 2, .2f },
    { "text_encoder", "text_model.q_proj", "lora_te1_text_model_q_proj", 4, 4, 2, 1, .3f }, { "text_encoder_2", "text_model.q_proj", "lora_te2_text_model_q_proj", 6, 5, 3, 7, .4f } };

static float values[PARTS][2][32];
static const char *path_of(const char *name) {
    static char path[4][512];
    static int at;
    at = (at + 1) % 4;
    snprintf(path[at], sizeof path[at], "%s/%s.safetensors", lk_test_dir(), name);
    return path[at];
}
static int items_of(lk_st_item *items, bool kohya, const char *component) {
    int n = 0;
    static char names[ITEMS][96];
    for (int i = 0; i < PARTS; i++) {
        if (component && strcmp(component, parts[i].component)) continue;
        for (int h = 0; h < 2; h++) {
            for (int k = 0; k < 32; k++) values[i][h][k] = parts[i].step * (float)((k * 7 + h * 3) % 11 - 5);
            snprintf(names[n], sizeof names[n], kohya ? "%s%s.lora_%s.weight" : "%s.%s.lora_%s.weight", kohya ? "" : parts[i].component, kohya ? parts[i].kohya : parts[i].module, kohya ? h ? "up" : "down" : h ? "B" : "A");
            items[n] = (lk_st_item){ names[n], LK_ST_F32, 2, { h ? parts[i].out : parts[i].r, h ? parts[i].r : parts[i].in }, values[i][h] };
            n++;
        }
        if (!kohya) continue;
        snprintf(names[n], sizeof names[n], "%s.alpha", parts[i].kohya);
        items[n] = (lk_st_item){ names[n], LK_ST_F32, 0, { 0 }, &parts[i].alpha };
        n++;
    }
    return n;
}
static const char header[] = "{\"unet.r\": 2, \"unet.lora_alpha\": 3, \"unet.alpha_pattern\": {\"conv\": 2}, \"text_encoder.lora_alpha\": 1, \"text_encoder_2.r\": 3, \"text_encoder_2.lora_alpha\": 7}";
static const char *write_file(const char *name, bool kohya, const char *component) {
    lk_st_item items[ITEMS];
    const char *path = path_of(name);
    CHECK_OK(lk_st_write(path, items, items_of(items, kohya, component), kohya ? NULL : (const char *[]){ "lora_adapter_metadata", header, NULL }));
    return path;
}

/* Every part is there once, under its component, with its scale and values. */
static void is_whole(const lk_lora_file *f, const char *what) {
    CHECK_MSG(f->n == PARTS, "%s: %d parts", what, f->n);
    for (int i = 0; i < PARTS; i++) {
        int met = 0;
        for (int k = 0; k < f->n; k++) {
            const lk_lora_part *p = &f->part[k];
            if (strcmp(lk_lora_part_component(f, p), parts[i].component) || strcmp(p->name, parts[i].module)) continue;
            met++;
            CHECK_MSG(p->alpha == parts[i].alpha && p->r == parts[i].r, "%s: %s of %s has rank %d, alpha %g", what, p->name, parts[i].component, p->r, p->alpha);
            CHECK_MSG(!memcmp(p->t[LK_SLOT_B].x, values[i][1], (size_t)(parts[i].out * parts[i].r) * sizeof(float)), "%s: %s", what, p->name);
        }
        CHECK_MSG(met == 1, "%s: %s of %s is there %d times", what, parts[i].module, parts[i].component, met);
    }
}
static void resolve(lk_lora_file *f) {
    CHECK_OK(lk_lora_file_resolve_component(f, "unet", (const char *[]){ "down.to_q", "mid.conv", "text_model.q_proj" }, 3));
    for (int i = 0; i < 2; i++) CHECK_OK(lk_lora_file_resolve_component(f, i ? "text_encoder_2" : "text_encoder", (const char *[]){ "down.to_q", "text_model.q_proj" }, 2));
}

TEST(all_components_are_read_and_carried_over) {
    for (int kohya = 0; kohya < 2; kohya++) {
        lk_lora_file *f, *again;
        lk_lora_component list[LK_LORA_COMPONENTS];
        int n;
        const char *path = write_file("all", kohya, NULL);
        CHECK_OK(lk_adapter_components(path, list, &n));
        CHECK(n == 3);
        for (int i = 0; i < n; i++) CHECK(list[i].modules == (strcmp(list[i].name, "unet") ? 1 : 2));
        CHECK_OK(lk_lora_file_read(path, &f));
        if (kohya) resolve(f);
        is_whole(f, "read");
        CHECK_FAILS(lk_lora_file_save(f, path_of("never"), LK_FORMAT_PEFT, false), "PEFT's file is of one");
        for (lk_lora_format format = LK_FORMAT_DIFFUSERS; format <= LK_FORMAT_KOHYA; format++) {
            path = path_of("carried");
            CHECK_OK(lk_lora_file_save(f, path, format, false));
            CHECK_OK(lk_lora_file_read(path, &again));
            if (format == LK_FORMAT_KOHYA) resolve(again);
            is_whole(again, format == LK_FORMAT_KOHYA ? "kohya" : "diffusers");
            lk_lora_file_free(again);
        }
        lk_st *st;
        CHECK_OK(lk_st_open(path, &st));
        CHECK(lk_st_count(st) == ITEMS && lk_st_find(st, "lora_te1_text_model_q_proj.alpha") && lk_st_find(st, "lora_te2_text_model_q_proj.alpha"));      /* a first of two is te1 */
        lk_st_close(st);
        lk_lora_file_free(f);
    }
}

/* Without the text encoders' checkpoints their kohya names are kept; other formats need dots. */
TEST(text_encoders_keep_kohyas_names) {
    lk_lora_file *f, *again;
    CHECK_OK(lk_lora_file_read(write_file("all", true, NULL), &f));
    CHECK_OK(lk_lora_file_resolve_component(f, "unet", (const char *[]){ "down.to_q", "mid.conv" }, 2));
    CHECK_FAILS(lk_lora_file_save(f, path_of("never"), LK_FORMAT_DIFFUSERS, false), "'lora_te1_text_model_q_proj' is kohya's underscored name");
    CHECK_OK(lk_lora_file_save(f, path_of("kept"), LK_FORMAT_KOHYA, false));
    lk_lora_file_free(f);
    CHECK_OK(lk_lora_file_read(path_of("kept"), &again));
    resolve(again);
    is_whole(again, "kept");
    lk_lora_file_free(again);
    CHECK_OK(lk_lora_file_read(write_file("one", true, "text_encoder"), &f));
    CHECK_OK(lk_lora_file_save(f, path_of("alone"), LK_FORMAT_KOHYA, false));
    lk_lora_file_free(f);
    lk_st *st;
    CHECK_OK(lk_st_open(path_of("alone"), &st));
    CHECK(lk_st_find(st, "lora_te_text_model_q_proj.alpha") != NULL);
    lk_st_close(st);
}

/* Parts of different models are put into one file by mixing; the same module of two models is two. */
TEST(components_are_mixed_side_by_side) {
    lk_lora_file *f[3], *sum, *half;
    static const char *const names[] = { "unet", "text_encoder", "text_encoder_2" };
    double kept;
    for (int i = 0; i < 3; i++) CHECK_OK(lk_lora_file_read(write_file(names[i], false, names[i]), &f[i]));
    CHECK_OK(lk_lora_file_mix((const lk_lora_file *const *)f, (double[]){ 1, 1, 1 }, 3, &sum));
    for (int i = 0; i < 3; i++) lk_lora_file_free(f[i]);
    lk_lora_component list[LK_LORA_COMPONENTS];
    CHECK(sum->n == PARTS && lk_lora_file_components(sum, list) == 3);
    CHECK_OK(lk_lora_file_resize(sum, 1, &half, &kept));
    lk_lora_file_free(sum);
    CHECK(half->n == PARTS && lk_lora_file_components(half, list) == 3);
    CHECK_OK(lk_lora_file_save(half, path_of("half"), LK_FORMAT_DIFFUSERS, false));
    lk_lora_file_free(half);
}

/* ---- one of them, loaded ---------------------------------------------------------------------------------------------------- */

typedef struct { lk_graph *g; lk_exec *exec; lk_val y; } net;
static lk_err open_net(net *m, const char *path, const char *component, lk_adapter **a) {
    lk_lora_config c;
    lk_arena *arena = lk_arena_new();
    *m = (net){ .g = lk_graph_new() };
    *a = NULL;
    lk_err err = lk_adapter_inspect_component(path, component, arena, &c);
    if (!err) {
        *a = lk_adapter_new(c, "");
        lk_net root = lk_net_root(m->g);
        root.adapters = a;
        root.n_adapters = 1;
        lk_val x = lk_ones(m->g, LK_SHAPE(1, 4)), q = lk_nn_linear(&root, "down.to_q", x, 4, 5, false), conv = lk_nn_linear(&root, "mid.conv", x, 4, 3, false);
        m->y = lk_concat(m->g, (lk_val[]){ q, conv }, 2, 1);
        err = lk_exec_new(m->g, &m->y, 1, (lk_exec_opts){ 0 }, &m->exec);
    }
    lk_arena_free(arena);
    float w[20] = { 0 };
    if (!err) err = lk_exec_set(m->exec, lk_find(m->g, "down.to_q.weight"), w, 20);
    if (!err) err = lk_exec_set(m->exec, lk_find(m->g, "mid.conv.weight"), w, 12);
    return err ? err : lk_adapter_load(*a, m->exec, path);
}
static void close_net(net *m, lk_adapter *a) {
    lk_exec_free(m->exec);
    lk_graph_free(m->g);
    lk_adapter_free(a);
}
TEST(one_component_loads_as_its_own_file) {
    for (int kohya = 0; kohya < 2; kohya++) {
        float y[2][8] = { 0 };
        net m;
        lk_adapter *a;
        for (int whole = 0; whole < 2; whole++) {
            CHECK_OK(open_net(&m, write_file("file", kohya, whole ? NULL : "unet"), whole ? "unet" : NULL, &a));
            CHECK_OK(lk_exec_run(m.exec));
            CHECK_OK(lk_exec_get(m.exec, m.y, y[whole], 8));
            close_net(&m, a);
        }
        float want = 0;                                                      /* of ones: s B A 1, the first row, by hand */
        for (int k = 0; k < 2; k++) for (int j = 0; j < 4; j++) want += 1.5f * values[0][1][k] * values[0][0][k * 4 + j];
        CHECK_CLOSE(y[0][0], want, 1e-5);
        CHECK(want != 0 && !memcmp(y[0], y[1], sizeof *y));
        CHECK_FAILS(open_net(&m, path_of("file"), NULL, &a), "1 module of text_encoder");
        close_net(&m, a);
        CHECK_FAILS(open_net(&m, write_file("file", kohya, NULL), NULL, &a), "say which component is meant");
        close_net(&m, a);
        CHECK_FAILS(open_net(&m, path_of("file"), "text_encoder_3", &a), "has no modules of text_encoder_3; it has ");
        close_net(&m, a);
        CHECK_FAILS(open_net(&m, write_file("file", kohya, NULL), "text_encoder", &a), "belongs to no module of the model");
        close_net(&m, a);
    }
}
