/* Geometry of alignment, warps on the host, and the executors of the face networks. */
#include "models/face.h"
#include "base/exact_math.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- geometry ---------------------------------------------------------------------------------- */
void lk_similarity(const double (*from)[2], const double (*to)[2], int n, double m[6]) {
    double fx = 0, fy = 0, tx = 0, ty = 0, re = 0, im = 0, norm = 0;
    for (int i = 0; i < n; i++) { fx += from[i][0]; fy += from[i][1]; tx += to[i][0]; ty += to[i][1]; }
    fx /= n; fy /= n; tx /= n; ty /= n;
    for (int i = 0; i < n; i++) {                         /* to = (re + i im) * from, around the means */
        double ax = from[i][0] - fx, ay = from[i][1] - fy, bx = to[i][0] - tx, by = to[i][1] - ty;
        re += ax * bx + ay * by;
        im += ax * by - ay * bx;
        norm += ax * ax + ay * ay;
    }
    double a = norm > 0 ? re / norm : 1, b = norm > 0 ? im / norm : 0;
    double out[6] = {a, -b, tx - (a * fx - b * fy), b, a, ty - (b * fx + a * fy)};
    memcpy(m, out, sizeof out);
}
void lk_affine_compose(const double o[6], const double i[6], double out[6]) {
    double r[6] = {o[0] * i[0] + o[1] * i[3], o[0] * i[1] + o[1] * i[4], o[0] * i[2] + o[1] * i[5] + o[2],
                   o[3] * i[0] + o[4] * i[3], o[3] * i[1] + o[4] * i[4], o[3] * i[2] + o[4] * i[5] + o[5]};
    memcpy(out, r, sizeof r);
}
void lk_affine_invert(const double m[6], double out[6]) {
    double det = m[0] * m[4] - m[1] * m[3];
    double a = m[4] / det, b = -m[1] / det, c = -m[3] / det, d = m[0] / det;
    double r[6] = {a, b, -(a * m[2] + b * m[5]), c, d, -(c * m[2] + d * m[5])};
    memcpy(out, r, sizeof r);
}
static void mean_point(const lk_face *f, int lo, int hi, double p[2]) {
    p[0] = p[1] = 0;
    for (int i = lo; i <= hi; i++) { p[0] += f->point[i][0]; p[1] += f->point[i][1]; }
    p[0] /= hi - lo + 1; p[1] /= hi - lo + 1;
}
void lk_face_to_arcface(const lk_face *f, double m[6]) {
    static const double to[5][2] = {{38.2946, 51.6963}, {73.5318, 51.5014}, {56.0252, 71.7366}, {41.5493, 92.3655}, {70.7299, 92.2041}};
    double from[5][2];
    mean_point(f, 36, 41, from[0]);
    mean_point(f, 42, 47, from[1]);
    mean_point(f, 30, 30, from[2]);
    mean_point(f, 48, 48, from[3]);
    mean_point(f, 54, 54, from[4]);
    lk_similarity(from, to, 5, m);
}
void lk_face_to_dlib(const lk_face *f, double m[6]) {
    static const int index[5] = {45, 42, 36, 39, 33};
    static const double q[5][2] = {{0.8595674595992, 0.2134981538014}, {0.6460604764104, 0.2289674387677}, {0.1205750620789, 0.2137274526848},
                                   {0.3340850613712, 0.2290642403242}, {0.4901123135679, 0.6277975316475}};
    double from[5][2], to[5][2];
    for (int i = 0; i < 5; i++)
        for (int k = 0; k < 2; k++) { from[i][k] = f->point[index[i]][k]; to[i][k] = 150 * (0.25 + q[i][k]) / 1.5; }
    lk_similarity(from, to, 5, m);
}

/* ---- warps on the host ---------------------------------------------------------------------------- */
static double sample(const lk_image *im, int c, double x, double y) {
    x = x < 0 ? 0 : x > im->w - 1 ? im->w - 1 : x;
    y = y < 0 ? 0 : y > im->h - 1 ? im->h - 1 : y;
    int x0 = (int)x, y0 = (int)y, x1 = x0 + 1 < im->w ? x0 + 1 : x0, y1 = y0 + 1 < im->h ? y0 + 1 : y0;
    double fx = x - x0, fy = y - y0;
    const uint8_t *p = im->px;
    int k = im->c == 1 ? 0 : c;
    double top = p[(y0 * im->w + x0) * im->c + k] * (1 - fx) + p[(y0 * im->w + x1) * im->c + k] * fx;
    double bottom = p[(y1 * im->w + x0) * im->c + k] * (1 - fx) + p[(y1 * im->w + x1) * im->c + k] * fx;
    return top * (1 - fy) + bottom * fy;
}
void lk_warp_image(const lk_image *im, const double m[6], int h, int w, float *out) {
    for (int c = 0; c < 3; c++)
        for (int y = 0; y < h; y++)
            for (int x = 0; x < w; x++)
                *out++ = (float)sample(im, c, m[0] * x + m[1] * y + m[2], m[3] * x + m[4] * y + m[5]);
}
void lk_face_frame(const lk_image *im, const lk_face *f, float *frame, float *inside) {
    static const double frame_to_arcface[6] = {2, 0, -7.5, 0, 2, -1.5};
    double to_arcface[6], from_arcface[6], m[6];
    lk_face_to_arcface(f, to_arcface);
    lk_affine_invert(to_arcface, from_arcface);
    lk_affine_compose(from_arcface, frame_to_arcface, m);
    for (int y = 0; y < LK_FRAME; y++)
        for (int x = 0; x < LK_FRAME; x++) {
            double sum[3] = {0}, within = 0;
            for (int s = 0; s < 4; s++) {
                double dx = x + (s & 1 ? 0.25 : -0.25), dy = y + (s & 2 ? 0.25 : -0.25);
                double px = m[0] * dx + m[1] * dy + m[2], py = m[3] * dx + m[4] * dy + m[5];
                for (int c = 0; c < 3; c++) sum[c] += sample(im, c, px, py);
                within += px >= -0.5 && px <= im->w - 0.5 && py >= -0.5 && py <= im->h - 0.5;
            }
            for (int c = 0; c < 3; c++) frame[(c * LK_FRAME + y) * LK_FRAME + x] = (float)(sum[c] * 0.25);
            if (inside) inside[y * LK_FRAME + x] = (float)(within * 0.25);
        }
}

/* ---- executors --------------------------------------------------------------------------------------- */
enum { BATCH = 8 };
typedef struct { lk_graph *g; lk_exec *x; lk_val in, out; int batch; int64_t in_each, out_each; } network;
struct lk_faces {
    char *directory; lk_pool *pool;
    lk_st *detector_weights;
    network detector; int detector_size;              /* rebuilt when another size is asked for */
    network landmarks, chips[LK_RECOGNISERS], frames[LK_RECOGNISERS];
    double anchors[5][2];
};
static void network_free(network *n) { lk_exec_free(n->x); lk_graph_free(n->g); *n = (network){0}; }
static lk_err open_weights(lk_faces *f, const char *stem, lk_st **st) {
    char *path = lk_xfmt("%s/%s.safetensors", f->directory, stem);
    lk_err e = lk_st_open(path, st);
    free(path);
    return e;
}
typedef lk_val (*build_fn)(const lk_net *, int what, lk_val x);
static lk_val build_detector(const lk_net *n, int what, lk_val x) { (void)what; return lk_face_detector(n, x); }
static lk_val build_landmarks(const lk_net *n, int what, lk_val x) { (void)what; return lk_face_landmarks(n, x); }
static lk_val build_chips(const lk_net *n, int what, lk_val x) { return lk_recogniser_embed(n, (lk_recogniser)what, x); }
static lk_val build_frames(const lk_net *n, int what, lk_val x) { return lk_face_embed_frames(n, (lk_recogniser)what, x); }
static lk_err network_new(lk_faces *f, const char *stem, build_fn build, int what, int batch, int size, network *n) {
    if (n->x) return LK_OK;
    *n = (network){.g = lk_graph_new(), .batch = batch};
    lk_net root = lk_net_root(n->g);
    n->in = lk_input(n->g, "pixels", LK_F32, LK_SHAPE(batch, 3, size, size));
    n->out = build(&root, what, n->in);
    lk_st *st = NULL;
    lk_err e = lk_graph_error(n->g);
    if (!e) e = lk_exec_new(n->g, &n->out, 1, (lk_exec_opts){.pool = f->pool}, &n->x);
    if (!e) e = open_weights(f, stem, &st);
    if (!e) e = lk_face_weights(n->x, st, "");
    if (st) lk_st_close(st);
    if (e) { network_free(n); return e; }
    n->in_each = 3 * (int64_t)size * size;
    n->out_each = lk_numel(lk_shape_of(n->g, n->out)) / batch;
    return LK_OK;
}
static lk_err network_run(network *n, const float *in, int count, float *out) {
    lk_err e = LK_OK;
    float *ins = lk_xcalloc((size_t)(n->in_each * n->batch), sizeof(float)), *outs = lk_xcalloc((size_t)(n->out_each * n->batch), sizeof(float));
    for (int at = 0; at < count && !e; at += n->batch) {
        int k = count - at < n->batch ? count - at : n->batch;
        memset(ins, 0, sizeof(float) * (size_t)(n->in_each * n->batch));
        memcpy(ins, in + at * n->in_each, sizeof(float) * (size_t)(n->in_each * k));
        e = lk_exec_set(n->x, n->in, ins, n->in_each * n->batch);
        if (!e) e = lk_exec_run(n->x);
        if (!e) e = lk_exec_get(n->x, n->out, outs, n->out_each * n->batch);
        if (!e) memcpy(out + at * n->out_each, outs, sizeof(float) * (size_t)(n->out_each * k));
    }
    free(ins); free(outs);
    return e;
}
lk_err lk_faces_new(const char *directory, lk_pool *pool, lk_faces **out) {
    lk_faces *f = lk_xcalloc(1, sizeof *f);
    f->directory = lk_xstrdup(directory);
    f->pool = pool;
    lk_err e = open_weights(f, "tiny_face_detector", &f->detector_weights);
    const lk_tensor *t = NULL;
    float anchors[10];
    if (!e) e = lk_st_get(f->detector_weights, "anchors", &t);
    if (!e && t->numel != 10) e = lk_error(LK_EINPUT, "%s: anchors: expected 5 x 2", lk_st_path(f->detector_weights));
    if (!e) e = lk_st_f32(t, anchors);
    if (e) { lk_faces_free(f); return e; }
    for (int i = 0; i < 5; i++) { f->anchors[i][0] = anchors[2 * i]; f->anchors[i][1] = anchors[2 * i + 1]; }
    *out = f;
    return LK_OK;
}
void lk_faces_free(lk_faces *f) {
    if (!f) return;
    network_free(&f->detector);
    network_free(&f->landmarks);
    for (int r = 0; r < LK_RECOGNISERS; r++) { network_free(&f->chips[r]); network_free(&f->frames[r]); }
    if (f->detector_weights) lk_st_close(f->detector_weights);
    free(f->directory);
    free(f);
}

/* ---- detection ------------------------------------------------------------------------------------------ */
static lk_image padded_square(const lk_image *im, int x0, int y0, int side) {     /* a window of the picture, zeros outside */
    lk_image s = lk_image_new(side, side, im->c);
    memset(s.px, 0, (size_t)side * (size_t)side * (size_t)im->c);
    for (int y = 0; y < side; y++)
        for (int x = 0; x < side; x++)
            if (x + x0 >= 0 && x + x0 < im->w && y + y0 >= 0 && y + y0 < im->h)
                memcpy(s.px + (y * side + x) * im->c, im->px + ((y + y0) * im->w + x + x0) * im->c, (size_t)im->c);
    return s;
}
static void resize_square(const lk_image *square, int size, float *out) {          /* half-pixel centres, edge clamp, no antialias */
    double r = (double)square->w / size;
    lk_warp_image(square, (double[]){r, 0, 0.5 * r - 0.5, 0, r, 0.5 * r - 0.5}, size, size, out);
}
static double sigmoid(double x) { return 1 / (1 + lk_exp_d(-x)); }
static double overlap(const lk_face *a, const lk_face *b) {
    double w = fmin(a->x1, b->x1) - fmax(a->x0, b->x0), h = fmin(a->y1, b->y1) - fmax(a->y0, b->y0);
    if (w <= 0 || h <= 0) return 0;
    return w * h / ((a->x1 - a->x0) * (a->y1 - a->y0) + (b->x1 - b->x0) * (b->y1 - b->y0) - w * h);
}
static int best_first(const void *a, const void *b) {
    double x = ((const lk_face *)a)->score, y = ((const lk_face *)b)->score;
    return x < y ? 1 : x > y ? -1 : 0;
}
lk_err lk_faces_count(lk_faces *f, const lk_image *im, int size, double threshold, int most, lk_face *out, int *n) {
    *n = 0;
    if (size < 64 || size % 32) return lk_error(LK_EINPUT, "detector input %d: expected a multiple of 32, at least 64", size);
    if (f->detector_size != size) { network_free(&f->detector); f->detector_size = size; }
    LK_TRY(network_new(f, "tiny_face_detector", build_detector, 0, 1, size, &f->detector));
    int side = im->w > im->h ? im->w : im->h, grid = size / 32;
    lk_image square = padded_square(im, 0, 0, side);
    float *in = lk_xmalloc(sizeof(float) * 3 * (size_t)size * (size_t)size), *raw = lk_xmalloc(sizeof(float) * 25 * (size_t)(grid * grid));
    lk_face *boxes = lk_xcalloc((size_t)(5 * grid * grid), sizeof *boxes);
    resize_square(&square, size, in);
    lk_image_free(&square);
    lk_err e = lk_exec_set(f->detector.x, f->detector.in, in, f->detector.in_each);
    if (!e) e = lk_exec_run(f->detector.x);
    if (!e) e = lk_exec_get(f->detector.x, f->detector.out, raw, 25 * grid * grid);
    int found = 0;
    for (int a = 0; a < 5 && !e; a++)
        for (int row = 0; row < grid; row++)
            for (int col = 0; col < grid; col++) {
                double t[5];
                for (int k = 0; k < 5; k++) t[k] = raw[((a * 5 + k) * grid + row) * grid + col];
                double score = sigmoid(t[4]);
                if (score < threshold) continue;
                double cx = (col + sigmoid(t[0])) / grid, cy = (row + sigmoid(t[1])) / grid;
                double w = lk_exp_d(t[2]) * f->anchors[a][0] / grid, h = lk_exp_d(t[3]) * f->anchors[a][1] / grid;
                boxes[found++] = (lk_face){.score = score, .x0 = (cx - w / 2) * side, .y0 = (cy - h / 2) * side, .x1 = (cx + w / 2) * side, .y1 = (cy + h / 2) * side};
            }
    qsort(boxes, (size_t)found, sizeof *boxes, best_first);
    for (int i = 0; i < found && *n < most; i++) {
        bool keep = true;
        for (int j = 0; j < *n && keep; j++) keep = overlap(&boxes[i], &out[j]) <= 0.4;
        if (keep) out[(*n)++] = boxes[i];
    }
    free(in); free(raw); free(boxes);
    return e;
}
lk_err lk_faces_landmarks(lk_faces *f, const lk_image *im, lk_face *face) {
    LK_TRY(network_new(f, "face_landmark_68", build_landmarks, 0, 1, 112, &f->landmarks));
    /* The box clipped to the picture, then centred in a zero-padded square. */
    int x0 = (int)fmax(0, face->x0), y0 = (int)fmax(0, face->y0), x1 = (int)fmin(im->w, face->x1 + 0.999999), y1 = (int)fmin(im->h, face->y1 + 0.999999);
    if (x1 <= x0 || y1 <= y0) return lk_error(LK_EINPUT, "the detected box lies outside the picture");
    lk_image clip = lk_image_new(x1 - x0, y1 - y0, im->c);
    for (int y = y0; y < y1; y++) memcpy(clip.px + (size_t)((y - y0) * clip.w * im->c), im->px + (size_t)((y * im->w + x0) * im->c), (size_t)(clip.w * im->c));
    int side = clip.w > clip.h ? clip.w : clip.h, left = (side - clip.w) / 2, top = (side - clip.h) / 2;
    lk_image square = padded_square(&clip, -left, -top, side);
    float *in = lk_xmalloc(sizeof(float) * 3 * 112 * 112), points[136];
    resize_square(&square, 112, in);
    lk_image_free(&clip);
    lk_image_free(&square);
    lk_err e = network_run(&f->landmarks, in, 1, points);
    free(in);
    for (int i = 0; i < 68 && !e; i++) {                  /* edge coordinates of the square -> pixel indices of the picture */
        face->point[i][0] = (double)points[2 * i] * side - 0.5 + x0 - left;
        face->point[i][1] = (double)points[2 * i + 1] * side - 0.5 + y0 - top;
    }
    return e;
}
lk_err lk_faces_find(lk_faces *f, const lk_image *im, int size, double threshold, lk_face *face, bool *found) {
    int n;
    LK_TRY(lk_faces_count(f, im, size, threshold, 1, face, &n));
    *found = n == 1;
    return *found ? lk_faces_landmarks(f, im, face) : LK_OK;
}

/* ---- embeddings ------------------------------------------------------------------------------------------- */
lk_val lk_face_embed_frames(const lk_net *n, lk_recogniser r, lk_val frames) {
    /* ArcFace pixel -> common frame, and dlib chip -> ArcFace (mean over ORL, inverted). */
    static const double arcface_to_frame[6] = {0.5, 0, 3.75, 0, 0.5, 0.75};
    static const double arcface_to_dlib[6] = {1.46878772, 0.01071461, -8.50886689, -0.01071461, 1.46878772, -29.32777929};
    double m[6];
    memcpy(m, arcface_to_frame, sizeof m);
    if (r == LK_DLIB) {
        double inverse[6];
        lk_affine_invert(arcface_to_dlib, inverse);
        lk_affine_compose(arcface_to_frame, inverse, m);
    }
    float m32[6];
    for (int i = 0; i < 6; i++) m32[i] = (float)m[i];
    lk_val one = lk_const(n->g, LK_F32, LK_SHAPE(1, 2, 3), m32);
    lk_val all = lk_broadcast(n->g, one, LK_SHAPE(lk_dim(n->g, frames, 0), 2, 3));
    int s = lk_recogniser_size(r);
    return lk_recogniser_embed(n, r, lk_affine_warp(n->g, frames, all, (lk_warp){.size = {s, s}, .clamp = true}));
}
lk_err lk_faces_embed(lk_faces *f, lk_recogniser r, const float *chips, int n, float *out) {
    LK_TRY(network_new(f, lk_recogniser_name(r), build_chips, (int)r, BATCH, lk_recogniser_size(r), &f->chips[r]));
    return network_run(&f->chips[r], chips, n, out);
}
lk_err lk_faces_embed_frames(lk_faces *f, lk_recogniser r, const float *frames, int n, float *out) {
    LK_TRY(network_new(f, lk_recogniser_name(r), build_frames, (int)r, BATCH, LK_FRAME, &f->frames[r]));
    return network_run(&f->frames[r], frames, n, out);
}
double lk_embedding_cosine(const float *a, const float *b, int dim) {
    double ab = 0, aa = 0, bb = 0;
    for (int i = 0; i < dim; i++) { ab += (double)a[i] * b[i]; aa += (double)a[i] * a[i]; bb += (double)b[i] * b[i]; }
    return ab / (__builtin_sqrt(aa) * __builtin_sqrt(bb));
}
double lk_embedding_distance(const float *a, const float *b, int dim) {
    double sum = 0;
    for (int i = 0; i < dim; i++) { double d = (double)a[i] - b[i]; sum += d * d; }
    return __builtin_sqrt(sum);
}
double lk_recogniser_similarity(lk_recogniser r, const float *a, const float *b) {
    int dim = lk_recogniser_dim(r);
    return r == LK_DLIB ? -lk_embedding_distance(a, b, dim) : lk_embedding_cosine(a, b, dim);
}
