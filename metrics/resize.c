/* Resizers (resize.h). All separable ones share one list of weights a side: for an output position the first source
 * position, their number and the normalised weights. What differs is the number format of weights, sums and the picture
 * between the horizontal and the vertical pass. */
#include "metrics/resize.h"
#include "base/exact_math.h"     /* lk_sin_d */
#include <stdlib.h>
#include <string.h>

static double bilinear(double x) { x = __builtin_fabs(x); return x < 1 ? 1 - x : 0; }
static double bicubic(double x) {
    const double a = -0.5;
    x = __builtin_fabs(x);
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}
static double sinc(double x) {
    x *= 3.14159265358979323846;
    return x == 0 ? 1 : lk_sin_d(x) / x;
}
static double lanczos(double x) { return x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0; }
static const struct { double (*at)(double); double support; } filters[] = { { bilinear, 1 }, { bicubic, 2 }, { lanczos, 3 } };

typedef struct { int n, most; int *first, *count; double *w; } weights;     /* w[n][most] */
static weights weights_of(lk_filter f, int in, int out) {
    double scale = (double)in / out, wide = scale < 1 ? 1 : scale, support = filters[f].support * wide, back = 1 / wide;
    int most = (int)support + ((double)(int)support < support) , room = most * 2 + 1;
    weights k = { out, room, lk_xmalloc((size_t)out * sizeof(int)), lk_xmalloc((size_t)out * sizeof(int)), lk_xcalloc((size_t)out * (size_t)room, sizeof(double)) };
    for (int i = 0; i < out; i++) {
        double centre = (i + 0.5) * scale, sum = 0, *w = k.w + (int64_t)i * room;
        int lo = (int)(centre - support + 0.5), hi = (int)(centre + support + 0.5);
        lo = lo < 0 ? 0 : lo;
        hi = hi > in ? in : hi;
        for (int j = lo; j < hi; j++) sum += w[j - lo] = filters[f].at((j - centre + 0.5) * back);
        for (int j = 0; sum != 0 && j < hi - lo; j++) w[j] /= sum;
        k.first[i] = lo;
        k.count[i] = hi - lo;
    }
    return k;
}
static void weights_free(weights *k) { free(k->first); free(k->count); free(k->w); }

/* One pass along an axis: a picture is [outer][n][inner], the axis of n becomes k->n. */
typedef struct { int64_t outer, n, inner; } axis;
static void pass_f64(const weights *k, axis a, const double *src, double *dst) {
    for (int64_t o = 0; o < a.outer; o++) for (int i = 0; i < k->n; i++) for (int64_t c = 0; c < a.inner; c++) {
        double s = 0;
        for (int j = 0; j < k->count[i]; j++) s += src[(o * a.n + k->first[i] + j) * a.inner + c] * k->w[(int64_t)i * k->most + j];
        dst[(o * k->n + i) * a.inner + c] = s;
    }
}
static void pass_f32(const weights *k, axis a, const float *src, float *dst) {
    for (int64_t o = 0; o < a.outer; o++) for (int i = 0; i < k->n; i++) for (int64_t c = 0; c < a.inner; c++) {
        double s = 0;
        for (int j = 0; j < k->count[i]; j++) s += src[(o * a.n + k->first[i] + j) * a.inner + c] * k->w[(int64_t)i * k->most + j];
        dst[(o * k->n + i) * a.inner + c] = (float)s;
    }
}
static void pass_u8(const weights *k, int bits, axis a, const uint8_t *src, uint8_t *dst) {
    int32_t *fixed = lk_xmalloc((size_t)k->n * (size_t)k->most * sizeof *fixed);
    for (int64_t i = 0; i < (int64_t)k->n * k->most; i++) fixed[i] = (int32_t)((k->w[i] < 0 ? -0.5 : 0.5) + k->w[i] * (double)(1 << bits));
    for (int64_t o = 0; o < a.outer; o++) for (int i = 0; i < k->n; i++) for (int64_t c = 0; c < a.inner; c++) {
        int32_t s = 1 << (bits - 1);
        for (int j = 0; j < k->count[i]; j++) s += src[(o * a.n + k->first[i] + j) * a.inner + c] * fixed[(int64_t)i * k->most + j];
        s >>= bits;
        dst[(o * k->n + i) * a.inner + c] = (uint8_t)(s < 0 ? 0 : s > 255 ? 255 : s);
    }
    free(fixed);
}

/* ---- Pillow -------------------------------------------------------------------------------------------------------------- */
enum { PILLOW_BITS = 22, TORCH_MOST_BITS = 22 };
void lk_pillow_u8(lk_filter f, const uint8_t *src, int h, int w, int c, uint8_t *dst, int oh, int ow) {
    weights x = weights_of(f, w, ow), y = weights_of(f, h, oh);
    uint8_t *between = lk_xmalloc((size_t)h * (size_t)ow * (size_t)c);
    if (w == ow) memcpy(between, src, (size_t)h * (size_t)w * (size_t)c);
    else pass_u8(&x, PILLOW_BITS, (axis){ h, w, c }, src, between);
    if (h == oh) memcpy(dst, between, (size_t)h * (size_t)ow * (size_t)c);
    else pass_u8(&y, PILLOW_BITS, (axis){ 1, h, (int64_t)ow * c }, between, dst);
    free(between);
    weights_free(&x);
    weights_free(&y);
}
void lk_pillow_f32(lk_filter f, const float *src, int h, int w, int c, float *dst, int oh, int ow) {
    weights x = weights_of(f, w, ow), y = weights_of(f, h, oh);
    size_t n = (size_t)h * (size_t)ow * (size_t)c;
    float *between = lk_xmalloc(n * sizeof *between);
    if (w == ow) memcpy(between, src, n * sizeof *between);
    else pass_f32(&x, (axis){ h, w, c }, src, between);
    if (h == oh) memcpy(dst, between, n * sizeof *between);
    else pass_f32(&y, (axis){ 1, h, (int64_t)ow * c }, between, dst);
    free(between);
    weights_free(&x);
    weights_free(&y);
}
void lk_cleanfid_f32(const float *src, int h, int w, int c, float *dst, int oh, int ow) {
    lk_pillow_f32(LK_BICUBIC, src, h, w, c, dst, oh, ow);
    for (int64_t i = 0; i < (int64_t)oh * ow * c; i++) dst[i] = dst[i] < 0 ? 0 : dst[i] > 255 ? 255 : dst[i];
}

/* ---- TensorFlow 1 --------------------------------------------------------------------------------------------------------------- */
void lk_tf1_bilinear(const float *src, int h, int w, int c, float *dst, int oh, int ow) {
    float sy = (float)((double)h / oh), sx = (float)((double)w / ow);
    for (int y = 0; y < oh; y++) for (int x = 0; x < ow; x++) {
        float gy = (float)y * sy, gx = (float)x * sx;
        int y0 = (int)gy, x0 = (int)gx, y1 = y0 + 1 < h ? y0 + 1 : h - 1, x1 = x0 + 1 < w ? x0 + 1 : w - 1;
        float dy = gy - (float)y0, dx = gx - (float)x0;
        for (int k = 0; k < c; k++) {
            float v00 = src[((int64_t)y0 * w + x0) * c + k], v01 = src[((int64_t)y0 * w + x1) * c + k];
            float v10 = src[((int64_t)y1 * w + x0) * c + k], v11 = src[((int64_t)y1 * w + x1) * c + k];
            float top = v00 + (v01 - v00) * dx, low = v10 + (v11 - v10) * dx;
            dst[((int64_t)y * ow + x) * c + k] = top + (low - top) * dy;
        }
    }
}

/* ---- torch -------------------------------------------------------------------------------------------------------------------------- */
static double half_pixel(int i, double scale) {
    double s = (i + 0.5) * scale - 0.5;
    return s < 0 ? 0 : s;
}
void lk_torch_bilinear(const double *src, int h, int w, int c, double *dst, int oh, int ow) {
    for (int y = 0; y < oh; y++) for (int x = 0; x < ow; x++) {
        double gy = half_pixel(y, (double)h / oh), gx = half_pixel(x, (double)w / ow);
        int y0 = (int)gy, x0 = (int)gx, y1 = y0 + 1 < h ? y0 + 1 : y0, x1 = x0 + 1 < w ? x0 + 1 : x0;
        double dy = gy - y0, dx = gx - x0;
        for (int k = 0; k < c; k++) {
            double top = (1 - dx) * src[((int64_t)y0 * w + x0) * c + k] + dx * src[((int64_t)y0 * w + x1) * c + k];
            double low = (1 - dx) * src[((int64_t)y1 * w + x0) * c + k] + dx * src[((int64_t)y1 * w + x1) * c + k];
            dst[((int64_t)y * ow + x) * c + k] = (1 - dy) * top + dy * low;
        }
    }
}
/* Far from the origin a binary32 position is off by 1e-5 pixel, which a step of 255 levels shows: so it is part of the variant. */
static float half_pixel_f32(int i, float scale) {
    float s = ((float)i + 0.5f) * scale - 0.5f;
    return s < 0 ? 0 : s;
}
void lk_torch_bilinear_f32(const float *src, int h, int w, int c, float *dst, int oh, int ow) {
    float sy = (float)h / (float)oh, sx = (float)w / (float)ow;
    for (int y = 0; y < oh; y++) for (int x = 0; x < ow; x++) {
        float gy = half_pixel_f32(y, sy), gx = half_pixel_f32(x, sx);
        int y0 = (int)gy, x0 = (int)gx, y1 = y0 + 1 < h ? y0 + 1 : y0, x1 = x0 + 1 < w ? x0 + 1 : x0;
        float dy = gy - (float)y0, dx = gx - (float)x0;
        for (int k = 0; k < c; k++) {
            float top = (1 - dx) * src[((int64_t)y0 * w + x0) * c + k] + dx * src[((int64_t)y0 * w + x1) * c + k];
            float low = (1 - dx) * src[((int64_t)y1 * w + x0) * c + k] + dx * src[((int64_t)y1 * w + x1) * c + k];
            dst[((int64_t)y * ow + x) * c + k] = (1 - dy) * top + dy * low;
        }
    }
}
void lk_torch_antialias(lk_filter f, const double *src, int h, int w, int c, double *dst, int oh, int ow) {
    weights x = weights_of(f, w, ow), y = weights_of(f, h, oh);
    double *between = lk_xmalloc((size_t)h * (size_t)ow * (size_t)c * sizeof *between);
    pass_f64(&x, (axis){ h, w, c }, src, between);
    pass_f64(&y, (axis){ 1, h, (int64_t)ow * c }, between, dst);
    free(between);
    weights_free(&x);
    weights_free(&y);
}
/* As many bits as keep the largest weight in 16 bits. */
static int torch_bits(const weights *k) {
    double most = 0;
    int bits = 0;
    for (int64_t i = 0; i < (int64_t)k->n * k->most; i++) most = k->w[i] > most ? k->w[i] : most;
    while (bits < TORCH_MOST_BITS && (int)(0.5 + most * (double)(1 << (bits + 1))) < 1 << 15) bits++;
    return bits;
}
void lk_torch_antialias_u8(lk_filter f, const uint8_t *src, int h, int w, int c, uint8_t *dst, int oh, int ow) {
    weights x = weights_of(f, w, ow), y = weights_of(f, h, oh);
    uint8_t *between = lk_xmalloc((size_t)h * (size_t)ow * (size_t)c);
    if (w == ow) memcpy(between, src, (size_t)h * (size_t)w * (size_t)c);
    else pass_u8(&x, torch_bits(&x), (axis){ h, w, c }, src, between);
    if (h == oh) memcpy(dst, between, (size_t)h * (size_t)ow * (size_t)c);
    else pass_u8(&y, torch_bits(&y), (axis){ 1, h, (int64_t)ow * c }, between, dst);
    free(between);
    weights_free(&x);
    weights_free(&y);
}
