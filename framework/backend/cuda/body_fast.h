/* What the fast tier does around cuBLASLt: an operand of a product laid out as a plain matrix, in binary32 or bf16; bias and
 * causal mask added afterwards. A convolution's pixels under its taps become such a matrix (fast.c). */
#ifndef LK_CUDA_BODY_FAST_H
#define LK_CUDA_BODY_FAST_H
#include "backend/cuda/body_product.h"

/* bf16: the upper half of a binary32, rounded to nearest even; NaN stays NaN. */
LK_BODY uint16_t lk_bf16_of(float x) {
    uint32_t u = lk_bitsf(x);
    return x != x ? 0x7fc0 : (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}
LK_BODY float lk_of_bf16(uint16_t h) { return lk_from_bitsf((uint32_t)h << 16); }

typedef struct {
    lk_product_args p; lk_access access;
    const void *from; void *to;
    int side, from_bf16, to_bf16;           /* side 0: operand a, 1: b */
    int by_k;                               /* to: [batch, row, k] with rows of ld, else [batch, k, row] */
    int by_tap;                             /* conv: k runs over (c, kh, kw), as its weights lie */
    int64_t row0, rows, ld, batches, step;  /* step: distance of batch elements in from */
} lk_pack_args;
LK_BODY void lk_body_pack(lk_block *b, const lk_pack_args *a) {
    const lk_product_args *p = &a->p;
    LK_BEGIN(b, t)
        LK_EVERY(b, t, i, a->batches * a->rows * p->k) {
            const int64_t inner = a->by_k ? p->k : a->rows, x = i % inner, y = i / inner % (a->by_k ? a->rows : p->k), batch = i / (a->rows * p->k);
            const int64_t row = a->by_k ? y : x, at = a->by_k ? x : y, taps = p->taps.kh * p->taps.kw, k = a->by_tap ? at % taps * p->taps.cg + at / taps : at;
            float v;
            if (a->side) v = lk_b_at(p, (const float *)a->from + batch * a->step, a->access, a->row0 + row, k);
            else {
                int64_t element = batch * a->step + lk_a_index(p, a->access, a->row0 + row, k);
                v = a->from_bf16 ? lk_of_bf16(((const uint16_t *)a->from)[element]) : ((const float *)a->from)[element];
            }
            const int64_t to = (batch * (a->by_k ? a->rows : p->k) + y) * a->ld + x;
            if (a->to_bf16) ((uint16_t *)a->to)[to] = lk_bf16_of(v); else ((float *)a->to)[to] = v;
        }
    LK_END
}
/* Bias and causal mask on a finished product; scale and add have been done. */
LK_BODY void lk_body_finish(lk_block *b, const lk_product_args *p) {
    int64_t all = p->m * p->n;
    for (int i = 0; i < p->rank; i++) all *= p->lead[i];
    LK_BEGIN(b, t)
        LK_EVERY(b, t, i, all) {
            int64_t n = i % p->n, m = i / p->n % p->m, batch = i / p->n / p->m;
            const float *bias = p->bias; float *c = p->c;
            for (int k = p->rank - 1; k >= 0; batch /= p->lead[k], k--) { int64_t at = batch % p->lead[k]; c += at * p->c_lead[k]; if (bias) bias += at * p->bias_lead[k]; }
            float *v = &c[lk_c_at(p, m, n)];
            *v = lk_product_end(p, bias, m, n, *v);
        }
    LK_END
}
#endif
