/* recognisers.safetensors: embeddings, gradients, landmarks and detector output of the face networks. Inputs are the photos its
 * metadata names (rows 10..101 of datasets/orl/NAME.png, resized) and a picture of mixed integers; weights are models/faces'. */
#include "cli/golden/golden.h"
#include "models/face.h"         /* networks, warps */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROWS = 64, CROP = 92, TOP = 10, DETECTOR = 128, LANDMARKS = 112 };
#define RELATIVE 1e-5            /* of the largest value: binary32 networks against binary64 */
typedef struct { lk_golden *run; lk_golden_file file; char *images; char *row[ROWS]; int rows; lk_arena *memory; } vectors;
typedef lk_val (*builder)(const lk_net *, lk_val pixels, int which);
typedef struct { lk_graph *g; lk_exec *x; lk_val in, out, grad; int size; } network;

/* ---- inputs ------------------------------------------------------------------------------------------------------------------ */
static lk_err list_images(vectors *v) {
    const char *names = lk_st_meta(v->file.st, "images");
    char *rest = NULL;
    if (!names) return lk_error(LK_EINPUT, "%s: metadata names no images", lk_st_path(v->file.st));
    v->images = lk_strdup(v->memory, names);
    for (char *n = strtok_r(v->images, ", ", &rest); n && v->rows < ROWS; n = strtok_r(NULL, ", ", &rest)) v->row[v->rows++] = n;
    return v->rows ? LK_OK : lk_error(LK_EINPUT, "%s: metadata names no images", lk_st_path(v->file.st));
}
static uint8_t mixed(uint32_t i) { return (uint8_t)((i * 2654435761u >> 13) & 255); }
/* The picture of row i before resizing; the mixed one is made at size s. */
static lk_err picture(const vectors *v, int i, int s, lk_image *out) {
    if (!strcmp(v->row[i], "random")) {
        *out = lk_image_new(s, s, 3);
        for (uint32_t k = 0; k < (uint32_t)(3 * s * s); k++) out->px[k] = mixed(k);
        return LK_OK;
    }
    lk_image im;
    char *path = lk_fmt(v->memory, "datasets/orl/%s.png", v->row[i]);
    LK_TRY(lk_image_read(path, &im));
    if (im.w != CROP || im.h < TOP + CROP) {
        lk_image_free(&im);
        return lk_error(LK_EINPUT, "%s: %d x %d, expected at least %d x %d", path, im.w, im.h, CROP, TOP + CROP);
    }
    *out = lk_image_new(CROP, CROP, im.c);
    memcpy(out->px, im.px + (int64_t)TOP * CROP * im.c, (size_t)CROP * CROP * (size_t)im.c);
    lk_image_free(&im);
    return LK_OK;
}
static lk_err pixels(const vectors *v, int i, int s, float *out) {
    lk_image im;
    LK_TRY(picture(v, i, s, &im));
    double r = (double)im.w / s, half = 0.5 * r - 0.5;
    lk_warp_image(&im, (double[]){ r, 0, half, 0, r, half }, s, s, out);
    lk_image_free(&im);
    return LK_OK;
}

/* ---- networks ------------------------------------------------------------------------------------------------------------------- */
static lk_val embed(const lk_net *n, lk_val in, int which) { return lk_recogniser_embed(n, (lk_recogniser)which, in); }
static lk_val landmarks(const lk_net *n, lk_val in, int which) { (void)which; return lk_face_landmarks(n, in); }
static lk_val detector(const lk_net *n, lk_val in, int which) { (void)which; return lk_face_detector(n, in); }
static void network_free(network *n) {
    lk_exec_free(n->x);
    lk_graph_free(n->g);
}
/* With a reference, the output is 1 - cos(embedding, reference) and grad its gradient in pixels. */
static lk_err network_new(vectors *v, builder build, int which, int size, const char *weights, const float *reference, network *n) {
    *n = (network){ .g = lk_graph_new(), .size = size };
    lk_net root = lk_net_root(n->g);
    n->in = lk_input(n->g, "pixels", LK_F32, LK_SHAPE(1, 3, size, size));
    n->out = build(&root, n->in, which);
    if (reference) {
        lk_val e = lk_const(n->g, LK_F32, LK_SHAPE(1, lk_dim(n->g, n->out, 1)), reference);
        n->out = lk_sum_all(n->g, lk_sub(n->g, lk_scalar(n->g, 1), lk_cosine(n->g, n->out, e, 1e-12)));
        lk_vjp(n->g, n->out, LK_NONE, &n->in, 1, &n->grad);
    }
    lk_st *st = NULL;
    lk_err e = lk_graph_error(n->g);
    if (!e) e = lk_exec_new(n->g, (lk_val[]){ n->out, n->grad }, reference ? 2 : 1, (lk_exec_opts){ .backend = v->run->backend, .pool = v->run->pool }, &n->x);
    if (!e) e = lk_st_open(lk_fmt(v->memory, "models/faces/%s.safetensors", weights), &st);
    if (!e) e = lk_face_weights(n->x, st, "");
    if (st) lk_st_close(st);
    if (e) network_free(n);
    return e;
}
static lk_err run_row(vectors *v, network *n, int row) {
    float *in = lk_xmalloc((size_t)(3 * n->size * n->size) * sizeof *in);
    lk_err e = pixels(v, row, n->size, in);
    if (!e) e = lk_exec_set(n->x, n->in, in, 3 * n->size * n->size);
    if (!e) e = lk_exec_run(n->x);
    free(in);
    return e;
}
static void compare(vectors *v, const char *name, const double *got, const double *want, int64_t n, double relative) {
    double most = 0;
    for (int64_t i = 0; i < n; i++) most = fabs(want[i]) > most ? fabs(want[i]) : most;
    lk_golden_tensor(v->run, name, got, want, n, (lk_golden_tol){ relative * most, INFINITY });
}
static lk_err outputs(vectors *v, const char *name, builder build, int which, int size, const char *weights) {
    const lk_tensor *t = lk_golden_get(&v->file, "%s", name);
    network n;
    if (!t) return LK_OK;
    if (t->d[0] != v->rows) return lk_error(LK_EINPUT, "%s has %lld rows for %d images", name, (long long)t->d[0], v->rows);
    LK_TRY(network_new(v, build, which, size, weights, NULL, &n));
    double *want = lk_golden_f64(t), *got = lk_xmalloc((size_t)t->numel * sizeof *got);
    int64_t each = t->numel / v->rows, count = 0;
    lk_err e = LK_OK;
    for (int i = 0; i < v->rows && !e; i++) {
        if ((e = run_row(v, &n, i))) break;
        double *out = lk_golden_read(n.x, n.out, &count);
        if (!out || count != each) e = lk_error(LK_ESHAPE, "%s: %lld values a row, the network gives %lld", name, (long long)each, (long long)count);
        else memcpy(got + i * each, out, (size_t)each * sizeof *got);
        free(out);
    }
    if (!e) compare(v, name, got, want, t->numel, RELATIVE);
    free(want);
    free(got);
    network_free(&n);
    return e;
}
static lk_err gradient(vectors *v, int which, int row, const char *kind) {
    const char *stem = lk_recogniser_name((lk_recogniser)which);
    const lk_tensor *e_ref = lk_golden_get(&v->file, "%s.embedding", stem), *loss = lk_golden_get(&v->file, "%s.loss_%s", stem, kind);
    const lk_tensor *grad = lk_golden_get(&v->file, "%s.grad_%s", stem, kind);
    network n;
    int64_t count = 0, one = 0;
    if (!e_ref || !loss || !grad) return LK_OK;
    float *reference = lk_xmalloc((size_t)e_ref->numel * sizeof *reference);
    lk_err e = lk_st_f32(e_ref, reference);
    if (!e) e = network_new(v, embed, which, lk_recogniser_size((lk_recogniser)which), stem, reference, &n);
    free(reference);
    LK_TRY(e);
    e = run_row(v, &n, row);
    double *got = e ? NULL : lk_golden_read(n.x, n.grad, &count), *value = e ? NULL : lk_golden_read(n.x, n.out, &one), *want = lk_golden_f64(grad), *l = lk_golden_f64(loss);
    if (!e && (!got || !value || count != grad->numel)) e = lk_error(LK_ESHAPE, "%s.grad_%s: %lld values, the network gives %lld", stem, kind, (long long)grad->numel, (long long)count);
    if (!e) {
        double ab = 0, aa = 0, bb = 0;
        for (int64_t i = 0; i < count; i++) { ab += got[i] * want[i]; aa += got[i] * got[i]; bb += want[i] * want[i]; }
        lk_golden_number(v->run, lk_fmt(v->memory, "%s.loss_%s", stem, kind), value[0], l[0], 4e-6);
        lk_golden_check(v->run, ab / sqrt(aa * bb) >= .9999 && fabs(sqrt(aa / bb) - 1) <= .01, "%s.grad_%-30s cosine %.7f, length ratio %.6f (kinks flip in binary32: cosine 0.9999)",
                        stem, kind, ab / sqrt(aa * bb), sqrt(aa / bb));
    }
    free(got);
    free(value);
    free(want);
    free(l);
    network_free(&n);
    return e;
}
/* The best box as fractions of the square, no threshold. */
static lk_err best_boxes(vectors *v) {
    const lk_tensor *t = lk_golden_get(&v->file, "tiny_face_detector.best");
    lk_faces *faces;
    if (!t || t->numel != 5 * v->rows) return t ? lk_error(LK_EINPUT, "tiny_face_detector.best: %lld values for %d images", (long long)t->numel, v->rows) : LK_OK;
    LK_TRY(lk_faces_new("models/faces", v->run->pool, &faces));
    double *want = lk_golden_f64(t), got[5 * ROWS];
    lk_err e = LK_OK;
    for (int i = 0; i < v->rows && !e; i++) {
        lk_image im;
        lk_face box;
        int found = 0;
        if ((e = picture(v, i, DETECTOR, &im))) break;
        e = lk_faces_count(faces, &im, DETECTOR, 0, 1, &box, &found);
        double side = im.w;
        lk_image_free(&im);
        if (!e && !found) e = lk_error(LK_ENUM, "tiny_face_detector.best: no box in row %d", i);
        if (!e) memcpy(got + 5 * i, (double[]){ box.score, box.x0 / side, box.y0 / side, box.x1 / side, box.y1 / side }, 5 * sizeof *got);
    }
    if (!e) compare(v, "tiny_face_detector.best", got, want, t->numel, RELATIVE);
    free(want);
    lk_faces_free(faces);
    return e;
}
static int row_of_random(const vectors *v) {
    for (int i = 0; i < v->rows; i++) if (!strcmp(v->row[i], "random")) return i;
    return v->rows - 1;
}
lk_err lk_golden_recognisers(lk_golden *g, const char *path, const char *dir, json_t *json) {
    vectors v = { .run = g, .memory = lk_arena_new() };
    (void)dir;
    (void)json;
    lk_err e = lk_golden_open(g, path, &v.file);
    if (e) { lk_arena_free(v.memory); return e; }
    e = list_images(&v);
    for (int r = 0; r < LK_RECOGNISERS && !e; r++) {
        const char *stem = lk_recogniser_name((lk_recogniser)r);
        lk_golden_failed(g, stem, outputs(&v, lk_fmt(v.memory, "%s.embedding", stem), embed, r, lk_recogniser_size((lk_recogniser)r), stem));
        lk_golden_failed(g, stem, gradient(&v, r, v.rows > 1 ? 1 : 0, "orl"));
        lk_golden_failed(g, stem, gradient(&v, r, row_of_random(&v), "random"));
    }
    if (!e) lk_golden_failed(g, "face_landmark_68", outputs(&v, "face_landmark_68.points", landmarks, 0, LANDMARKS, "face_landmark_68"));
    if (!e) lk_golden_failed(g, "tiny_face_detector", outputs(&v, "tiny_face_detector.raw", detector, 0, DETECTOR, "tiny_face_detector"));
    if (!e) lk_golden_failed(g, "tiny_face_detector", best_boxes(&v));
    lk_golden_close(g, &v.file);
    lk_arena_free(v.memory);
    return e;
}
