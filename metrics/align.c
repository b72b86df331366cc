/* Five-point alignment and the two warps (align.h). */
#include "metrics/align.h"
#include "models/face.h"         /* lk_similarity */
#include <math.h>                /* isfinite */
#include <stdlib.h>

static const double arcface[5][2] = { { 38.2946, 51.6963 }, { 73.5318, 51.5014 }, { 56.0252, 71.7366 }, { 41.5493, 92.3655 }, { 70.7299, 92.2041 } };

lk_err lk_align_template(int size, double point[5][2]) {
    bool by112 = size > 0 && size % 112 == 0;
    if (!by112 && (size <= 0 || size % 128)) return lk_error(LK_EINPUT, "face template: %d pixels; a multiple of 112 or of 128", size);
    double ratio = size / (by112 ? 112.0 : 128.0), shift = by112 ? 0 : 8 * ratio;
    for (int i = 0; i < 5; i++) {
        point[i][0] = arcface[i][0] * ratio + shift;
        point[i][1] = arcface[i][1] * ratio;
    }
    return LK_OK;
}
lk_err lk_align_umeyama(const double from[5][2], int size, double m[6]) {
    double to[5][2], spread = 0;
    LK_TRY(lk_align_template(size, to));
    for (int i = 0; i < 5; i++) {
        double x = from[i][0] - from[0][0], y = from[i][1] - from[0][1];
        spread += x * x + y * y;
    }
    if (!isfinite(spread) || spread < 1e-12) return lk_error(LK_EINPUT, "alignment: the five points coincide or are not numbers; no similarity is defined");
    lk_similarity(from, (const double (*)[2])to, 5, m);
    return LK_OK;
}

static lk_err inverse(const double m[6], double inv[6]) {
    double det = m[0] * m[4] - m[1] * m[3];
    if (!isfinite(det) || det == 0) return lk_error(LK_EINPUT, "warp: the matrix cannot be inverted (determinant %g)", det);
    double d = 1 / det;
    inv[0] = m[4] * d;
    inv[1] = -m[1] * d;
    inv[3] = -m[3] * d;
    inv[4] = m[0] * d;
    inv[2] = -inv[0] * m[2] - inv[1] * m[5];
    inv[5] = -inv[3] * m[2] - inv[4] * m[5];
    return LK_OK;
}
static int pixel(const lk_image *im, int64_t y, int64_t x, int c) {
    return y < 0 || x < 0 || y >= im->h || x >= im->w ? 0 : im->px[(y * im->w + x) * im->c + c];
}
lk_err lk_warp_exact(const lk_image *src, const double m[6], int size, double *dst) {
    double v[6];
    LK_TRY(inverse(m, v));
    for (int y = 0; y < size; y++) for (int x = 0; x < size; x++) {
        double sx = v[0] * x + v[1] * y + v[2], sy = v[3] * x + v[4] * y + v[5], fx = __builtin_floor(sx), fy = __builtin_floor(sy);
        bool far = !(sx > -2 && sy > -2 && sx < src->w + 1 && sy < src->h + 1);
        double wx = sx - fx, wy = sy - fy;
        int64_t x0 = far ? -2 : (int64_t)fx, y0 = far ? -2 : (int64_t)fy;
        for (int c = 0; c < src->c; c++)
            dst[((int64_t)y * size + x) * src->c + c] = (1 - wy) * ((1 - wx) * pixel(src, y0, x0, c) + wx * pixel(src, y0, x0 + 1, c))
                                                      + wy * ((1 - wx) * pixel(src, y0 + 1, x0, c) + wx * pixel(src, y0 + 1, x0 + 1, c));
    }
    return LK_OK;
}
lk_err lk_warp_exact_u8(const lk_image *src, const double m[6], int size, lk_image *dst) {
    int64_t n = (int64_t)size * size * src->c;
    double *v = lk_xmalloc((size_t)n * sizeof *v);
    lk_err e = lk_warp_exact(src, m, size, v);
    if (!e) *dst = lk_image_new(size, size, src->c);
    for (int64_t i = 0; !e && i < n; i++) dst->px[i] = (uint8_t)(v[i] + 0.5);
    free(v);
    return e;
}

/* Positions in 1/1024 pixel from two rounded products, then to 1/32; weights are 32 x 32 parts of 1024. */
enum { POSITION = 1024, HALF_STEP = 16 };
static int64_t nearest_even(double v) {
    v = v > 2147483647.0 ? 2147483647.0 : v < -2147483648.0 ? -2147483648.0 : v;
    double f = __builtin_floor(v), rest = v - f;
    int64_t i = (int64_t)f;
    return i + (rest > .5 || (rest == .5 && (i & 1)));
}
lk_err lk_warp_fixed32(const lk_image *src, const double m[6], int size, lk_image *dst) {
    double v[6];
    LK_TRY(inverse(m, v));
    *dst = lk_image_new(size, size, src->c);
    for (int y = 0; y < size; y++) for (int x = 0; x < size; x++) {
        int64_t px = nearest_even((v[1] * y + v[2]) * POSITION) + HALF_STEP + nearest_even(v[0] * x * POSITION);
        int64_t py = nearest_even((v[4] * y + v[5]) * POSITION) + HALF_STEP + nearest_even(v[3] * x * POSITION);
        int64_t x0 = px >> 10, y0 = py >> 10;
        int ax = (int)(px >> 5 & 31), ay = (int)(py >> 5 & 31);
        for (int c = 0; c < src->c; c++) {
            int s = (32 - ay) * ((32 - ax) * pixel(src, y0, x0, c) + ax * pixel(src, y0, x0 + 1, c))
                  + ay * ((32 - ax) * pixel(src, y0 + 1, x0, c) + ax * pixel(src, y0 + 1, x0 + 1, c));
            dst->px[((int64_t)y * size + x) * src->c + c] = (uint8_t)((s * 32 + (1 << 14)) >> 15);
        }
    }
    return LK_OK;
}
