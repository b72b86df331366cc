/* The five face networks against vectors computed in binary64 from their original files: embeddings, landmarks, raw detector output,
 * gradients with respect to pixels. Tolerances: a second binary32 implementation came within 6.7e-7, 3.1e-5 (values to 15), 3.3e-7,
 * 1.8e-7 and 2.7e-5 (values to 55); four times that is allowed. Gradients: cosine 0.9999, since kinks flip in binary32. */
#include "datasets/datasets.h"
#include "models/face.h"
#include "tests/lib/lk_test.h"

static const char *const photos[6] = {"s01_01", "s01_05", "s10_03", "s15_02", "s28_07", "s40_09"};
static lk_st *golden(void) {
    static lk_st *st;
    if (!st) CHECK_OK(lk_st_open("tests/golden/recognisers.safetensors", &st));
    return st;
}
static float *tensor(const char *net, const char *what, int64_t *n) {
    char name[128];
    const lk_tensor *t;
    snprintf(name, sizeof name, "%s.%s", net, what);
    CHECK_OK(lk_st_get(golden(), name, &t));
    float *v = lk_xmalloc(sizeof(float) * (size_t)t->numel);
    CHECK_OK(lk_st_f32(t, v));
    if (n) *n = t->numel;
    return v;
}
/* Row i of the vectors' inputs: rows 10..101 of the photo resized to S, or integers for the last. */
static void input(int i, int s, float *out) {
    if (i == 6) {
        for (uint32_t k = 0; k < (uint32_t)(3 * s * s); k++) out[k % 3 * (uint32_t)(s * s) + k / 3] = (float)((k * 2654435761u >> 13) & 255);
        return;
    }
    char path[64];
    lk_image im;
    snprintf(path, sizeof path, "datasets/orl/%s.png", photos[i]);
    CHECK_OK(lk_image_read(path, &im));
    lk_image crop = {.w = 92, .h = 92, .c = im.c, .px = im.px + 10 * 92 * im.c};
    double r = 92.0 / s;
    lk_warp_image(&crop, (double[]){r, 0, 0.5 * r - 0.5, 0, r, 0.5 * r - 0.5}, s, s, out);
    lk_image_free(&im);
}
typedef struct { lk_graph *g; lk_exec *x; lk_val in, out, cot, grad; } net;
static lk_val build(const lk_net *n, int what, lk_val in) {
    return what < LK_RECOGNISERS ? lk_recogniser_embed(n, (lk_recogniser)what, in) : what == LK_RECOGNISERS ? lk_face_landmarks(n, in) : lk_face_detector(n, in);
}
static const char *file_of(int what) { return what < LK_RECOGNISERS ? lk_recogniser_name((lk_recogniser)what) : what == LK_RECOGNISERS ? "face_landmark_68" : "tiny_face_detector"; }
/* With `reference` the output is the loss 1 - cos(embedding, reference) and grad its gradient in pixels. */
static net open_net(int what, int size, const float *reference) {
    net n = {.g = lk_graph_new()};
    lk_net root = lk_net_root(n.g);
    n.in = lk_input(n.g, "pixels", LK_F32, LK_SHAPE(1, 3, size, size));
    n.out = build(&root, what, n.in);
    if (reference) {
        lk_val e = lk_const(n.g, LK_F32, LK_SHAPE(1, lk_dim(n.g, n.out, 1)), reference);
        n.out = lk_sum_all(n.g, lk_sub(n.g, lk_scalar(n.g, 1), lk_cosine(n.g, n.out, e, 1e-12)));
        lk_vjp(n.g, n.out, LK_NONE, &n.in, 1, &n.grad);
    }
    CHECK_OK(lk_graph_error(n.g));
    CHECK_OK(lk_exec_new(n.g, (lk_val[]){n.out, n.grad}, reference ? 2 : 1, (lk_exec_opts){0}, &n.x));
    char path[128];
    lk_st *st;
    snprintf(path, sizeof path, "models/faces/%s.safetensors", file_of(what));
    CHECK_OK(lk_st_open(path, &st));
    CHECK_OK(lk_face_weights(n.x, st, ""));
    lk_st_close(st);
    return n;
}
static void close_net(net *n) { lk_exec_free(n->x); lk_graph_free(n->g); }
static void compare_outputs(int what, int size, const char *key, double tolerance) {
    int64_t total;
    float *want = tensor(file_of(what), key, &total), *in = lk_xmalloc(sizeof(float) * 3 * (size_t)size * (size_t)size), *got = lk_xmalloc(sizeof(float) * (size_t)total / 7);
    net n = open_net(what, size, NULL);
    double worst = 0;
    for (int i = 0; i < 7; i++) {
        input(i, size, in);
        CHECK_OK(lk_exec_set(n.x, n.in, in, 3 * size * size));
        CHECK_OK(lk_exec_run(n.x));
        CHECK_OK(lk_exec_get(n.x, n.out, got, total / 7));
        for (int64_t k = 0; k < total / 7; k++) { double d = fabs((double)got[k] - want[i * (total / 7) + k]); if (!(d <= worst)) worst = d; }
    }
    CHECK_MSG(worst <= tolerance, "%s %s: largest error %g, allowed %g", file_of(what), key, worst, tolerance);
    close_net(&n);
    free(want); free(in); free(got);
}
static void compare_gradient(int what, int row, const char *loss_key, const char *grad_key) {
    int size = lk_recogniser_size((lk_recogniser)what), pixels = 3 * size * size;
    float *embeddings = tensor(file_of(what), "embedding", NULL), *loss = tensor(file_of(what), loss_key, NULL), *want = tensor(file_of(what), grad_key, NULL);
    float *in = lk_xmalloc(sizeof(float) * (size_t)pixels), *got = lk_xmalloc(sizeof(float) * (size_t)pixels), l;
    net n = open_net(what, size, embeddings);
    input(row, size, in);
    CHECK_OK(lk_exec_set(n.x, n.in, in, pixels));
    CHECK_OK(lk_exec_run(n.x));
    CHECK_OK(lk_exec_get(n.x, n.out, &l, 1));
    CHECK_OK(lk_exec_get(n.x, n.grad, got, pixels));
    CHECK_CLOSE(l, loss[0], 4e-6);
    double ab = 0, aa = 0, bb = 0;
    for (int k = 0; k < pixels; k++) { ab += (double)got[k] * want[k]; aa += (double)got[k] * got[k]; bb += (double)want[k] * want[k]; }
    CHECK_MSG(ab / sqrt(aa * bb) >= 0.9999, "%s %s: cosine %.6f", file_of(what), grad_key, ab / sqrt(aa * bb));
    CHECK_CLOSE(sqrt(aa / bb), 1, 0.01);
    close_net(&n);
    free(embeddings); free(loss); free(want); free(in); free(got);
}
TEST(mobilefacenet_embeds) { compare_outputs(LK_MOBILEFACENET, 112, "embedding", 2.7e-6); }
TEST(mobileface_embeds) { compare_outputs(LK_MOBILEFACE, 112, "embedding", 1.3e-4); }
TEST(dlib_embeds) { compare_outputs(LK_DLIB, 150, "embedding", 1.4e-6); }
TEST(landmarks_are_found) { compare_outputs(LK_RECOGNISERS, 112, "points", 8e-7); }
TEST(detector_scores_raw) { compare_outputs(LK_RECOGNISERS + 1, 128, "raw", 1.1e-4); }
TEST(recogniser_gradients) {
    for (int r = 0; r < LK_RECOGNISERS; r++) {
        compare_gradient(r, 1, "loss_orl", "grad_orl");
        compare_gradient(r, 6, "loss_random", "grad_random");
    }
}
