/* Adapters without a graph: the SVD against a delta made with known singular values, merging against the peer's merged outputs' weights
 * (W + s BA summed here by hand), extraction as merging's inverse, mixing and halves against their definitions. */
#include "tests/lib/lk_test.h"
#include "models/lora_file.h"

enum { ROWS = 6, COLUMNS = 9 };

/* Rows of a Sylvester-like orthonormal set: cosines, so that u and v are orthonormal to rounding. */
static double cosine(int n, int k, int i) { return (k ? sqrt(2.0 / n) : sqrt(1.0 / n)) * cos(M_PI * (i + 0.5) * k / n); }

/* A LoRA file in memory, rank 3, whose delta is sum_k s_k u_k v_k'. */
static const double singular[3] = { 4, 1, 0.25 };
static lk_lora_file known(lk_arena *arena, lk_lora_part *p, double mirror) {
    *p = (lk_lora_part){ .name = "to_q", .r = 3, .alpha = 6 };
    p->t[LK_SLOT_A] = (lk_lora_array){ LK_SHAPE(3, COLUMNS), lk_alloc(arena, 3 * COLUMNS * sizeof(float)) };
    p->t[LK_SLOT_B] = (lk_lora_array){ LK_SHAPE(ROWS, 3), lk_alloc(arena, ROWS * 3 * sizeof(float)) };
    for (int k = 0; k < 3; k++) {
        for (int j = 0; j < COLUMNS; j++) p->t[LK_SLOT_A].x[k * COLUMNS + j] = (float)(mirror * cosine(COLUMNS, k + 1, j));
        for (int i = 0; i < ROWS; i++) p->t[LK_SLOT_B].x[i * 3 + k] = (float)(mirror * singular[k] / 2 * cosine(ROWS, k, i));      /* scale 2 */
    }
    return (lk_lora_file){ .arena = arena, .path = "known", .kind = LK_LORA, .n = 1, .part = p, .component = "unet" };
}

static double away(const lk_lora_file *f, int terms) {
    double d[ROWS * COLUMNS], worst = 0;
    lk_lora_part_delta(f, &f->part[0], d);
    for (int i = 0; i < ROWS; i++)
        for (int j = 0; j < COLUMNS; j++) {
            double want = 0;
            for (int k = 0; k < terms; k++) want += singular[k] * cosine(ROWS, k, i) * cosine(COLUMNS, k + 1, j);
            worst = fmax(worst, fabs(d[i * COLUMNS + j] - want));
        }
    return worst;
}

TEST(resizing_keeps_the_largest_singular_values) {
    lk_arena *arena = lk_arena_new();
    lk_lora_part p;
    lk_lora_file f = known(arena, &p, 1), *out;
    double kept, all = 16 + 1 + 1.0 / 16;
    CHECK(away(&f, 3) < 1e-6);
    for (int r = 1; r <= 4; r++) {
        CHECK_OK(lk_lora_file_resize(&f, r, &out, &kept));
        CHECK(out->part[0].r == (r < 3 ? r : 3) && out->part[0].alpha == out->part[0].r);
        CHECK_CLOSE(away(out, r < 3 ? r : 3), 0, 2e-6);                     /* halves are rounded to binary32: 4 x 2^-24, some products */
        if (r < 3) CHECK(away(out, r + 1) > 0.02);              /* the next term is missing */
        CHECK_CLOSE(kept, r == 1 ? 16 / all : r == 2 ? 17 / all : 1, 1e-6);
        lk_lora_file_free(out);
    }
    CHECK_FAILS(lk_lora_file_resize(&f, 0, &out, &kept), "expected at least 1");
    lk_arena_free(arena);
}

TEST(the_sign_of_the_factors_is_settled) {
    lk_arena *arena = lk_arena_new();
    lk_lora_part p, q;
    lk_lora_file f = known(arena, &p, 1), g = known(arena, &q, -1), *x, *y;
    double kept;
    CHECK_OK(lk_lora_file_resize(&f, 3, &x, &kept));
    CHECK_OK(lk_lora_file_resize(&g, 3, &y, &kept));
    for (int i = 0; i < 3 * COLUMNS; i++) CHECK_CLOSE(x->part[0].t[LK_SLOT_A].x[i], y->part[0].t[LK_SLOT_A].x[i], 1e-5);
    lk_lora_file_free(x);
    lk_lora_file_free(y);
    lk_arena_free(arena);
}

TEST(mixing_adds_weighted_deltas) {
    lk_arena *arena = lk_arena_new();
    lk_lora_part p, q;
    lk_lora_file f = known(arena, &p, 1), g = known(arena, &q, -1), *out;
    CHECK_OK(lk_lora_file_mix((const lk_lora_file *[]){ &f, &g }, (double[]){ 0.25, 0.75 }, 2, &out));
    CHECK(out->part[0].r == 6);
    CHECK_CLOSE(away(out, 3), 0, 2e-6);                         /* g's delta is f's: both factors are mirrored */
    lk_lora_file_free(out);
    CHECK_OK(lk_lora_file_mix((const lk_lora_file *[]){ &f, &g }, (double[]){ 1, 0.75 }, 2, &out));
    CHECK(away(out, 3) > 0.5);
    lk_lora_file_free(out);
    lk_arena_free(arena);
}

/* Halfway between (A, B) and (-A, -B) both halves vanish, though the deltas are equal: not the interpolation of deltas. */
TEST(halves_are_interpolated_each_for_itself) {
    lk_arena *arena = lk_arena_new();
    lk_lora_part p, q;
    lk_lora_file f = known(arena, &p, 1), g = known(arena, &q, -1), *out;
    CHECK_OK(lk_lora_file_halves(&f, &g, 0.5, &out));
    for (int i = 0; i < 3 * COLUMNS; i++) CHECK(out->part[0].t[LK_SLOT_A].x[i] == 0);
    lk_lora_file_free(out);
    CHECK_OK(lk_lora_file_halves(&f, &g, 0, &out));
    CHECK_CLOSE(away(out, 3), 0, 1e-6);
    lk_lora_file_free(out);
    q.alpha = 5;
    CHECK_FAILS(lk_lora_file_halves(&f, &g, 0.5, &out), "equal shape, rank and alpha");
    lk_arena_free(arena);
}

static void write_weights(const char *path, const float *w, const float *bias) {
    CHECK_OK(lk_st_write(path, (lk_st_item[]){ { .name = "to_q.weight", .dtype = LK_ST_F32, .rank = 2, .d = { ROWS, COLUMNS }, .data = w },
                                               { .name = "to_q.bias", .dtype = LK_ST_F32, .rank = 1, .d = { ROWS }, .data = bias } }, 2, NULL));
}

TEST(extraction_undoes_merging) {
    lk_arena *arena = lk_arena_new();
    lk_lora_part p;
    lk_lora_file f = known(arena, &p, 1), *out;
    float w[ROWS * COLUMNS], merged[ROWS * COLUMNS], bias[ROWS] = { 0 };
    double delta[ROWS * COLUMNS], kept;
    char a[512], b[512];
    lk_st *from, *to;
    for (int i = 0; i < ROWS * COLUMNS; i++) merged[i] = w[i] = (float)(i % 7) - 3;
    lk_lora_part_delta(&f, &p, delta);
    CHECK_OK(lk_lora_part_merge(&f, &p, 1, merged));
    for (int i = 0; i < ROWS * COLUMNS; i++) CHECK_CLOSE(merged[i], w[i] + delta[i], 5e-7);
    snprintf(a, sizeof a, "%s/a.safetensors", lk_test_dir());
    snprintf(b, sizeof b, "%s/b.safetensors", lk_test_dir());
    write_weights(a, w, bias);
    write_weights(b, merged, bias);
    CHECK_OK(lk_st_open(a, &from));
    CHECK_OK(lk_st_open(b, &to));
    CHECK_OK(lk_lora_extract(from, to, 3, &out, &kept));
    CHECK(out->n == 1 && !strcmp(out->part[0].name, "to_q"));
    CHECK_CLOSE(away(out, 3), 0, 3e-6);
    lk_lora_file_free(out);
    CHECK_FAILS(lk_lora_extract(from, from, 3, &out, &kept), "nothing to extract");
    lk_st_close(to);
    bias[2] = 1;
    write_weights(b, merged, bias);
    CHECK_OK(lk_st_open(b, &to));
    CHECK_FAILS(lk_lora_extract(from, to, 3, &out, &kept), "'to_q.bias' differs too");
    lk_st_close(from);
    lk_st_close(to);
    lk_arena_free(arena);
}

TEST(dora_rows_are_brought_to_their_magnitudes) {
    lk_arena *arena = lk_arena_new();
    lk_lora_part p;
    lk_lora_file f = known(arena, &p, 1), *out;
    float w[ROWS * COLUMNS];
    double kept;
    p.t[LK_SLOT_MAGNITUDE] = (lk_lora_array){ LK_SHAPE(ROWS), lk_alloc(arena, ROWS * sizeof(float)) };
    f.kind = LK_DORA;
    for (int i = 0; i < ROWS; i++) p.t[LK_SLOT_MAGNITUDE].x[i] = (float)(i + 1);
    for (int i = 0; i < ROWS * COLUMNS; i++) w[i] = (float)(i % 5) + 1;
    CHECK_OK(lk_lora_part_merge(&f, &p, 1, w));
    for (int i = 0; i < ROWS; i++) {
        double s = 0;
        for (int j = 0; j < COLUMNS; j++) s += pow(w[i * COLUMNS + j], 2);
        CHECK_CLOSE(sqrt(s), i + 1, 1e-6 * (i + 1));
    }
    CHECK_FAILS(lk_lora_file_resize(&f, 1, &out, &kept), "DoRA");
    lk_arena_free(arena);
}

/* ---- kohya's FLUX ------------------------------------------------------------------------------------------------------- */

static void write_fused(const char *path, const char *module, int64_t out_rows) {
    static float a[2 * 4], b[64 * 2], alpha = 1;
    char names[3][128];
    const char *ends[3] = { "lora_down.weight", "lora_up.weight", "alpha" };
    for (int i = 0; i < 3; i++) snprintf(names[i], sizeof names[i], "lora_unet_%s.%s", module, ends[i]);
    for (int i = 0; i < 8; i++) a[i] = (float)(i + 1);
    for (int i = 0; i < out_rows * 2; i++) b[i] = (float)(i % 11) - 5;
    CHECK_OK(lk_st_write(path, (lk_st_item[]){ { .name = names[0], .dtype = LK_ST_F32, .rank = 2, .d = { 2, 4 }, .data = a }, { .name = names[1], .dtype = LK_ST_F32, .rank = 2, .d = { out_rows, 2 }, .data = b },
                                               { .name = names[2], .dtype = LK_ST_F32, .data = &alpha } }, 3, NULL));
}

/* Rows of the fused delta, summed here, are the parts' deltas one below the other. */
static void splits_into(const char *module, int64_t out_rows, int n, const char *const *names) {
    char path[512];
    lk_lora_file *f;
    int64_t row = 0;
    snprintf(path, sizeof path, "%s/flux.safetensors", lk_test_dir());
    write_fused(path, module, out_rows);
    CHECK_OK(lk_lora_file_read(path, &f));
    CHECK(f->n == n && !strcmp(f->component, "transformer"));
    for (int k = 0; k < f->n && k < n; k++) {
        int64_t rows, columns;
        double d[64 * 4];
        CHECK_MSG(!strcmp(f->part[k].name, names[k]), "%s: got %s, want %s", module, f->part[k].name, names[k]);
        lk_lora_part_size(&f->part[k], &rows, &columns);
        lk_lora_part_delta(f, &f->part[k], d);
        for (int64_t i = 0; i < rows; i++, row++)
            for (int64_t j = 0; j < 4; j++) CHECK_CLOSE(d[i * 4 + j], 0.5 * ((row * 2 % 11 - 5.0) * (j + 1) + ((row * 2 + 1) % 11 - 5.0) * (j + 5)), 0);
    }
    CHECK(row == out_rows);
    lk_lora_file_free(f);
}
TEST(fused_flux_matrices_come_apart) {
    splits_into("double_blocks_7_img_attn_qkv", 12, 3, (const char *[]){ "transformer_blocks.7.attn.to_q", "transformer_blocks.7.attn.to_k", "transformer_blocks.7.attn.to_v" });
    splits_into("single_blocks_12_linear1", 28, 4, (const char *[]){ "single_transformer_blocks.12.attn.to_q", "single_transformer_blocks.12.attn.to_k", "single_transformer_blocks.12.attn.to_v",
                                                                     "single_transformer_blocks.12.proj_mlp" });
    splits_into("double_blocks_0_txt_mlp_0", 16, 1, (const char *[]){ "transformer_blocks.0.ff_context.net.0.proj" });
    char path[512];
    lk_lora_file *f;
    snprintf(path, sizeof path, "%s/flux.safetensors", lk_test_dir());
    write_fused(path, "double_blocks_7_img_attn_qkv", 13);
    CHECK_FAILS(lk_lora_file_read(path, &f), "3 matrices of that width are fused");
}
/* tests/peers/flux_kohya.py compares with diffusers at FLUX's own widths. */
TEST(flux_modules_join_again) {
    char path[512], again[512];
    lk_lora_file *f, *g;
    double before[3][16], after[16], worst = 0;
    int64_t rows, columns;
    snprintf(path, sizeof path, "%s/flux.safetensors", lk_test_dir());
    snprintf(again, sizeof again, "%s/again.safetensors", lk_test_dir());
    write_fused(path, "double_blocks_7_img_attn_qkv", 12);
    CHECK_OK(lk_lora_file_read(path, &f));
    CHECK_OK(lk_lora_file_save(f, again, LK_FORMAT_KOHYA_FLUX, false));
    lk_st *x, *y;
    CHECK_OK(lk_st_open(path, &x));
    CHECK_OK(lk_st_open(again, &y));
    CHECK(lk_st_count(x) == lk_st_count(y));
    for (int i = 0; i < lk_st_count(x) && i < lk_st_count(y); i++) {       /* one A: what came apart is whole again, bit for bit */
        const lk_tensor *a = lk_st_at(x, i), *b = lk_st_at(y, i);
        CHECK_MSG(!strcmp(a->name, b->name) && a->bytes == b->bytes && !memcmp(a->data, b->data, a->bytes), "%s, %s", a->name, b->name);
    }
    lk_st_close(x); lk_st_close(y);
    float other[2 * 4] = { 3, -1, 2, 5, 0, 1, -2, 4 };
    f->part[1].t[LK_SLOT_A].x = other;                                     /* another A and alpha: ranks add up, deltas stay */
    f->part[2].alpha = 3;
    for (int i = 0; i < 3; i++) lk_lora_part_delta(f, &f->part[i], before[i]);
    CHECK_OK(lk_lora_file_save(f, again, LK_FORMAT_KOHYA_FLUX, false));
    CHECK_OK(lk_lora_file_read(again, &g));
    CHECK(g->n == 3 && g->part[0].r == 6);
    for (int i = 0; i < g->n && i < 3; i++) {
        lk_lora_part_size(&g->part[i], &rows, &columns);
        CHECK(rows == 4 && columns == 4 && !strcmp(g->part[i].name, f->part[i].name));
        lk_lora_part_delta(g, &g->part[i], after);
        for (int k = 0; k < 16; k++) worst = fmax(worst, fabs(after[k] - before[i][k]));
    }
    CHECK_CLOSE(worst, 0, 1e-5);                                           /* of sums of values up to 100, B rounded once with its scale */
    f->part[0].name = "x_embedder";
    CHECK_FAILS(lk_lora_file_save(f, again, LK_FORMAT_KOHYA_FLUX, false), "'x_embedder' has no name in kohya's FLUX files");
    f->kind = LK_LOHA;
    CHECK_FAILS(lk_lora_file_save(f, again, LK_FORMAT_KOHYA_FLUX, false), "cannot be joined");
    lk_lora_file_free(f);
    lk_lora_file_free(g);
}

/* Found by tests/fuzz/fuzz_adapter.c: sizes the algebra counts on. */
TEST(factors_must_fit_each_other) {
    char path[512];
    lk_lora_file *f;
    static float x[64];
    snprintf(path, sizeof path, "%s/unfit.safetensors", lk_test_dir());
    CHECK_OK(lk_st_write(path, (lk_st_item[]){ { "lora_unet_a.hada_w1_a", LK_ST_F32, 2, { 4, 2 }, x }, { "lora_unet_a.hada_w1_b", LK_ST_F32, 2, { 2, 3 }, x }, { "lora_unet_a.hada_w2_a", LK_ST_F32, 2, { 2, 2 }, x },
                                               { "lora_unet_a.hada_w2_b", LK_ST_F32, 2, { 2, 3 }, x } }, 4, NULL));
    CHECK_FAILS(lk_lora_file_read(path, &f), "hada_w1 gives a matrix of 4 x 3, hada_w2 one of 2 x 3");
    CHECK_OK(lk_st_write(path, (lk_st_item[]){ { "lora_unet_a.lora_down.weight", LK_ST_F32, 2, { 2, 4 }, x }, { "lora_unet_a.lora_up.weight", LK_ST_F32, 2, { 6, 2 }, x }, { "lora_unet_a.dora_scale", LK_ST_F32, 2, { 5, 1 }, x } }, 3, NULL));
    CHECK_FAILS(lk_lora_file_read(path, &f), "the magnitude of 'lora_unet_a' has 5 values; its lora_B has 6 rows");
    CHECK_OK(lk_st_write(path, (lk_st_item[]){ { "lora_unet_a.lora_down.weight", LK_ST_F32, 2, { 2, 4 }, x }, { "lora_unet_a.lora_up.weight", LK_ST_F32, 4, { 2, 2, 3, 3 }, x } }, 2, NULL));
    CHECK_FAILS(lk_lora_file_read(path, &f), "a matrix or a 1x1 convolution");
}
