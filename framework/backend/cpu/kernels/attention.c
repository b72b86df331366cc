/* sdpa and sdpa_grad: softmax((q k^T) * scale + bias + causal mask) v, heads read by stride from [B, T, H*D].
 * A tile of query rows holds its whole score row (numerics.md rule 4), so the bits are those of the
 * decomposition into matmuls and softmax; the score matrix of all queries never exists. The gradient's tiles
 * are the blocks of 256 queries of rule 2: dk and dv add one finished chain a tile. */
#include "backend/cpu/kernels/gemm.h"
#include "backend/cpu/kernels/rows.h"

enum { TILE_FLOATS = 262144 };                            /* scores a tile holds, about: 1 MiB */

typedef struct {
    int64_t b, h, tq, tk, d, w;                           /* w = h * d, the distance of tokens */
    int64_t rows, tiles;                                  /* query rows of a tile, tiles a head */
    int64_t per_thread;                                   /* floats */
    float scale; bool causal, grad;
    const float *q, *k, *v, *dy, *bias;
    int64_t bias_stride[4];                               /* [B, H, Tq, Tk], 0 where broadcast */
    float *out, *work;
} attention;

static attention shape_of(const lk_node *node, const lk_shape *in, int threads) {
    const lk_sdpa_attr *a = &node->attr.sdpa;
    attention s = {.b = in[0].d[0], .h = a->heads, .tq = in[0].d[1], .tk = in[1].d[1], .w = in[0].d[2], .causal = a->causal, .grad = node->op == LK_OP_sdpa_grad};
    s.d = s.w / s.h;
    s.scale = (float)(a->scale != 0 ? a->scale : 1 / __builtin_sqrt((double)s.d));
    if (s.grad) s.rows = LK_KC;
    else {
        s.rows = lk_k_max(32, lk_k_min(256, TILE_FLOATS / lk_k_max(1, s.tk)));
        while (threads > 1 && s.rows > 32 && s.b * s.h * ((s.tq + s.rows - 1) / s.rows) < 2 * threads) s.rows /= 2;
    }
    s.rows = lk_k_min(s.rows, s.tq);
    s.tiles = (s.tq + s.rows - 1) / lk_k_max(1, s.rows);
    s.per_thread = LK_SCRATCH + (s.rows * s.tk * (s.grad ? 2 : 1) + 15) / 16 * 16;
    return s;
}
static void bias_of(attention *s, const float *bias, lk_shape shape) {
    s->bias = bias;
    int64_t stride = 1;
    for (int i = 3; i >= 0; i--) {
        int at = i - (4 - shape.rank);
        int64_t d = at >= 0 ? shape.d[at] : 1;
        s->bias_stride[i] = d == 1 ? 0 : stride;
        stride *= d;
    }
}
/* Probabilities of query rows [i0, i0 + rows) of one head into p [rows, Tk]. */
static void probabilities(const attention *s, int64_t b, int64_t h, int64_t i0, int64_t rows, float *p, float *scratch) {
    lk_product scores = {.k = s->d, .c = p, .ldc = s->tk};
    scores.a = (lk_operand){.layout = LK_BY_ROW, .p = s->q + (b * s->tq + i0) * s->w + h * s->d, .stride = s->w};
    scores.b = (lk_operand){.layout = LK_BY_ROW, .p = s->k + b * s->tk * s->w + h * s->d, .stride = s->w};
    lk_gemm(&scores, 0, rows, 0, s->tk, scratch);
    for (int64_t i = 0; i < rows; i++) {
        float *row = p + i * s->tk;
        const float scale = s->scale;
        if (!s->bias) { LK_IVDEP for (int64_t j = 0; j < s->tk; j++) row[j] = row[j] * scale; }
        else {
            const float *bias = s->bias + b * s->bias_stride[0] + h * s->bias_stride[1] + (i0 + i) * s->bias_stride[2];
            if (s->bias_stride[3]) { LK_IVDEP for (int64_t j = 0; j < s->tk; j++) row[j] = row[j] * scale + bias[j]; }
            else { LK_IVDEP for (int64_t j = 0; j < s->tk; j++) row[j] = row[j] * scale + bias[0]; }
        }
        if (s->causal) for (int64_t j = lk_k_max(0, i0 + i + s->tk - s->tq + 1); j < s->tk; j++) row[j] += -__builtin_inff();
        lk_softmax_row(row, row, s->tk);
    }
}
static void forward_tiles(void *ctx, int64_t begin, int64_t end, int thread) {
    const attention *s = ctx;
    float *scratch = s->work + thread * s->per_thread, *p = scratch + LK_SCRATCH;
    for (int64_t item = begin; item < end; item++) {
        int64_t i0 = item % s->tiles * s->rows, h = item / s->tiles % s->h, b = item / (s->tiles * s->h), rows = lk_k_min(s->rows, s->tq - i0);
        probabilities(s, b, h, i0, rows, p, scratch);
        lk_product y = {.k = s->tk, .c = s->out + (b * s->tq + i0) * s->w + h * s->d, .ldc = s->w};
        y.a = (lk_operand){.layout = LK_BY_ROW, .p = p, .stride = s->tk};
        y.b = (lk_operand){.layout = LK_BY_LANE, .p = s->v + b * s->tk * s->w + h * s->d, .stride = s->w};
        lk_gemm(&y, 0, rows, 0, s->d, scratch);
    }
}
static void scale_rows(float *c, int64_t rows, int64_t n, int64_t ld, float scale) {
    for (int64_t i = 0; i < rows; i++) { LK_IVDEP for (int64_t j = 0; j < n; j++) c[i * ld + j] *= scale; }
}
static void gradient_heads(void *ctx, int64_t begin, int64_t end, int thread) {
    const attention *s = ctx;
    float *scratch = s->work + thread * s->per_thread, *p = scratch + LK_SCRATCH, *ds = p + s->rows * s->tk;
    for (int64_t item = begin; item < end; item++) {
        const int64_t h = item % s->h, b = item / s->h, to_q = b * s->tq * s->w + h * s->d, to_k = b * s->tk * s->w + h * s->d;
        float *dq = s->out + to_q, *dk = s->out + s->b * s->tq * s->w + to_k, *dv = dk + s->b * s->tk * s->w;
        for (int64_t i0 = 0; i0 < s->tq; i0 += s->rows) {
            const int64_t rows = lk_k_min(s->rows, s->tq - i0), at = to_q + i0 * s->w;
            probabilities(s, b, h, i0, rows, p, scratch);
            lk_product dp = {.k = s->d, .c = ds, .ldc = s->tk};
            dp.a = (lk_operand){.layout = LK_BY_ROW, .p = s->dy + at, .stride = s->w};
            dp.b = (lk_operand){.layout = LK_BY_ROW, .p = s->v + to_k, .stride = s->w};
            lk_gemm(&dp, 0, rows, 0, s->tk, scratch);
            for (int64_t i = 0; i < rows; i++) lk_softmax_dx_row(p + i * s->tk, ds + i * s->tk, ds + i * s->tk, s->tk);
            lk_product q = {.k = s->tk, .c = dq + i0 * s->w, .ldc = s->w};
            q.a = (lk_operand){.layout = LK_BY_ROW, .p = ds, .stride = s->tk};
            q.b = (lk_operand){.layout = LK_BY_LANE, .p = s->k + to_k, .stride = s->w};
            lk_gemm(&q, 0, rows, 0, s->d, scratch);
            scale_rows(q.c, rows, s->d, s->w, s->scale);
            lk_product k = {.k = rows, .c = dk, .ldc = s->w, .add = i0 > 0}, v = k;
            k.a = (lk_operand){.layout = LK_BY_LANE, .p = ds, .stride = s->tk};
            k.b = (lk_operand){.layout = LK_BY_LANE, .p = s->q + at, .stride = s->w};
            lk_gemm(&k, 0, s->tk, 0, s->d, scratch);
            v.c = dv;
            v.a = (lk_operand){.layout = LK_BY_LANE, .p = p, .stride = s->tk};
            v.b = (lk_operand){.layout = LK_BY_LANE, .p = s->dy + at, .stride = s->w};
            lk_gemm(&v, 0, s->tk, 0, s->d, scratch);
        }
        scale_rows(dk, s->tk, s->d, s->w, s->scale);
    }
}
static void run(const lk_kernel_call *call) {
    lk_contract_counted();
    attention s = shape_of(call->node, call->in_shape, lk_pool_threads(call->pool));
    s.q = call->in[0]; s.k = call->in[1]; s.v = call->in[2]; s.dy = s.grad ? call->in[3] : NULL;
    s.out = call->out; s.work = call->work;
    const int bias = 3 + s.grad;
    if (call->node->n_in > bias && call->in[bias]) bias_of(&s, call->in[bias], call->in_shape[bias]);
    if (s.grad) lk_parallel(call->pool, s.b * s.h, 1, gradient_heads, &s);
    else lk_parallel(call->pool, s.b * s.h * s.tiles, 1, forward_tiles, &s);
}
int64_t LK_KNAME(lk_attention_workspace)(const lk_node *node, const lk_shape *in, int threads) {
    return shape_of(node, in, threads).per_thread * threads * (int64_t)sizeof(float);
}
void LK_KNAME(lk_kernels_attention)(lk_kernel *table) { table[LK_OP_sdpa] = run; table[LK_OP_sdpa_grad] = run; }
