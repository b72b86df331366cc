/* Contractions (docs/numerics.md rule 2): one tile of 64 x 64 outputs a block, 4 x 4 a thread, operands in shared
 * memory 16 of k at a time. An output element is one thread's alone: a chain of fma over a block of 256 of k, added
 * to the blocks before it. Past the end of k nothing is multiplied (a product of zeros would turn -0 into +0).
 *
 * One body serves matmul, attention's products and the convolution triple; they differ in how an operand's element
 * (row, k) is found, a constant of each kernel:
 *   strided   row and k by strides, k in two levels (k % period, k / period)
 *   taps      conv2d: x under tap (kh, kw) of channel c, k = (kh, kw, c), column = pixel of y
 *   dx taps   conv2d_dx: dy reached by the lattice taps of one residue class, k = (kh, kw, o), column = pixel of the class
 *   dx weight conv2d_dx: w of the same k, row = c
 *   dw taps   conv2d_dw: x shifted, k = (n, pixel of y), column = (c, kh, kw) */
#ifndef LK_CUDA_BODY_PRODUCT_H
#define LK_CUDA_BODY_PRODUCT_H
#include "backend/cuda/phase.h"

enum { LK_TILE = 64, LK_TILE_K = 16, LK_PRODUCT_THREADS = 256, LK_K_BLOCK = 256, LK_LEAD = 4 };
typedef enum { LK_STRIDED, LK_TAPS, LK_DX_TAPS, LK_DX_WEIGHT, LK_DW_TAPS } lk_access;

typedef struct {
    int64_t cg, og, h, w, oh, ow, kh, kw, sh, sw, dh, dw, top, left;   /* channels in and out of a group; x, y, kernel, stride, dilation, padding */
    int64_t images;                                                    /* dw: distance of pictures in x */
    int64_t ry, rx, class_w;                                           /* dx: residue class, its pixels in a row */
    int64_t kh0, kh_step, kw0, kw_step, kw_count;                      /* dx: lattice taps of the class */
} lk_taps_args;
typedef struct {
    const float *a, *b, *bias; float *c;
    int64_t m, n, k;
    int64_t a_m, a_k, a_k_far, a_period, b_n, b_k, b_k_far, b_period;  /* strides; element k lies at k % period * _k + k / period * _k_far */
    int64_t c_m, c_n, c_n_far, c_period, bias_m, bias_n;
    int rank; int64_t lead[LK_LEAD], a_lead[LK_LEAD], b_lead[LK_LEAD], c_lead[LK_LEAD], bias_lead[LK_LEAD];   /* batch axes */
    int64_t tiles_m, tiles_n;
    float scale; int scaled, add;                                      /* add: the sum goes on from what c holds */
    const float *onto;                                                 /* laid out as c, maybe c itself: the finished product is added to it; NULL: none */
    int causal; int64_t causal_from;                                   /* -inf is added where column > row + causal_from */
    lk_taps_args taps;
} lk_product_args;

/* The lattice tap of k in conv2d_dx. */
typedef struct { int64_t o, kh, kw; } lk_lattice;
LK_BODY lk_lattice lk_lattice_at(const lk_taps_args *g, int64_t k) {
    lk_lattice l; int64_t r = k / g->og;
    l.o = k % g->og; l.kh = g->kh0 + r / g->kw_count * g->kh_step; l.kw = g->kw0 + r % g->kw_count * g->kw_step;
    return l;
}
LK_BODY float lk_pixel(const float *plane, int64_t y, int64_t x, int64_t h, int64_t w) {
    return y >= 0 && y < h && x >= 0 && x < w ? plane[y * w + x] : 0.0f;
}
LK_BODY int64_t lk_a_index(const lk_product_args *p, lk_access access, int64_t m, int64_t k) {
    if (access == LK_STRIDED) return m * p->a_m + k % p->a_period * p->a_k + k / p->a_period * p->a_k_far;
    lk_lattice l = lk_lattice_at(&p->taps, k);
    return ((l.o * p->taps.cg + m) * p->taps.kh + l.kh) * p->taps.kw + l.kw;
}
LK_BODY float lk_a_at(const lk_product_args *p, const float *a, lk_access access, int64_t m, int64_t k) { return a[lk_a_index(p, access, m, k)]; }
LK_BODY float lk_b_at(const lk_product_args *p, const float *b, lk_access access, int64_t n, int64_t k) {
    const lk_taps_args *g = &p->taps;
    if (access == LK_TAPS) {
        int64_t c = k % g->cg, tap = k / g->cg;
        return lk_pixel(b + c * g->h * g->w, n / g->ow * g->sh + tap / g->kw * g->dh - g->top, n % g->ow * g->sw + tap % g->kw * g->dw - g->left, g->h, g->w);
    }
    if (access == LK_DX_TAPS) {
        lk_lattice l = lk_lattice_at(g, k);
        int64_t y = (g->ry + n / g->class_w * g->sh + g->top - l.kh * g->dh) / g->sh, x = (g->rx + n % g->class_w * g->sw + g->left - l.kw * g->dw) / g->sw;
        return lk_pixel(b + l.o * g->oh * g->ow, y, x, g->oh, g->ow);
    }
    if (access == LK_DW_TAPS) {
        int64_t pixels = g->oh * g->ow, taps = g->kh * g->kw, c = n / taps, tap = n % taps, at = k % pixels;
        return lk_pixel(b + k / pixels * g->images + c * g->h * g->w, at / g->ow * g->sh + tap / g->kw * g->dh - g->top,
                        at % g->ow * g->sw + tap % g->kw * g->dw - g->left, g->h, g->w);
    }
    return b[n * p->b_n + k % p->b_period * p->b_k + k / p->b_period * p->b_k_far];
}

typedef struct { float chain[4][4], sum[4][4]; } lk_product_own;       /* a thread's 16 outputs: rows t/16 + 16 i, columns t%16 + 16 j */
typedef struct { float a[LK_TILE_K][LK_TILE + 1], b[LK_TILE_K][LK_TILE + 1]; } lk_product_shared;

LK_BODY int64_t lk_c_at(const lk_product_args *p, int64_t m, int64_t n) { return m * p->c_m + n % p->c_period * p->c_n + n / p->c_period * p->c_n_far; }
LK_BODY float lk_product_end(const lk_product_args *p, const float *bias, int64_t m, int64_t n, float v) {
    if (p->scaled) v = v * p->scale;
    if (bias) v = v + bias[m * p->bias_m + n * p->bias_n];
    if (p->causal && n > m + p->causal_from) v = v + -lk_inff();
    return v;
}
LK_BODY void lk_product_body(lk_block *blk, const lk_product_args *p, lk_access access_a, lk_access access_b) {
    LK_SHARED(lk_product_shared, tile);
    lk_product_own own[LK_EACH(LK_PRODUCT_THREADS)];
    const int64_t n0 = blk->index % p->tiles_n * LK_TILE, m0 = blk->index / p->tiles_n % p->tiles_m * LK_TILE;
    int64_t batch = blk->index / p->tiles_n / p->tiles_m;
    const float *a = p->a, *b = p->b, *bias = p->bias, *onto = p->onto; float *c = p->c;
    for (int i = p->rank - 1; i >= 0; batch /= p->lead[i], i--) {
        int64_t at = batch % p->lead[i];
        a += at * p->a_lead[i]; b += at * p->b_lead[i]; c += at * p->c_lead[i];
        if (bias) bias += at * p->bias_lead[i];
        if (onto) onto += at * p->c_lead[i];
    }
    LK_BEGIN(blk, t)
        lk_product_own *o = &own[LK_MINE(t)];
        for (int i = 0; i < 4; i++) for (int j = 0; j < 4; j++) {
            int64_t m = m0 + t / 16 + 16 * i, n = n0 + t % 16 + 16 * j;
            o->chain[i][j] = 0.0f;
            o->sum[i][j] = p->add && m < p->m && n < p->n ? c[lk_c_at(p, m, n)] : 0.0f;
        }
    LK_END
    for (int64_t k0 = 0; k0 < p->k; k0 += LK_TILE_K) {
        const int kc = (int)lk_lesser(LK_TILE_K, p->k - k0);
        LK_BEGIN(blk, t)
            for (int e = t; e < LK_TILE * LK_TILE_K; e += LK_PRODUCT_THREADS) {
                /* neighbouring threads read neighbouring elements: along k where k has stride 1, else along the rows */
                int by_k = access_a == LK_STRIDED && p->a_k == 1, k = by_k ? e % LK_TILE_K : e / LK_TILE, r = by_k ? e / LK_TILE_K : e % LK_TILE;
                tile.a[k][r] = k < kc && m0 + r < p->m ? lk_a_at(p, a, access_a, m0 + r, k0 + k) : 0.0f;
                by_k = access_b == LK_DW_TAPS || (access_b == LK_STRIDED && p->b_k == 1);
                k = by_k ? e % LK_TILE_K : e / LK_TILE; r = by_k ? e / LK_TILE_K : e % LK_TILE;
                tile.b[k][r] = k < kc && n0 + r < p->n ? lk_b_at(p, b, access_b, n0 + r, k0 + k) : 0.0f;
            }
        LK_SYNC(blk, t)
            lk_product_own *o = &own[LK_MINE(t)];
            for (int k = 0; k < kc; k++)
                for (int i = 0; i < 4; i++) for (int j = 0; j < 4; j++) o->chain[i][j] = lk_fmaf(tile.a[k][t / 16 + 16 * i], tile.b[k][t % 16 + 16 * j], o->chain[i][j]);
            if ((k0 + kc) % LK_K_BLOCK == 0 || k0 + kc == p->k)
                for (int i = 0; i < 4; i++) for (int j = 0; j < 4; j++) {
                    o->sum[i][j] = k0 < LK_K_BLOCK && !p->add ? o->chain[i][j] : o->sum[i][j] + o->chain[i][j];
                    o->chain[i][j] = 0.0f;
                }
        LK_END
    }
    LK_BEGIN(blk, t)
        const lk_product_own *o = &own[LK_MINE(t)];
        for (int i = 0; i < 4; i++) for (int j = 0; j < 4; j++) {
            int64_t m = m0 + t / 16 + 16 * i, n = n0 + t % 16 + 16 * j;
            if (m >= p->m || n >= p->n) continue;
            const float v = lk_product_end(p, bias, m, n, o->sum[i][j]);
            c[lk_c_at(p, m, n)] = onto ? onto[lk_c_at(p, m, n)] + v : v;
        }
    LK_END
}
LK_BODY void lk_body_product(lk_block *b, const lk_product_args *p) { lk_product_body(b, p, LK_STRIDED, LK_STRIDED); }
LK_BODY void lk_body_conv(lk_block *b, const lk_product_args *p)    { lk_product_body(b, p, LK_STRIDED, LK_TAPS); }
LK_BODY void lk_body_conv_dx(lk_block *b, const lk_product_args *p) { lk_product_body(b, p, LK_DX_WEIGHT, LK_DX_TAPS); }
LK_BODY void lk_body_conv_dw(lk_block *b, const lk_product_args *p) { lk_product_body(b, p, LK_STRIDED, LK_DW_TAPS); }
#endif
