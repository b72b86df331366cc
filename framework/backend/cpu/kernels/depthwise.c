/* conv2d and conv2d_dx with one channel a group: a chain over at most kh * kw taps an output, so there is
 * nothing to pack; vectors run along a row of outputs. Blocks of 256 taps as everywhere (rule 2). */
#include "backend/cpu/kernels/conv.h"
#include "backend/cpu/kernels/vec.h"

/* A row of outputs j reads in[(at_y), j * step + x] for its taps in order; in is one h x w plane. */
typedef struct { const float *plane; int64_t h, w, step; } source;
typedef struct { int32_t y, x; float weight; } tap;

static vec lanes_at(const source *s, int64_t y, int64_t x, int n) {
    if (y < 0 || y >= s->h) return v_zero();
    const float *row = s->plane + y * s->w;
    if (s->step == 1) {
        int64_t lo = lk_k_min(n, lk_k_max(0, -x)), hi = lk_k_max(lo, lk_k_min(n, s->w - x));
        return v_load_mask(row + x, v_mask((int)lo, (int)hi));
    }
    float lane[VW];
    for (int l = 0; l < VW; l++) { int64_t at = x + l * s->step; lane[l] = l < n && at >= 0 && at < s->w ? row[at] : 0.0f; }
    return v_load(lane);
}
/* to[j * out_step] for j in [0, n); y0, x0: what the taps' offsets are added to. */
static void row(const source *s, const tap *taps, int64_t n_taps, int64_t y0, int64_t x0, int64_t n, const float *bias, float *to, int64_t out_step) {
    for (int64_t j = 0; j < n; j += VW) {
        int lanes = (int)lk_k_min(VW, n - j);
        vec sum = v_zero();
        for (int64_t k = 0; k < n_taps; k += LK_KC) {
            vec acc = v_zero();
            for (int64_t i = k; i < lk_k_min(n_taps, k + LK_KC); i++)
                acc = v_fma(v_set(taps[i].weight), lanes_at(s, y0 + taps[i].y, x0 + j * s->step + taps[i].x, lanes), acc);
            sum = k ? v_add(sum, acc) : acc;
        }
        if (bias) sum = v_add(sum, v_set(*bias));
        if (out_step == 1) { v_store_mask(to + j, v_mask(0, lanes), sum); continue; }
        float lane[VW];
        v_store(lane, sum);
        for (int l = 0; l < lanes; l++) to[(j + l) * out_step] = lane[l];
    }
}
typedef struct { const lk_kernel_call *call; lk_conv_geometry g; } job;

static void forward_planes(void *ctx, int64_t begin, int64_t end, int thread) {
    const job *j = ctx;
    const lk_conv_geometry *g = &j->g;
    const int64_t n_taps = g->kh * g->kw;
    tap *taps = (tap *)j->call->work + thread * n_taps;
    const float *bias = j->call->node->n_in > 2 ? j->call->in[2] : NULL;
    for (int64_t i = begin; i < end; i++) {
        int64_t c = i % g->groups;
        const float *w = (const float *)j->call->in[1] + c * n_taps;
        for (int64_t t = 0; t < n_taps; t++) taps[t] = (tap){(int32_t)(t / g->kw * g->dh - g->top), (int32_t)(t % g->kw * g->dw - g->left), w[t]};
        source s = {(const float *)j->call->in[0] + i * g->h * g->w, g->h, g->w, g->sw};
        for (int64_t y = 0; y < g->oh; y++)
            row(&s, taps, n_taps, y * g->sh, 0, g->ow, bias ? bias + c : NULL, (float *)j->call->out + (i * g->oh + y) * g->ow, 1);
    }
}
/* Row ih of dx, columns of one residue class: the taps on the lattice read dy at unit steps. */
static void dx_planes(void *ctx, int64_t begin, int64_t end, int thread) {
    const job *j = ctx;
    const lk_conv_geometry *g = &j->g;
    tap *taps = (tap *)j->call->work + thread * g->kh * g->kw;
    for (int64_t i = begin; i < end; i++) {
        const float *w = (const float *)j->call->in[1] + i % g->groups * g->kh * g->kw;
        source s = {(const float *)j->call->in[0] + i * g->oh * g->ow, g->oh, g->ow, 1};
        for (int64_t y = 0; y < g->h; y++)
            for (int64_t first = 0; first < lk_k_min(g->sw, g->w); first++) {
                int64_t n = 0;
                for (int64_t a = 0; a < g->kh; a++)
                    for (int64_t b = 0; b < g->kw; b++) {
                        int64_t ty = y + g->top - a * g->dh, tx = first + g->left - b * g->dw;
                        if (ty % g->sh == 0 && tx % g->sw == 0) taps[n++] = (tap){(int32_t)(ty / g->sh), (int32_t)(tx / g->sw), w[a * g->kw + b]};
                    }
                row(&s, taps, n, 0, 0, (g->w - first + g->sw - 1) / g->sw, NULL, (float *)j->call->out + (i * g->h + y) * g->w + first, g->sw);
            }
    }
}
static void run(const lk_kernel_call *call, lk_pool_fn fn, int64_t plane) {
    job j = {call, lk_conv_geometry_of(call->node, call->in_shape)};
    lk_parallel(call->pool, j.g.n * j.g.groups, lk_k_max(1, LK_GRAIN / lk_k_max(1, plane)), fn, &j);
}
void lk_depthwise(const lk_kernel_call *call) { run(call, forward_planes, call->node->shape.d[2] * call->node->shape.d[3]); }
void lk_depthwise_dx(const lk_kernel_call *call) { run(call, dx_planes, call->node->shape.d[2] * call->node->shape.d[3]); }
