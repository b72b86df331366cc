/* layer, rms and group norm with their gradients, silu fused into group norm (docs/numerics.md rules 3, 4).
 *
 * A row (layer, rms: the last axis) or a group (group norm: its channels and positions, contiguous) is one
 * stream of sums; it is read two or three times while it stands in the cache, and nothing is kept between
 * forward and backward: mean, variance and xhat are computed again, with the same bits. */
#include "backend/activation.h"
#include "backend/cpu/kernels/rows.h"

typedef struct {
    const float *x, *dy, *gamma, *beta; float *out;
    int64_t n;                      /* elements normalised together */
    int64_t channels, groups, span; /* group norm: channels of a group, groups of a sample, positions of a channel */
    float count, eps;               /* n as binary32 */
    bool silu;
} norm;

static inline float inverse_root(float sum, const norm *s) { return 1.0f / __builtin_sqrtf(sum / s->count + s->eps); }

#define E_G_XHAT(L, i) ((L(dy, i) * L(gamma, i)) * ((L(x, i) - m) * r))
#define E_DY_XHAT(L, i) (L(dy, i) * ((L(x, i) - m) * r))
#define E_SCALED(L, i) (L(dy, i) * scale)
#define E_SCALED_XHAT(L, i) ((L(dy, i) * scale) * ((L(x, i) - m) * r))
#define E_RMS_G_XHAT(L, i) ((L(dy, i) * L(gamma, i)) * (L(x, i) * r))
#define E_RMS_DY_XHAT(L, i) (L(dy, i) * (L(x, i) * r))
LK_SUM_RUN(sum_g_xhat, E_G_XHAT, LK_ARGS(const float *x, const float *dy, const float *gamma, float m, float r), LK_ARGS(x, dy, gamma, m, r))
LK_SUM_RUN(sum_dy_xhat, E_DY_XHAT, LK_ARGS(const float *x, const float *dy, float m, float r), LK_ARGS(x, dy, m, r))
LK_SUM_RUN(sum_scaled, E_SCALED, LK_ARGS(const float *dy, float scale), LK_ARGS(dy, scale))
LK_SUM_RUN(sum_scaled_xhat, E_SCALED_XHAT, LK_ARGS(const float *x, const float *dy, float scale, float m, float r), LK_ARGS(x, dy, scale, m, r))
LK_SUM_RUN(sum_rms_g_xhat, E_RMS_G_XHAT, LK_ARGS(const float *x, const float *dy, const float *gamma, float r), LK_ARGS(x, dy, gamma, r))
LK_SUM_RUN(sum_rms_dy_xhat, E_RMS_DY_XHAT, LK_ARGS(const float *x, const float *dy, float r), LK_ARGS(x, dy, r))

/* ---- layer norm ------------------------------------------------------------------------------------- */
static void layer_rows(void *ctx, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const norm *s = ctx;
    const float *gamma = s->gamma, *beta = s->beta;
    for (int64_t row = begin; row < end; row++) {
        const float *x = s->x + row * s->n;
        float *y = s->out + row * s->n;
        float m = lk_row_sum(x, s->n) / s->count, r = inverse_root(lk_row_sqdiff(x, m, s->n), s);
        if (gamma && beta) { LK_IVDEP for (int64_t i = 0; i < s->n; i++) y[i] = ((x[i] - m) * r) * gamma[i] + beta[i]; }
        else if (gamma) { LK_IVDEP for (int64_t i = 0; i < s->n; i++) y[i] = ((x[i] - m) * r) * gamma[i]; }
        else if (beta) { LK_IVDEP for (int64_t i = 0; i < s->n; i++) y[i] = ((x[i] - m) * r) + beta[i]; }
        else { LK_IVDEP for (int64_t i = 0; i < s->n; i++) y[i] = (x[i] - m) * r; }
    }
}
static void layer_dx_rows(void *ctx, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const norm *s = ctx;
    const float *gamma = s->gamma;
    for (int64_t row = begin; row < end; row++) {
        const float *x = s->x + row * s->n, *dy = s->dy + row * s->n;
        float *dx = s->out + row * s->n;
        float m = lk_row_sum(x, s->n) / s->count, r = inverse_root(lk_row_sqdiff(x, m, s->n), s);
        float mean_g = (gamma ? lk_row_dot(dy, gamma, s->n) : lk_row_sum(dy, s->n)) / s->count;
        float mean_gx = (gamma ? row_sum_g_xhat(s->n, x, dy, gamma, m, r) : row_sum_dy_xhat(s->n, x, dy, m, r)) / s->count;
        if (gamma) { LK_IVDEP for (int64_t i = 0; i < s->n; i++) dx[i] = ((dy[i] * gamma[i] - mean_g) - ((x[i] - m) * r) * mean_gx) * r; }
        else { LK_IVDEP for (int64_t i = 0; i < s->n; i++) dx[i] = ((dy[i] - mean_g) - ((x[i] - m) * r) * mean_gx) * r; }
    }
}

/* ---- rms norm --------------------------------------------------------------------------------------- */
static void rms_rows(void *ctx, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const norm *s = ctx;
    const float *gamma = s->gamma;
    for (int64_t row = begin; row < end; row++) {
        const float *x = s->x + row * s->n;
        float *y = s->out + row * s->n;
        float r = inverse_root(lk_row_dot(x, x, s->n), s);
        if (gamma) { LK_IVDEP for (int64_t i = 0; i < s->n; i++) y[i] = (x[i] * r) * gamma[i]; }
        else { LK_IVDEP for (int64_t i = 0; i < s->n; i++) y[i] = x[i] * r; }
    }
}
static void rms_dx_rows(void *ctx, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const norm *s = ctx;
    const float *gamma = s->gamma;
    for (int64_t row = begin; row < end; row++) {
        const float *x = s->x + row * s->n, *dy = s->dy + row * s->n;
        float *dx = s->out + row * s->n;
        float r = inverse_root(lk_row_dot(x, x, s->n), s);
        float mean_gx = (gamma ? row_sum_rms_g_xhat(s->n, x, dy, gamma, r) : row_sum_rms_dy_xhat(s->n, x, dy, r)) / s->count;
        if (gamma) { LK_IVDEP for (int64_t i = 0; i < s->n; i++) dx[i] = (dy[i] * gamma[i] - (x[i] * r) * mean_gx) * r; }
        else { LK_IVDEP for (int64_t i = 0; i < s->n; i++) dx[i] = (dy[i] - (x[i] * r) * mean_gx) * r; }
    }
}

/* ---- group norm ------------------------------------------------------------------------------------- */
static void group_rows(void *ctx, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const norm *s = ctx;
    for (int64_t g = begin; g < end; g++) {
        const float *x = s->x + g * s->n;
        float *y = s->out + g * s->n;
        float m = lk_row_sum(x, s->n) / s->count, r = inverse_root(lk_row_sqdiff(x, m, s->n), s);
        for (int64_t c = 0; c < s->channels; c++, x += s->span, y += s->span) {
            int64_t channel = g % s->groups * s->channels + c;
            float gamma = s->gamma ? s->gamma[channel] : 1.0f, beta = s->beta ? s->beta[channel] : -0.0f;   /* x * 1 and x + -0 are x */
            if (s->silu) { LK_IVDEP for (int64_t i = 0; i < s->span; i++) y[i] = lk_siluf(((x[i] - m) * r) * gamma + beta); }
            else { LK_IVDEP for (int64_t i = 0; i < s->span; i++) y[i] = ((x[i] - m) * r) * gamma + beta; }
        }
    }
}
/* With silu the cotangent of the norm itself is written to dx first, then read from there. */
static void group_dx_rows(void *ctx, int64_t begin, int64_t end, int thread) {
    (void)thread;
    const norm *s = ctx;
    for (int64_t g = begin; g < end; g++) {
        const float *x = s->x + g * s->n, *dy = s->dy + g * s->n;
        float *dx = s->out + g * s->n;
        int64_t first = g % s->groups * s->channels;
        float m = lk_row_sum(x, s->n) / s->count, r = inverse_root(lk_row_sqdiff(x, m, s->n), s);
        lk_sum sg, sgx; lk_sum_begin(&sg); lk_sum_begin(&sgx);
        for (int64_t c = 0; c < s->channels; c++) {
            const float *xc = x + c * s->span, *dyc = dy + c * s->span;
            float *dxc = dx + c * s->span;
            float gamma = s->gamma ? s->gamma[first + c] : 1.0f, beta = s->beta ? s->beta[first + c] : -0.0f;
            if (s->silu) {
                LK_IVDEP for (int64_t i = 0; i < s->span; i++) dxc[i] = lk_silu_dxf(((xc[i] - m) * r) * gamma + beta, dyc[i]);
                dyc = dxc;
            }
            sum_scaled(&sg, s->span, dyc, gamma);
            sum_scaled_xhat(&sgx, s->span, xc, dyc, gamma, m, r);
        }
        float mean_g = lk_sum_end(&sg) / s->count, mean_gx = lk_sum_end(&sgx) / s->count;
        const float *cotangent = s->silu ? dx : dy;
        for (int64_t c = 0; c < s->channels; c++) {
            const float *xc = x + c * s->span, *dyc = cotangent + c * s->span;
            float *dxc = dx + c * s->span, gamma = s->gamma ? s->gamma[first + c] : 1.0f;
            LK_IVDEP for (int64_t i = 0; i < s->span; i++) dxc[i] = ((dyc[i] * gamma - mean_g) - ((xc[i] - m) * r) * mean_gx) * r;
        }
    }
}

/* ---- entries: `first` is the index of gamma among the inputs ---------------------------------------- */
static const float *input(const lk_kernel_call *c, int i) { return i < c->node->n_in ? c->in[i] : NULL; }
static void run(const lk_kernel_call *c, bool dx, bool grouped, lk_pool_fn fn) {
    const lk_norm *a = &c->node->attr.norm;
    lk_shape shape = c->in_shape[0];
    int first = dx ? 2 : 1;
    norm s = {.x = c->in[0], .dy = dx ? c->in[1] : NULL, .gamma = input(c, first), .beta = input(c, first + 1), .out = c->out, .n = lk_k_last(shape),
              .eps = (float)a->eps, .silu = a->silu};
    if (grouped) {
        s.groups = a->groups; s.channels = shape.d[1] / a->groups; s.span = lk_k_span(shape, 2, shape.rank);
        s.n = s.channels * s.span;
    }
    s.count = (float)s.n;
    if (s.n) lk_parallel(c->pool, lk_k_numel(shape) / s.n, lk_k_max(1, LK_GRAIN / 4 / s.n), fn, &s);
}
static void k_layer_norm(const lk_kernel_call *c)    { run(c, false, false, layer_rows); }
static void k_layer_norm_dx(const lk_kernel_call *c) { run(c, true, false, layer_dx_rows); }
static void k_rms_norm(const lk_kernel_call *c)      { run(c, false, false, rms_rows); }
static void k_rms_norm_dx(const lk_kernel_call *c)   { run(c, true, false, rms_dx_rows); }
static void k_group_norm(const lk_kernel_call *c)    { run(c, false, true, group_rows); }
static void k_group_norm_dx(const lk_kernel_call *c) { run(c, true, true, group_dx_rows); }

void LK_KNAME(lk_kernels_norm)(lk_kernel *table);
void LK_KNAME(lk_kernels_norm)(lk_kernel *table) {
    table[LK_OP_layer_norm] = k_layer_norm;
    table[LK_OP_layer_norm_dx] = k_layer_norm_dx;
    table[LK_OP_rms_norm] = k_rms_norm;
    table[LK_OP_rms_norm_dx] = k_rms_norm_dx;
    table[LK_OP_group_norm] = k_group_norm;
    table[LK_OP_group_norm_dx] = k_group_norm_dx;
}
