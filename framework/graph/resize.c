/* resize: interpolation as two constant matrices, one an axis; its gradient is their transposes, so nothing more is needed. */
#include "graph/internal.h"

/* Weight of a sample at distance d: a tent, or Keys's cubic (1981). */
static double tent(double d) { return d < 1 ? 1 - d : 0; }
static double cubic(double d, double a) {
    if (d <= 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
    return d < 2 ? ((a * d - 5 * a) * d + 8 * a) * d - 4 * a : 0;
}
static double weight(lk_resample kind, double d) {
    d = fabs(d);
    return kind == LK_RESIZE_BILINEAR || kind == LK_RESIZE_BILINEAR_AA ? tent(d) : cubic(d, kind == LK_RESIZE_BICUBIC ? -0.75 : -0.5);
}
/* Without antialiasing edges are repeated; with it the kernel grows by the scale and what lies outside is left out. */
static void fill_row(lk_resample kind, int64_t out, int64_t in, int64_t o, double *row) {
    const bool wide = kind == LK_RESIZE_BILINEAR_AA || kind == LK_RESIZE_BICUBIC_AA, linear = kind == LK_RESIZE_BILINEAR || kind == LK_RESIZE_BILINEAR_AA;
    const double step = (double)in / (double)out;
    if (!wide) {
        const double source = ((double)o + 0.5) * step - 0.5;
        const int64_t first = (int64_t)floor(source);
        for (int64_t k = first - !linear; k <= first + 1 + !linear; k++) row[k < 0 ? 0 : k >= in ? in - 1 : k] += weight(kind, source - (double)k);
        return;
    }
    const double scale = step > 1 ? step : 1, reach = (linear ? 1 : 2) * scale, centre = ((double)o + 0.5) * step;
    const int64_t lo = (int64_t)fmax(0, centre - reach + 0.5), hi = (int64_t)fmin((double)in, centre + reach + 0.5);
    double sum = 0;
    for (int64_t k = lo; k < hi; k++) sum += row[k] = weight(kind, ((double)k + 0.5 - centre) / scale);
    for (int64_t k = lo; k < hi; k++) row[k] /= sum;
}
static lk_val matrix(lk_graph *g, lk_resample kind, int64_t out, int64_t in) {
    double *row = lk_xmalloc((size_t)in * sizeof *row);
    float *f = lk_xmalloc((size_t)(out * in) * sizeof *f);
    for (int64_t o = 0; o < out; o++) {
        memset(row, 0, (size_t)in * sizeof *row);
        fill_row(kind, out, in, o, row);
        for (int64_t k = 0; k < in; k++) f[o * in + k] = (float)row[k];
    }
    lk_val v = lk_const(g, LK_F32, LK_SHAPE(out, in), f);
    free(row); free(f);
    return v;
}
lk_val lk_resize_matrix(lk_graph *g, lk_val x, lk_val rows, lk_val cols) {
    return lk_matmul(g, lk_matmul(g, rows, x, LK_NONE, (lk_mm){0}), cols, LK_NONE, (lk_mm){.tb = true});
}
lk_val lk_resize(lk_graph *g, lk_val x, int h, int w, lk_resample kind) {
    lk_shape s = lk_shape_of(g, x);
    if (!lk_graph_node(g, x)) { lk_graph_fail(g, LK_ESHAPE, "resize: the picture is missing (LK_NONE)"); return LK_NONE; }
    if (s.rank != 4 || h < 1 || w < 1) { lk_graph_fail(g, LK_ESHAPE, "resize(%s) to %d x %d: a picture [N,C,H,W] and sizes above 0 expected", lk_val_text(g, g->arena, x), h, w); return LK_NONE; }
    return lk_resize_matrix(g, x, matrix(g, kind, h, s.d[2]), matrix(g, kind, w, s.d[3]));
}
