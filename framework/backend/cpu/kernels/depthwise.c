/* conv2d and conv2d_dx with one channel a group: an output is a chain over kh * kw taps, too short for panels.
 * The plane is copied once with its padding into a band (zeros around it, columns of one residue class of the
 * step side by side), so that a tap of 16 neighbouring outputs is one plain load whatever the stride. Blocks of
 * 256 taps as everywhere (rule 2); a tap in the padding is a +0 that takes part. */
#include "backend/cpu/kernels/conv.h"

/* n outputs, a chain each over taps at `from + offset[t]`; `lanes`: how many of the last vector exist. */
enum { AHEAD = 4 };                                       /* vectors at a time: chains that hide each other's latency */
static inline __attribute__((always_inline)) void chains(const float *from, const int32_t *offset, const float *weight, int64_t n_taps, const float *bias, const int nv, int lanes, float *to) {
    vec sum[AHEAD];
#pragma GCC unroll 4
    for (int v = 0; v < nv; v++) sum[v] = v_zero();
    for (int64_t k = 0; k < n_taps; k += LK_KC) {
        const int64_t end = lk_k_min(n_taps, k + LK_KC);
        vec acc[AHEAD];
#pragma GCC unroll 4
        for (int v = 0; v < nv; v++) acc[v] = v_zero();
        for (int64_t t = k; t < end; t++) {
            const vec w = v_set(weight[t]);
#pragma GCC unroll 4
            for (int v = 0; v < nv; v++) acc[v] = v_fma(w, v_load(from + offset[t] + v * VW), acc[v]);
        }
#pragma GCC unroll 4
        for (int v = 0; v < nv; v++) sum[v] = k ? v_add(sum[v], acc[v]) : acc[v];
    }
#pragma GCC unroll 4
    for (int v = 0; v < nv; v++) {
        vec y = sum[v];
        if (bias) y = v_add(y, v_set(*bias));
        if (v == nv - 1 && lanes < VW) v_store_mask(to + v * VW, v_mask(0, lanes), y);
        else v_store(to + v * VW, y);
    }
}
static void row(const float *from, const int32_t *offset, const float *weight, int64_t n_taps, const float *bias, int64_t n, float *to) {
    int64_t j = 0;
    for (; j + AHEAD * VW <= n; j += AHEAD * VW) chains(from + j, offset, weight, n_taps, bias, AHEAD, VW, to + j);
    const int left = (int)(n - j), nv = (left + VW - 1) / VW, lanes = left - (nv - 1) * VW;
    if (nv == 1) chains(from + j, offset, weight, n_taps, bias, 1, lanes, to + j);
    else if (nv == 2) chains(from + j, offset, weight, n_taps, bias, 2, lanes, to + j);
    else if (nv == 3) chains(from + j, offset, weight, n_taps, bias, 3, lanes, to + j);
    else if (nv == 4) chains(from + j, offset, weight, n_taps, bias, 4, lanes, to + j);
}

/* ---- how the work is laid out ------------------------------------------------------------------------------ */
typedef struct {
    lk_conv_geometry g; bool dx;
    int64_t reach_y, reach_x, min_y, min_x;               /* rows and columns a tap reaches past an output's own, and from where */
    int64_t step_y, step_x, width, out_w;                 /* of the band; outputs of one row (of a class) */
    int64_t at_once, band_floats, per_thread;             /* output rows of a band */
} layout;
static int64_t floor_div(int64_t a, int64_t b) { return a / b - (a % b < 0); }
static layout layout_of(const lk_node *node, const lk_shape *in) {
    layout l = {.g = lk_conv_geometry_of(node, in), .dx = node->op == LK_OP_conv2d_dx};
    const lk_conv_geometry *g = &l.g;
    if (l.dx) {                                           /* dy at (y + top - kh * dil) / stride, y below the stride: from the last tap's to the first's */
        l.min_y = floor_div(g->top - (g->kh - 1) * g->dh, g->sh); l.min_x = floor_div(g->left - (g->kw - 1) * g->dw, g->sw);
        l.reach_y = floor_div(g->sh - 1 + g->top, g->sh) - l.min_y; l.reach_x = floor_div(g->sw - 1 + g->left, g->sw) - l.min_x;
        l.step_y = l.step_x = 1; l.out_w = (g->w + g->sw - 1) / g->sw;
    } else {
        l.min_y = -g->top; l.min_x = -g->left;
        l.reach_y = (g->kh - 1) * g->dh; l.reach_x = (g->kw - 1) * g->dw;
        l.step_y = g->sh; l.step_x = g->sw; l.out_w = g->ow;
    }
    l.width = (l.out_w + VW - 1) / VW * VW + l.reach_x / l.step_x + 1;
    const int64_t out_h = l.dx ? (g->h + g->sh - 1) / g->sh : g->oh, row_floats = l.width * l.step_x;
    l.at_once = lk_k_max(1, lk_k_min(out_h, (32768 / row_floats - l.reach_y) / l.step_y));
    l.band_floats = ((l.at_once - 1) * l.step_y + l.reach_y + 1) * row_floats;
    l.band_floats = (l.band_floats + 2 * VW + 15) / 16 * 16;
    l.per_thread = (l.band_floats + l.width + 2 * g->kh * g->kw + 15) / 16 * 16;
    return l;
}
int64_t lk_depthwise_floats(const lk_node *node, const lk_shape *in) { return layout_of(node, in).per_thread; }

typedef struct { const lk_kernel_call *call; layout l; } job;
static void forward_planes(void *ctx, int64_t begin, int64_t end, int thread) {
    const job *j = ctx;
    const layout *l = &j->l; const lk_conv_geometry *g = &l->g;
    const int64_t n_taps = g->kh * g->kw;
    float *work = (float *)j->call->work + thread * l->per_thread;
    int32_t *offset = (int32_t *)(work + l->band_floats + l->width);
    const float *bias = j->call->node->n_in > 2 ? j->call->in[2] : NULL;
    for (int64_t t = 0; t < n_taps; t++) {
        int64_t x = t % g->kw * g->dw;
        offset[t] = (int32_t)((t / g->kw * g->dh * g->sw + x % g->sw) * l->width + x / g->sw);
    }
    for (int64_t i = begin; i < end; i++) {
        const int64_t c = i % g->groups;
        for (int64_t y0 = 0; y0 < g->oh; y0 += l->at_once) {
            const int64_t rows = lk_k_min(l->at_once, g->oh - y0);
            lk_band b = {y0 * g->sh + l->min_y, l->min_x, (rows - 1) * g->sh + l->reach_y + 1, g->sw, l->width, work};
            lk_band_fill(&b, (const float *)j->call->in[0] + i * g->h * g->w, g->h, g->w);
            for (int64_t y = 0; y < rows; y++)
                row(work + y * g->sh * g->sw * l->width, offset, (const float *)j->call->in[1] + c * n_taps, n_taps, bias ? bias + c : NULL, g->ow,
                    (float *)j->call->out + (i * g->oh + y0 + y) * g->ow);
        }
    }
}
/* A row of dx of one residue class: the taps on its lattice, read from the band of dy. */
static void dx_planes(void *ctx, int64_t begin, int64_t end, int thread) {
    const job *j = ctx;
    const layout *l = &j->l; const lk_conv_geometry *g = &l->g;
    float *work = (float *)j->call->work + thread * l->per_thread, *line = work + l->band_floats, *weight = line + l->width;
    int32_t *offset = (int32_t *)(weight + g->kh * g->kw);
    for (int64_t i = begin; i < end; i++) {
        const float *w = (const float *)j->call->in[1] + i % g->groups * g->kh * g->kw;
        float *dx = (float *)j->call->out + i * g->h * g->w;
        for (int64_t q0 = 0; q0 * g->sh < g->h; q0 += l->at_once) {
            lk_band b = {q0 + l->min_y, l->min_x, l->at_once + l->reach_y, 1, l->width, work};
            lk_band_fill(&b, (const float *)j->call->in[0] + i * g->oh * g->ow, g->oh, g->ow);
            for (int64_t ry = 0; ry < g->sh; ry++)
                for (int64_t rx = 0; rx < lk_k_min(g->sw, g->w); rx++) {
                    int64_t n = 0, count = (g->w - rx + g->sw - 1) / g->sw;
                    for (int64_t t = 0; t < g->kh * g->kw; t++) {
                        int64_t y = ry + g->top - t / g->kw * g->dh, x = rx + g->left - t % g->kw * g->dw;
                        if (y % g->sh || x % g->sw) continue;
                        weight[n] = w[t];
                        offset[n++] = (int32_t)((y / g->sh - l->min_y) * l->width + x / g->sw - l->min_x);
                    }
                    for (int64_t q = q0; q < q0 + l->at_once && q * g->sh + ry < g->h; q++) {
                        float *to = dx + (q * g->sh + ry) * g->w + rx;
                        const float *from = work + (q - q0) * l->width;
                        if (g->sw == 1) { row(from, offset, weight, n, NULL, count, to); continue; }
                        row(from, offset, weight, n, NULL, count, line);
                        for (int64_t x = 0; x < count; x++) to[x * g->sw] = line[x];
                    }
                }
        }
    }
}
static void run(const lk_kernel_call *call, lk_pool_fn fn) {
    job j = {call, layout_of(call->node, call->in_shape)};
    const int64_t plane = call->node->shape.d[2] * call->node->shape.d[3];
    lk_parallel(call->pool, j.l.g.n * j.l.g.groups, lk_k_max(1, LK_GRAIN / lk_k_max(1, plane)), fn, &j);
}
void lk_depthwise(const lk_kernel_call *call) { run(call, forward_planes); }
void lk_depthwise_dx(const lk_kernel_call *call) { run(call, dx_planes); }
