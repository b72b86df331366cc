/* The other terms: gradients with respect to the adapter by central differences, each alone and all beside an identity loss; which weights each asks
 * for; the face's mask against a circle; what each looks at. */
#include "models/face.h"
#include "tests/train/identity_rig.h"
#include <unistd.h>

static lk_terms_opts only(lk_term t, double weight) {
    lk_terms_opts o = {.gate = 600, .prior = 1, .prior_prompt = "a photo of a man"};
    o.weight[t] = weight;
    return o;
}
static void check(lk_term t, double weight, double quick) {
    lk_terms_opts o = only(t, weight);
    check_direction(NULL, &o, quick, lk_term_word(t));
}
TEST(gradients_of_the_small_terms) { check(LK_TERM_PRIOR, 0.5, 0); check(LK_TERM_MASKED, 0.5, 0); check(LK_TERM_VARIATION, 0.5, 0); }
/* Against the photo's own embedding, recogniser features are the identity loss's naive form, whose gradient test_identity.c checks by differences: the same
 * value, the same gradient. Another photo's embedding gives others. */
TEST(recogniser_features_are_an_identity_loss_against_the_photo) {
    static const char *const shared[] = {"context", "x0.0", "noise.0"};
    enum { MOST = 4096 };
    static double grad[3][MOST];
    double value[3] = {NAN, NAN, NAN};
    float photo[512];
    int64_t dim = lk_recogniser_dim(LK_MOBILEFACENET), n[3] = {0};
    for (int k = 0; k < 3; k++) {                                /* the term; the identity loss; the same with another reference */
        lk_terms_opts o = only(LK_TERM_PERCEPTUAL, 0.5);
        lk_id_opts id = {.form = LK_ID_NAIVE, .weight = 0.5, .gate = 600};
        rig r;
        if (!rig_new(&r, k ? &id : NULL, k ? NULL : &o)) { rig_free(&r); return; }
        lk_val outputs[202] = {r.loss}, own = LK_NONE;
        int count = 1;
        for (int i = 0; i < r.n; i++) outputs[count++] = r.grad[i];
        if (!k) {
            lk_net vae = lk_net_root(r.g), face = vae;
            vae.param_prefix = "vae/";
            face.param_prefix = "id/";
            lk_val frames = lk_scale(r.g, lk_shift(r.g, lk_vae_decode(&vae, &r.zoo.vae, lk_find(r.g, "x0.0")), 1), 127.5);
            outputs[count++] = own = lk_face_embed_frames(&face, LK_MOBILEFACENET, frames);
        }
        lk_exec *x = start(&r, outputs, count, NULL);
        for (int i = 0; i < 3; i++) fill(x, lk_find(r.g, shared[i]), 1, 40 + (uint64_t)i);
        if (k == 2) photo[0] += 0.2f;
        if (k) CHECK_OK(lk_exec_set(x, lk_find(r.g, "id.reference"), photo, dim));
        CHECK_OK(lk_exec_run(x));
        CHECK_OK(lk_exec_get_f64(x, r.loss, &value[k], 1));
        if (!k) CHECK_OK(lk_exec_get(x, own, photo, dim));
        for (int i = 0; i < r.n; i++) {
            int64_t m = lk_numel(lk_shape_of(r.g, r.grad[i]));
            if (!CHECK(n[k] + m <= MOST)) break;
            CHECK_OK(lk_exec_get_f64(x, r.grad[i], grad[k] + n[k], m));
            n[k] += m;
        }
        lk_exec_free(x);
        rig_free(&r);
    }
    double norm = 0, apart[2] = {0, 0};
    for (int64_t i = 0; i < n[0]; i++) {
        norm += grad[1][i] * grad[1][i];
        for (int k = 0; k < 2; k++) apart[k] += pow(grad[0][i] - grad[k + 1][i], 2);
    }
    CHECK(n[0] == n[1] && norm > 0 && value[0] > 1e-3);
    CHECK_CLOSE(value[0], value[1], 1e-6);                       /* binary32, the same operations but for a normalisation */
    CHECK_MSG(sqrt(apart[0] / norm) < 1e-4, "gradients apart by %.3g", sqrt(apart[0] / norm));
    CHECK(sqrt(apart[1] / norm) > 1e-2);
}
static const char clip_json[] = "{\"architectures\": [\"CLIPVisionModelWithProjection\"], \"model_type\": \"clip_vision_model\", \"hidden_size\": 8, \"intermediate_size\": 16, \"num_hidden_layers\": 1,"
    "\"num_attention_heads\": 2, \"image_size\": 80, \"patch_size\": 16, \"projection_dim\": 6, \"hidden_act\": \"gelu\", \"layer_norm_eps\": 1e-5}";
/* Files that are there: graph only, so what is in them is not read but for the CLIP's config. */
static const char *placed(const char *name, const char *text) {
    static char path[400];
    snprintf(path, sizeof path, "%s/%s", lk_test_dir(), name);
    CHECK_OK(lk_write_file_atomic(path, text, strlen(text)));
    return path;
}
static const char *some_clip(void) {
    static const char empty[] = "\x02\0\0\0\0\0\0\0{}";
    char weights[400];
    snprintf(weights, sizeof weights, "%s/model.safetensors", lk_test_dir());
    CHECK_OK(lk_write_file_atomic(weights, empty, sizeof empty - 1));
    placed("config.json", clip_json);
    return lk_test_dir();
}
TEST(gradient_of_clips_embedding) {
    lk_terms_opts o = only(LK_TERM_CLIP, 0.5);
    o.clip = some_clip();
    check_direction(NULL, &o, 0, "clip");
}
TEST(gradients_through_vgg) {
    lk_terms_opts o = only(LK_TERM_LPIPS, 5);
    o.vgg = placed("vgg16.safetensors", "");
    check_direction(NULL, &o, 0x1p-6, "lpips");
    o = only(LK_TERM_VGG, 5);                                    /* the same without heads: that it is built and heard */
    o.vgg = placed("vgg16.safetensors", "");
    rig r;
    if (rig_new(&r, NULL, &o)) CHECK(!lk_ok(lk_find(r.g, "lin/lin0.model.1.weight")) && lk_ok(lk_find(r.g, "vgg/features.28.weight")));
    int reached = 0;
    for (int i = 0; i < r.n; i++) reached += lk_ok(r.grad[i]);
    CHECK(r.n > 0 && reached == r.n);
    rig_free(&r);
}
/* Two terms and the identity loss are one sum. */
TEST(terms_and_identity_loss_add) {
    double value[3] = {NAN, NAN, NAN};
    for (int k = 0; k < 3; k++) {
        lk_terms_opts o = only(LK_TERM_MASKED, 0.5);
        lk_id_opts id = {.form = LK_ID_NAIVE, .weight = 1};
        rig r;
        if (!rig_new(&r, k == 1 ? NULL : &id, k == 0 ? NULL : &o)) { rig_free(&r); return; }
        lk_exec *x = start(&r, &r.loss, 1, NULL);
        static const char *const shared[] = {"context", "x0.0", "noise.0", "id.reference"};
        for (int i = 0; i < 4; i++) { lk_val v = lk_find(r.g, shared[i]); if (lk_ok(v)) fill(x, v, 1, 40 + (uint64_t)i); else CHECK(i == 3 && k == 1); }
        CHECK_OK(lk_exec_run(x));
        CHECK_OK(lk_exec_get_f64(x, r.loss, &value[k], 1));
        lk_exec_free(x);
        rig_free(&r);
    }
    CHECK(value[0] > 1e-3 && value[1] > 1e-3);
    CHECK_CLOSE(value[2], value[0] + value[1], 1e-6 * value[2]);       /* binary32 */
}
/* Beyond the gate a guess counts nothing. */
TEST(a_closed_gate_leaves_nothing) {
    lk_terms_opts o = only(LK_TERM_PERCEPTUAL, 0.5);
    double value = NAN;
    o.gate = 300;                                                /* the rig's timestep is 400 */
    rig r;
    if (!rig_new(&r, NULL, &o)) { rig_free(&r); return; }
    lk_exec *x = start(&r, &r.loss, 1, NULL);
    CHECK_OK(lk_exec_run(x));
    CHECK_OK(lk_exec_get_f64(x, r.loss, &value, 1));
    CHECK(value == 0);
    lk_exec_free(x);
    rig_free(&r);
}
TEST(refusals) {
    lk_terms_opts o = only(LK_TERM_LPIPS, 1);
    CHECK_FAILS(lk_terms_check(&o), "vgg=FILE");
    o.vgg = "/nowhere/vgg16.safetensors";
    CHECK_FAILS(lk_terms_check(&o), "is not there");
    o = only(LK_TERM_CLIP, 1);
    CHECK_FAILS(lk_terms_check(&o), "clip=DIRECTORY");
    o.clip = "/nowhere";
    CHECK_FAILS(lk_terms_check(&o), "is not there");
    o = only(LK_TERM_PRIOR, 1);
    o.prior = 0;
    CHECK_FAILS(lk_terms_check(&o), "at least one picture");
    o = only(LK_TERM_MASKED, -1);
    CHECK_FAILS(lk_terms_check(&o), "0 or above");
    o = only(LK_TERM_MASKED, NAN);
    CHECK_FAILS(lk_terms_check(&o), "0 or above");
    lk_terms *t;
    lk_zoo none = {0};
    o = only(LK_TERM_MASKED, 1);
    CHECK_FAILS(lk_terms_new(&none, o, 1, 1, NULL, 0, NULL, &t), "a mask a reference");
}
/* 68 landmarks on a circle of radius r: the hull is the regular polygon, of area 34 r^2 sin(2 pi / 68). The five points that align are among them, so the
 * frame's circle is of another size: its area follows from the similarity's scale. */
TEST(a_mask_covers_the_hull) {
    lk_face f = {0};
    const double pi = 3.14159265358979, r = 40;
    for (int i = 0; i < 68; i++) { f.point[i][0] = 100 + r * cos(2 * pi * i / 68); f.point[i][1] = 90 + r * sin(2 * pi * i / 68); }
    double m[6];
    lk_face_to_arcface(&f, m);
    double scale = (m[0] * m[0] + m[3] * m[3]) / 4, want = 34 * r * r * sin(2 * pi / 68) * scale, got = 0;
    float mask[LK_ZOO_GRID * LK_ZOO_GRID];
    lk_face_mask(&f, LK_ZOO_GRID, mask);
    double cx = (m[0] * 100 + m[1] * 90 + m[2] + 7.5) / 2, cy = (m[3] * 100 + m[4] * 90 + m[5] + 1.5) / 2, reach = r * sqrt(scale);
    bool within = cx - reach > 0 && cx + reach < 63 && cy - reach > 0 && cy + reach < 63;
    for (int i = 0; i < LK_ZOO_GRID * LK_ZOO_GRID; i++) { got += 16 * (double)mask[i]; CHECK(mask[i] >= 0 && mask[i] <= 1); }
    printf("  a circle at %.1f, %.1f of radius %.1f: %.1f pixels, %.1f by its polygon\n", cx, cy, reach, got, want);
    CHECK_MSG(within, "the circle leaves the frame");
    CHECK_CLOSE(got, want, 0.02 * want);                         /* points a quarter of a pixel apart */
}
