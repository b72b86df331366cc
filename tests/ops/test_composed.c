/* Operations that are compositions: leaky and parametric rectifiers against their definition, resizing against the metrics' resamplers (their own code,
 * held to torch's vectors) and, for bicubic without antialiasing, against the definition; gradients against central differences in binary64 under a
 * random cotangent; and what has no gradient says so by name and shapes. */
#include "tests/lib/lk_test.h"
#include "backend/backend.h"
#include "metrics/resize.h"
#include <stdlib.h>

typedef lk_val (*build_fn)(lk_graph *, lk_val x);
enum { MOST = 2048 };
static double values[MOST], cotangent[MOST];
static void draw(void) {
    uint64_t s = 9;
    for (int i = 0; i < MOST; i++) {
        s = s * 6364136223846793005u + 1442695040888963407u; values[i] = (double)(s >> 40) * 0x1p-23 - 1;
        if (fabs(values[i]) < 0.01) values[i] += 0.05;                                    /* away from a rectifier's corner */
        s = s * 6364136223846793005u + 1442695040888963407u; cotangent[i] = (double)(s >> 40) * 0x1p-23 - 1;
    }
}
/* y in binary64, and with dx the gradient of <cotangent, y>. */
static int64_t run(build_fn f, lk_shape shape, const double *x, double *y, double *dx) {
    lk_graph *g = lk_graph_new();
    lk_val in = lk_input(g, "x", LK_F32, shape), out[2] = {f(g, in), LK_NONE};
    const int64_t n = lk_numel(lk_shape_of(g, out[0]));
    lk_val c = lk_input(g, "c", LK_F32, lk_shape_of(g, out[0]));
    if (dx) lk_vjp(g, out[0], c, &in, 1, out + 1);
    lk_exec *e = NULL;
    CHECK_OK(lk_graph_error(g));
    CHECK_OK(lk_exec_new(g, out, dx ? 2 : 1, (lk_exec_opts){.backend = lk_backend_ref()}, &e));
    if (!e) { lk_graph_free(g); return 0; }
    CHECK_OK(lk_exec_set_f64(e, in, x, lk_numel(shape)));
    if (dx) CHECK_OK(lk_exec_set_f64(e, c, cotangent, n));
    CHECK_OK(lk_exec_run(e));
    CHECK_OK(lk_exec_get_f64(e, out[0], y, n));
    if (dx) CHECK_OK(lk_exec_get_f64(e, out[1], dx, lk_numel(shape)));
    lk_exec_free(e); lk_graph_free(g);
    return n;
}
static double apart(const double *a, const double *b, int64_t n) {
    double worst = 0;
    for (int64_t i = 0; i < n; i++) { double d = fabs(a[i] - b[i]); if (!(d <= worst)) worst = d; }
    return worst;
}
/* Everything here is linear or piecewise linear: a central difference is exact to its cancellation. */
static void gradient(const char *what, build_fn f, lk_shape shape) {
    static double y[MOST], dx[MOST], up[MOST], down[MOST], moved[MOST];
    const double h = 1e-4;
    const int64_t n = lk_numel(shape), m = run(f, shape, values, y, dx);
    for (int64_t i = 0; i < n; i += 1 + n / 40) {
        memcpy(moved, values, sizeof moved);
        moved[i] = values[i] + h; run(f, shape, moved, up, NULL);
        moved[i] = values[i] - h; run(f, shape, moved, down, NULL);
        double want = 0;
        for (int64_t k = 0; k < m; k++) want += cotangent[k] * (up[k] - down[k]) / (2 * h);
        CHECK_MSG(fabs(want - dx[i]) < 1e-8, "%s: gradient %ld is %g, %g by differences", what, (long)i, dx[i], want);
        CHECK(!(fabs(want - (1.01 * dx[i] + 1e-6)) < 1e-8));                              /* planted */
    }
}
static lk_val leaky(lk_graph *g, lk_val x) { return lk_leaky_relu(g, x, 0.2); }
static lk_val parametric(lk_graph *g, lk_val x) { return lk_prelu(g, x, lk_const(g, LK_F32, LK_SHAPE(3), (float[]){0.5f, -0.25f, 2})); }
TEST(rectifiers) {
    static double y[MOST], want[MOST];
    const double slope[] = {0.5, -0.25, 2};
    draw();
    const lk_shape s = LK_SHAPE(2, 3, 5);
    run(leaky, s, values, y, NULL);
    for (int i = 0; i < 30; i++) want[i] = values[i] > 0 ? values[i] : (double)0.2f * values[i];
    CHECK(apart(y, want, 30) < 1e-15);
    run(parametric, s, values, y, NULL);
    for (int i = 0; i < 30; i++) want[i] = values[i] > 0 ? values[i] : slope[i / 5 % 3] * values[i];
    CHECK(apart(y, want, 30) < 1e-15);
    gradient("leaky_relu", leaky, s);
    gradient("prelu", parametric, s);
}

enum { H = 11, W = 8 };
static int oh, ow; static lk_resample kind;
static lk_val resized(lk_graph *g, lk_val x) { return lk_resize(g, x, oh, ow, kind); }
static double keys(double d) { d = fabs(d); return d <= 1 ? 1.25 * d * d * d - 2.25 * d * d + 1 : d < 2 ? -0.75 * (d * d * d - 5 * d * d + 8 * d - 4) : 0; }
static void bicubic(const double *x, double *y) {
    for (int i = 0; i < oh; i++) for (int j = 0; j < ow; j++) {
        const double r = (i + 0.5) * H / oh - 0.5, c = (j + 0.5) * W / ow - 0.5;
        double sum = 0;
        for (int a = (int)floor(r) - 1; a <= (int)floor(r) + 2; a++) for (int b = (int)floor(c) - 1; b <= (int)floor(c) + 2; b++)
            sum += keys(r - a) * keys(c - b) * x[(a < 0 ? 0 : a >= H ? H - 1 : a) * W + (b < 0 ? 0 : b >= W ? W - 1 : b)];
        y[i * ow + j] = sum;
    }
}
TEST(resizing) {
    static const int sizes[][2] = {{22, 16}, {5, 3}, {11, 8}, {1, 1}, {7, 19}};
    static double y[MOST], want[MOST];
    draw();
    for (kind = LK_RESIZE_BILINEAR; kind <= LK_RESIZE_BICUBIC_AA; kind++) for (int k = 0; k < 5; k++) {
        oh = sizes[k][0]; ow = sizes[k][1];
        run(resized, LK_SHAPE(1, 1, H, W), values, y, NULL);
        if (kind == LK_RESIZE_BILINEAR) lk_torch_bilinear(values, H, W, 1, want, oh, ow);
        else if (kind == LK_RESIZE_BICUBIC) bicubic(values, want);
        else lk_torch_antialias(kind == LK_RESIZE_BILINEAR_AA ? LK_BILINEAR : LK_BICUBIC, values, H, W, 1, want, oh, ow);
        CHECK_MSG(apart(y, want, (int64_t)oh * ow) < 4e-7, "kind %d to %d x %d: %g", (int)kind, oh, ow, apart(y, want, (int64_t)oh * ow));   /* weights are rounded to binary32 */
        want[0] += 0.01 * fabs(want[0]) + 1e-5;                                           /* planted */
        CHECK(!(apart(y, want, (int64_t)oh * ow) < 4e-7));
        if (k < 2) gradient("resize", resized, LK_SHAPE(1, 1, H, W));
    }
    lk_graph *g = lk_graph_new();
    lk_resize(g, lk_input(g, "picture", LK_F32, LK_SHAPE(3, 8, 8)), 4, 4, LK_RESIZE_BICUBIC);
    CHECK_FAILS(lk_graph_error(g), "resize(picture [3, 8, 8]) to 4 x 4");
    lk_graph_free(g);
}
/* The error sticks, and names operation, values and shapes. */
TEST(no_gradient_is_an_error) {
    lk_graph *g = lk_graph_new();
    lk_val p = lk_param(g, "average", LK_SHAPE(3), LK_MEM_ADAPTER), x = lk_input(g, "x", LK_F32, LK_SHAPE(3)), dx;
    lk_ema(g, p, x, lk_scalar(g, 0.9));
    lk_vjp(g, (lk_val){lk_graph_count(g) - 1}, x, &x, 1, &dx);
    CHECK(!lk_ok(dx));
    CHECK_FAILS(lk_graph_error(g), "ema(average [3], x [3]");
    CHECK_FAILS(lk_graph_error(g), "no gradient");
    lk_graph_free(g);
    g = lk_graph_new();
    lk_val image = lk_input(g, "image", LK_F32, LK_SHAPE(1, 1, 4, 4)), m = lk_input(g, "pose", LK_F32, LK_SHAPE(1, 2, 3));
    lk_vjp(g, lk_sum_all(g, lk_affine_warp(g, image, m, (lk_warp){.size = {4, 4}})), LK_NONE, &m, 1, &dx);
    CHECK_FAILS(lk_graph_error(g), "pose [1, 2, 3]): the matrix (input 1) is not differentiated");
    lk_graph_free(g);
}
