/* The peers' vectors in tests/golden/models through the runner behind `make golden`, and the runner itself: a planted error
 * must be seen, whatever it is in. Oracle: diffusers, transformers and PEFT in binary64 (tests/golden, per-tensor tolerances). */
#include "cli/golden/golden.h"
#include "tests/lib/lk_test.h"
#include <dirent.h>
#include <sys/stat.h>

static lk_golden run_on(const char *path, const lk_backend *backend) {
    lk_golden g = { .backend = backend };
    if (!backend) lk_golden_failed(&g, "backend", lk_backend_cpu(LK_ISA_AUTO, &g.backend));
    lk_golden_failed(&g, path, lk_golden_walk(&g, path));
    for (int i = 0; i < g.n_claimed; i++) free(g.claimed[i]);
    free(g.claimed);
    return g;
}
static void check_case(const char *name, const lk_backend *backend) {
    char *path = lk_xfmt("tests/golden/models/%s", name);
    lk_golden g = run_on(path, backend);
    CHECK_MSG(g.passed > 0 && g.failed == 0, "%s: %d passed, %d failed", name, g.passed, g.failed);
    free(path);
}
TEST(unets)        { check_case("unet_sd15", NULL); check_case("unet_sd15_lowvar", NULL); check_case("unet_sdxl", NULL); check_case("unet_sdxl_lowvar", NULL); check_case("unet_upscaler", NULL); }
TEST(autoencoders) { check_case("vae", NULL); check_case("vae_noquant", NULL); check_case("vae_lowvar", NULL); check_case("vae_tiny", NULL); }
TEST(clip_towers)  { check_case("clip_text", NULL); check_case("clip_text_lowvar", NULL); check_case("clip_text_proj", NULL); check_case("clip_vision", NULL); check_case("clip_vision_lowvar", NULL); }
TEST(transformers) { check_case("flux", NULL); check_case("flux_lowvar", NULL); check_case("qwenimage", NULL); check_case("qwenimage_lowvar", NULL); check_case("sd3", NULL);
                     check_case("sd35", NULL); check_case("sd35_lowvar", NULL); }
TEST(video_and_control) { check_case("unet_svd", NULL); check_case("unet_svd_lowvar", NULL); check_case("controlnet", NULL); }
TEST(dinov2)       { check_case("dinov2", NULL); check_case("dinov2_lowvar", NULL); check_case("dinov2_swiglu", NULL); }
TEST(vit)          { check_case("vit", NULL); }
TEST(schedulers)   { check_case("schedulers", NULL); check_case("schedulers_edm", NULL); }
TEST(lora_training) { check_case("lora_train", NULL); }
TEST(lora_files)   { check_case("lora_formats", NULL); check_case("lora_mix", NULL); check_case("lora_sdxl_kohya", NULL); }
TEST(the_binary64_backend_agrees) { check_case("clip_text", lk_backend_ref()); check_case("unet_sd15_lowvar", lk_backend_ref()); check_case("vae_noquant", lk_backend_ref());
                                     check_case("sd35", lk_backend_ref()); check_case("flux_lowvar", lk_backend_ref()); check_case("dinov2_swiglu", lk_backend_ref()); }

/* ---- planted errors ----------------------------------------------------------------------------------------------- */
static void copy_file(const char *from, const char *to) {
    char *bytes; size_t n;
    CHECK_OK(lk_read_file(from, &bytes, &n));
    CHECK_OK(lk_write_file_atomic(to, bytes, n));
    free(bytes);
}
static char *copied_case(const char *name) {
    static int count;
    char *dir = lk_xfmt("%s/%d/%s", lk_test_dir(), count++, name), *source = lk_xfmt("tests/golden/models/%s", name);
    CHECK_OK(lk_mkdirs(dir));
    DIR *d = opendir(source);
    for (struct dirent *it; d && (it = readdir(d));) {
        if (it->d_name[0] == '.') continue;
        char *from = lk_xfmt("%s/%s", source, it->d_name), *to = lk_xfmt("%s/%s", dir, it->d_name);
        copy_file(from, to);
        free(from); free(to);
    }
    CHECK_MSG(d != NULL, "%s cannot be listed", source);
    if (d) closedir(d);
    free(source);
    return dir;
}
typedef void (*change_fn)(const char *name, float *v, int64_t n, void *ctx);
/* Rewrites a safetensors file with its F32 tensors changed; renames one tensor where `from` is given. */
static void rewrite(const char *dir, const char *file, change_fn change, void *ctx, const char *from, const char *to) {
    char *path = lk_xfmt("%s/%s", dir, file);
    lk_st *st;
    CHECK_OK(lk_st_open(path, &st));
    int n = lk_st_count(st);
    lk_st_item *items = lk_xcalloc((size_t)n, sizeof *items);
    for (int i = 0; i < n; i++) {
        const lk_tensor *t = lk_st_at(st, i);
        void *data = lk_xmalloc(t->bytes + 1);
        memcpy(data, t->data, t->bytes);
        if (change && t->dtype == LK_ST_F32) change(t->name, data, t->numel, ctx);
        items[i] = (lk_st_item){ .name = lk_xstrdup(from && !strcmp(t->name, from) ? to : t->name), .dtype = t->dtype, .rank = t->rank, .data = data };
        memcpy(items[i].d, t->d, sizeof items[i].d);
    }
    lk_st_close(st);
    CHECK_OK(lk_st_write(path, items, n, NULL));
    for (int i = 0; i < n; i++) { free((void *)items[i].name); free((void *)items[i].data); }
    free(items);
    free(path);
}
typedef struct { const char *name; float factor; } scaled;
static void scale_one(const char *name, float *v, int64_t n, void *ctx) {
    const scaled *s = ctx;
    if (!strcmp(name, s->name)) for (int64_t i = 0; i < n; i++) v[i] *= s->factor;
}
static int failures(const char *dir) {
    lk_golden g = run_on(dir, NULL);
    return g.failed;
}
TEST(an_untouched_copy_passes) {
    char *dir = copied_case("clip_vision_lowvar");
    CHECK(failures(dir) == 0);
    free(dir);
}
TEST(one_percent_in_one_parameter_is_seen) {
    char *dir = copied_case("clip_vision_lowvar");
    rewrite(dir, "model.safetensors", scale_one, &(scaled){ "vision_model.encoder.layers.0.mlp.fc1.weight", 1.01f }, NULL, NULL);
    CHECK(failures(dir) > 0);
    free(dir);
}
/* Plain cases alone: with the low-variance weights attention hardly matters. The copy itself passes, so a failure is the change's. */
TEST(two_percent_are_seen_in_every_family) {
    static const struct { const char *model, *file, *tensor; } rows[] = {
        { "sd3", "model.safetensors", "transformer_blocks.1.attn.add_k_proj.weight" },
        { "sd35", "model.safetensors", "transformer_blocks.0.attn2.to_v.weight" },
        { "flux", "model.safetensors", "transformer_blocks.0.attn.norm_added_k.weight" },
        { "flux", "io_ids.safetensors", "in.img_ids" },
        { "qwenimage", "model.safetensors", "transformer_blocks.0.attn.norm_k.weight" },
        { "qwenimage", "model.safetensors", "txt_norm.weight" },
        { "dinov2", "model.safetensors", "encoder.layer.0.layer_scale1.lambda1" },
        { "unet_svd", "io_seq1.safetensors", "in.added_time_ids" } };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char *dir = copied_case(rows[i].model);
        CHECK_MSG(failures(dir) == 0, "the copy of %s must pass", rows[i].model);
        rewrite(dir, rows[i].file, scale_one, &(scaled){ rows[i].tensor, 1.02f }, NULL, NULL);
        CHECK_MSG(failures(dir) > 0, "%s of %s by 1.02 was not seen", rows[i].tensor, rows[i].model);
        free(dir);
    }
}
TEST(a_wrong_gradient_is_seen) {
    char *dir = copied_case("clip_vision_lowvar");
    rewrite(dir, "io.safetensors", scale_one, &(scaled){ "grad.in.pixel_values", 1.001f }, NULL, NULL);
    CHECK(failures(dir) == 1);
    free(dir);
}
TEST(not_a_number_is_seen) {
    char *dir = copied_case("clip_vision_lowvar");
    rewrite(dir, "io.safetensors", scale_one, &(scaled){ "out.image_embeds", NAN }, NULL, NULL);
    CHECK(failures(dir) >= 1);
    free(dir);
}
TEST(an_unknown_tensor_fails) {
    char *dir = copied_case("clip_vision_lowvar");
    rewrite(dir, "io.safetensors", NULL, NULL, "grad.in.pixel_values", "grad.of.pixel_values");
    CHECK(failures(dir) == 1);
    free(dir);
}
TEST(an_unknown_file_fails) {
    char *dir = copied_case("clip_vision_lowvar"), *extra = lk_xfmt("%s/notes.json", dir);
    CHECK_OK(lk_write_file_atomic(extra, "{}\n", 3));
    CHECK(failures(dir) == 1);
    free(extra); free(dir);
}
TEST(a_changed_case_fails) {
    static const struct { const char *from, *to; } edits[] = {
        { "\"cls\": \"CLIPVisionModelWithProjection\"", "\"cls\": \"CLIPVisionModelWithProjectile\"" },      /* no such class */
        { "\"vision_model.post_layernorm.weight\": [", "\"vision_model.post_layernorm.wait\": [" } };       /* a parameter the model lacks */
    for (int i = 0; i < 2; i++) {
        char *dir = copied_case("clip_vision_lowvar"), *path = lk_xfmt("%s/case.json", dir), *text; size_t n;
        CHECK_OK(lk_read_file(path, &text, &n));
        char *at = strstr(text, edits[i].from);
        if (CHECK_MSG(at != NULL, "case.json has no %s", edits[i].from)) {
            lk_buf b = { 0 };
            lk_buf_add(&b, text, (size_t)(at - text));
            lk_buf_fmt(&b, "%s%s", edits[i].to, at + strlen(edits[i].from));
            CHECK_OK(lk_write_file_atomic(path, b.s, b.n));
            CHECK(failures(dir) > 0);
            free(b.s);
        }
        free(text); free(path); free(dir);
    }
}
TEST(nothing_found_is_no_pass) {
    lk_golden g = run_on("tests/golden/models/none_of_this_name", NULL);
    CHECK(g.passed == 0 && g.failed == 1);
}
