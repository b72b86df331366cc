/* Pools, nearest upsampling and the affine warp against scalar loops that follow docs/numerics.md rules 3, 6
 * and 11, bit for bit, and against binary64. Adjoints are also checked by <A x, z> = <x, A' z> in binary64. */
#include "tests/backend/kernel_call.h"

static double inner(const float *a, const float *b, int64_t n) { double s = 0; for (int64_t i = 0; i < n; i++) s += (double)a[i] * b[i]; return s; }
static float *zeros(int64_t n) { return lk_xcalloc((size_t)n + 1, sizeof(float)); }

/* ---- pools ---------------------------------------------------------------------------------------------- */
static const struct { int64_t h, w; lk_pool2d p; } pools[] = {
    {8, 8, {{2, 2}, {2, 2}}}, {7, 9, {{3, 3}, {2, 2}, {1, 1, 1, 1}}}, {5, 6, {{3, 2}, {1, 1}, {0, 1, 2, 0}, true}}, {9, 5, {{3, 3}, {2, 2}, {0, 0, 1, 1}}}, {6, 7, {{6, 7}, {1, 1}}},
    {13, 11, {{5, 5}, {3, 2}, {2, 2, 2, 2}, true}}, {4, 4, {{1, 1}, {1, 1}}}, {3, 3, {{2, 2}, {2, 2}, {0, 0, 3, 3}}}, {16, 33, {{3, 3}, {1, 1}, {1, 1, 1, 1}, true}},
};
TEST(pools_and_adjoints) {
    enum { PLANES = 6 };
    bool told_order = false, told_tie = false;
    for (int k = 0; k < (int)(sizeof pools / sizeof *pools); k++) {
        lk_pool2d p = pools[k].p;
        int64_t h = pools[k].h, w = pools[k].w, ph = h + p.pad[0] + p.pad[2], pw = w + p.pad[1] + p.pad[3];
        int64_t oh = (ph - p.kernel[0]) / p.stride[0] + 1, ow = (pw - p.kernel[1]) / p.stride[1] + 1, nx = PLANES * h * w, ny = PLANES * oh * ow;
        float *x = kc_fill(nx, 21), *z = kc_fill(nx, 22), *dy = kc_fill(ny, 23);
        for (int64_t i = 0; i < nx; i++) if (i % 3) x[i] = floorf(x[i]);                  /* ties */
        float *mx = zeros(ny), *at = zeros(ny), *mdx = zeros(nx), *avg = zeros(ny), *adx = zeros(nx), *last = zeros(nx), *turned = zeros(ny);
        for (int64_t c = 0; c < PLANES; c++) for (int64_t o = 0; o < oh; o++) for (int64_t q = 0; q < ow; q++) {
            int64_t out = (c * oh + o) * ow + q, best = -1, tie = -1;
            int inside = 0, counted = 0;
            float sum = 0, columns = 0;
            for (int a = 0; a < p.kernel[0]; a++) for (int b = 0; b < p.kernel[1]; b++) {
                int64_t i = o * p.stride[0] + a - p.pad[0], j = q * p.stride[1] + b - p.pad[1], e = (c * h + i) * w + j;
                counted += i < h + p.pad[2] && j < w + p.pad[3];
                if (i < 0 || j < 0 || i >= h || j >= w) continue;
                inside++; sum += x[e];
                if (best < 0 || x[e] > x[best]) best = e;
                if (tie < 0 || x[e] >= x[tie]) tie = e;
            }
            for (int b = 0; b < p.kernel[1]; b++) for (int a = 0; a < p.kernel[0]; a++) {   /* planted: taps column by column */
                int64_t i = o * p.stride[0] + a - p.pad[0], j = q * p.stride[1] + b - p.pad[1];
                if (i >= 0 && j >= 0 && i < h && j < w) columns += x[(c * h + i) * w + j];
            }
            float div = (float)(p.count_pad ? counted : inside);
            mx[out] = best < 0 ? -INFINITY : x[best]; at[out] = best < 0 ? 0 : z[best]; avg[out] = sum / div; turned[out] = columns / div;
            if (best >= 0) { mdx[best] += dy[out]; last[tie] += dy[out]; }
            for (int a = 0; a < p.kernel[0]; a++) for (int b = 0; b < p.kernel[1]; b++) {
                int64_t i = o * p.stride[0] + a - p.pad[0], j = q * p.stride[1] + b - p.pad[1];
                if (i >= 0 && j >= 0 && i < h && j < w) adx[(c * h + i) * w + j] += dy[out] / div;
            }
        }
        told_order |= kc_first_difference(avg, turned, ny) >= 0; told_tie |= kc_first_difference(mdx, last, nx) >= 0;
        lk_shape big = LK_SHAPE(2, 3, h, w), small = LK_SHAPE(2, 3, oh, ow);
        p.size[0] = (int)h; p.size[1] = (int)w;
        lk_attr attr = {.pool = p};
        char what[40]; snprintf(what, sizeof what, "pool case %d", k);
        kc_case c = {LK_OP_max_pool2d, attr, LK_F32, small, 1, {big}, {x}};
        kc_check(what, &c, mx, NULL);
        c = (kc_case){LK_OP_max_pool2d_at, attr, LK_F32, small, 2, {big, big}, {x, z}};
        kc_check(what, &c, at, NULL);
        c = (kc_case){LK_OP_max_pool2d_dx, attr, LK_F32, big, 2, {big, small}, {x, dy}};
        kc_check(what, &c, mdx, NULL);
        c = (kc_case){LK_OP_avg_pool2d, attr, LK_F32, small, 1, {big}, {x}};
        kc_check(what, &c, avg, NULL);
        c = (kc_case){LK_OP_avg_pool2d_dx, attr, LK_F32, big, 1, {small}, {dy}};
        kc_check(what, &c, adx, NULL);
        CHECK_CLOSE(inner(at, dy, ny), inner(z, mdx, nx), 1e-5 * (double)ny);
        if (k != 7) CHECK_CLOSE(inner(avg, dy, ny), inner(x, adx, nx), 1e-5 * (double)ny);   /* case 7 has windows of padding only: 0 / 0 */
        free(x); free(z); free(dy); free(mx); free(at); free(mdx); free(avg); free(adx); free(last); free(turned);
    }
    CHECK(told_order); CHECK(told_tie);
}

/* ---- nearest ------------------------------------------------------------------------------------------------ */
TEST(upsample_nearest_and_its_adjoint) {
    static const int64_t sizes[][4] = {{4, 4, 8, 8}, {5, 7, 10, 14}, {3, 5, 7, 11}, {4, 4, 12, 16}, {6, 8, 3, 5}, {1, 1, 9, 9}, {16, 33, 32, 66}, {3, 20, 6, 41}};
    bool told = false;
    for (int k = 0; k < (int)(sizeof sizes / sizeof *sizes); k++) {
        int64_t h = sizes[k][0], w = sizes[k][1], oh = sizes[k][2], ow = sizes[k][3], nx = 6 * h * w, ny = 6 * oh * ow;
        float *x = kc_fill(nx, 31), *dy = kc_fill(ny, 32), *y = zeros(ny), *dx = zeros(nx), *back = zeros(nx);
        for (int64_t i = 0; i < ny; i++) {
            int64_t s = (i / ow / oh * h + i / ow % oh * h / oh) * w + i % ow * w / ow;
            y[i] = x[s]; dx[s] += dy[i];
        }
        for (int64_t i = ny - 1; i >= 0; i--) back[(i / ow / oh * h + i / ow % oh * h / oh) * w + i % ow * w / ow] += dy[i];
        told |= kc_first_difference(dx, back, nx) >= 0;
        kc_case c = {LK_OP_upsample_nearest, {.size = {(int)oh, (int)ow}}, LK_F32, LK_SHAPE(2, 3, oh, ow), 1, {LK_SHAPE(2, 3, h, w)}, {x}};
        kc_check("upsample_nearest", &c, y, NULL);
        c = (kc_case){LK_OP_upsample_nearest_dx, {.size = {(int)h, (int)w}}, LK_F32, LK_SHAPE(2, 3, h, w), 1, {LK_SHAPE(2, 3, oh, ow)}, {dy}};
        kc_check("upsample_nearest_dx", &c, dx, NULL);
        CHECK_CLOSE(inner(y, dy, ny), inner(x, dx, nx), 1e-5 * (double)ny);
        free(x); free(dy); free(y); free(dx); free(back);
    }
    CHECK(told);
}

/* ---- affine warp ---------------------------------------------------------------------------------------------- */
static int64_t tap_index(float row, float col, int64_t h, int64_t w, bool clamp) {
    if (clamp) { row = row < 0 ? 0 : row > (float)(h - 1) ? (float)(h - 1) : row; col = col < 0 ? 0 : col > (float)(w - 1) ? (float)(w - 1) : col; }
    return row < 0 || col < 0 || row > (float)(h - 1) || col > (float)(w - 1) ? -1 : (int64_t)row * w + (int64_t)col;
}
TEST(affine_warp_and_its_adjoint) {
    static const float maps[][6] = {
        {1, 0, 0, 0, 1, 0}, {0.83f, -0.31f, 2.7f, 0.29f, 0.91f, -1.3f}, {2.1f, 0.4f, -3.3f, -0.7f, 1.9f, 4.1f}, {1, 0, 0.5f, 0, 1, -0.25f}, {1, 0, 1e12f, 0, 1, 0}, {-1, 0, 8, 0, -1, 6},
    };
    enum { MAPS = sizeof maps / sizeof *maps };
    static const int64_t sizes[][4] = {{7, 9, 7, 9}, {11, 6, 17, 13}, {16, 16, 5, 8}, {1, 1, 4, 4}};
    for (int s = 0; s < 4; s++) for (int clamp = 0; clamp < 2; clamp++) {
        int64_t n = MAPS, c = 3, h = sizes[s][0], w = sizes[s][1], oh = sizes[s][2], ow = sizes[s][3], nx = n * c * h * w, ny = n * c * oh * ow;
        float *x = kc_fill(nx, 41), *dy = kc_fill(ny, 42), *y = zeros(ny), *dx = zeros(nx);
        for (int64_t i = 0; i < ny; i++) {
            const float *m = maps[i / (oh * ow) / c];
            float px = (float)(i % ow), py = (float)(i / ow % oh), sx = (m[0] * px + m[1] * py) + m[2], sy = (m[3] * px + m[4] * py) + m[5];
            float x0 = floorf(sx), y0 = floorf(sy), wx = sx - x0, wy = sy - y0;
            float weight[4] = {(1 - wx) * (1 - wy), wx * (1 - wy), (1 - wx) * wy, wx * wy}, v[4];
            double exact = 0;
            for (int t = 0; t < 4; t++) {
                int64_t at = tap_index(y0 + (float)(t / 2), x0 + (float)(t % 2), h, w, clamp), plane = i / (oh * ow) * h * w;
                v[t] = at < 0 ? 0 : x[plane + at];
                if (at >= 0) dx[plane + at] += dy[i] * weight[t];
                exact += v[t] * (t % 2 ? (double)wx : 1 - (double)wx) * (t / 2 ? (double)wy : 1 - (double)wy);
            }
            y[i] = ((v[0] * weight[0] + v[1] * weight[1]) + v[2] * weight[2]) + v[3] * weight[3];
            CHECK_CLOSE(y[i], exact, 1e-6);
        }
        lk_shape source = LK_SHAPE(n, c, h, w), dest = LK_SHAPE(n, c, oh, ow), map = LK_SHAPE(n, 2, 3);
        kc_case k = {LK_OP_affine_warp, {.warp = {{(int)oh, (int)ow}, clamp}}, LK_F32, dest, 2, {source, map}, {x, maps}};
        kc_check("affine_warp", &k, y, NULL);
        k = (kc_case){LK_OP_affine_warp_dx, {.warp = {{(int)h, (int)w}, clamp}}, LK_F32, source, 2, {dest, map}, {dy, maps}};
        kc_check("affine_warp_dx", &k, dx, NULL);
        CHECK_CLOSE(inner(y, dy, ny), inner(x, dx, nx), 1e-5 * (double)ny);
        free(x); free(dy); free(y); free(dx);
    }
}
