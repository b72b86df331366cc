/* Private to attention.c: softmax and its gradient down the columns of a panel [keys][32], a query a lane
 * (docs/numerics.md rules 3, 4, 6). Key j adds to the 32 lanes' row j mod 32 of sums, which fold by halves, chunks of
 * 4096 in a tree: what rows.h does along a row, with other queries beside it instead of other keys. */
#ifndef LK_SOFTMAX_PANEL_H
#define LK_SOFTMAX_PANEL_H
#include "backend/cpu/kernels/gemm.h"
#include "backend/cpu/kernels/rows.h"

typedef float lk_panel_row[LK_PANEL] __attribute__((aligned(64)));
typedef struct { lk_panel_row lane[LK_LANES], level[LK_LEVELS]; int64_t chunks; } lk_panel_sum;

/* `width` below is 16 or 32, a constant where this is inlined. */
static inline __attribute__((always_inline)) void lk_panel_clear(lk_panel_sum *s) { memset(s->lane, 0, sizeof s->lane); }
static inline __attribute__((always_inline)) void lk_panel_sum_begin(lk_panel_sum *s) { lk_panel_clear(s); s->chunks = 0; }
static inline __attribute__((always_inline)) void lk_panel_fold(lk_panel_sum *s, const int width) {
    for (int half = LK_LANES / 2; half; half /= 2)
        for (int l = 0; l < half; l++) { LK_IVDEP for (int i = 0; i < width; i++) s->lane[l][i] += s->lane[l + half][i]; }
}
static inline __attribute__((always_inline)) void lk_panel_sum_close(lk_panel_sum *s, const int width) {
    int k = 0;
    lk_panel_fold(s, width);
    for (int64_t c = s->chunks++; c & 1; c >>= 1, k++) { LK_IVDEP for (int i = 0; i < width; i++) s->lane[0][i] = s->level[k][i] + s->lane[0][i]; }
    memcpy(s->level[k], s->lane[0], sizeof s->level[k]);
    lk_panel_clear(s);
}
/* The sums stand in lane[0] then. open: the last chunk holds keys. */
static inline __attribute__((always_inline)) void lk_panel_sum_end(lk_panel_sum *s, bool open, const int width) {
    if (!s->chunks) { lk_panel_fold(s, width); return; }
    if (open) lk_panel_sum_close(s, width);
    int k = __builtin_ctzll((unsigned long long)s->chunks);
    memcpy(s->lane[0], s->level[k], sizeof s->lane[0]);
    for (k++; s->chunks >> k; k++)
        if (s->chunks >> k & 1) { LK_IVDEP for (int i = 0; i < width; i++) s->lane[0][i] = s->level[k][i] + s->lane[0][i]; }
}

/* The largest and the smallest of each lane, times scale. */
static inline __attribute__((always_inline)) void lk_panel_extremes(const float *p, int64_t keys, float scale, const int width, float *m, float *low) {
    LK_IVDEP for (int i = 0; i < width; i++) m[i] = low[i] = p[i] * scale;
    for (int64_t j = 1; j < keys; j++) {
        const float *x = p + j * LK_PANEL;
        LK_IVDEP for (int i = 0; i < width; i++) {
            float v = x[i] * scale;
            m[i] = v > m[i] ? v : m[i];
            low[i] = v < low[i] ? v : low[i];
        }
    }
}
static inline __attribute__((always_inline)) void lk_softmax_columns(float *p, int64_t keys, float scale, const float *m, const float *low, const int width) {
    lk_panel_sum s;
    lk_panel_sum_begin(&s);
    lk_panel_row r;
    bool tame = true;                                     /* e^-55 > 2^-80; false for a NaN */
    for (int i = 0; i < width; i++) tame &= low[i] - m[i] > -55.0f;
    for (int64_t j = 0; j < keys; j++) {
        float *x = p + j * LK_PANEL, *sum = s.lane[j % LK_LANES];
        if (tame) { LK_IVDEP for (int i = 0; i < width; i++) { float e = lk_exp_smallf(x[i] * scale - m[i]); x[i] = e; sum[i] += e; } }
        else { LK_IVDEP for (int i = 0; i < width; i++) { float e = lk_expf(x[i] * scale - m[i]); x[i] = e; sum[i] += e; } }
        if (j % LK_CHUNK == LK_CHUNK - 1) lk_panel_sum_close(&s, width);
    }
    lk_panel_sum_end(&s, keys % LK_CHUNK, width);
    const float *sum = s.lane[0];
    LK_IVDEP for (int i = 0; i < width; i++) r[i] = 1.0f / sum[i];
    for (int64_t j = 0; j < keys; j++) {
        float *x = p + j * LK_PANEL;
        if (tame) { LK_IVDEP for (int i = 0; i < width; i++) x[i] = lk_quotientf(x[i], sum[i], r[i]); }
        else { LK_IVDEP for (int i = 0; i < width; i++) x[i] = x[i] / sum[i]; }
    }
}
/* dy = y * (dy - sum), a lane. */
static inline __attribute__((always_inline)) void lk_softmax_dx_finish(const float *p, float *ds, int64_t keys, const float *sum, const int width) {
    for (int64_t j = 0; j < keys; j++) {
        const float *y = p + j * LK_PANEL;
        float *dy = ds + j * LK_PANEL;
        LK_IVDEP for (int i = 0; i < width; i++) dy[i] = y[i] * (dy[i] - sum[i]);
    }
}
static inline __attribute__((always_inline)) void lk_softmax_dx_columns(const float *p, float *ds, int64_t keys, const int width) {
    lk_panel_sum s;
    lk_panel_sum_begin(&s);
    for (int64_t j = 0; j < keys; j++) {
        const float *y = p + j * LK_PANEL, *dy = ds + j * LK_PANEL;
        float *sum = s.lane[j % LK_LANES];
        LK_IVDEP for (int i = 0; i < width; i++) sum[i] += y[i] * dy[i];
        if (j % LK_CHUNK == LK_CHUNK - 1) lk_panel_sum_close(&s, width);
    }
    lk_panel_sum_end(&s, keys % LK_CHUNK, width);
    lk_softmax_dx_finish(p, ds, keys, s.lane[0], width);
}
static inline __attribute__((always_inline)) void lk_softmax_width(float *p, int64_t keys, float scale, const int width) {
    lk_panel_row m, low;
    lk_panel_extremes(p, keys, scale, width, m, low);
    lk_softmax_columns(p, keys, scale, m, low, width);
}
/* p [keys][32] = softmax over keys of p * scale, of the first n lanes at least; keys >= 1. */
static inline void lk_softmax_panel(float *p, int64_t keys, int n, float scale) {
    if (n > 16) lk_softmax_width(p, keys, scale, 32); else lk_softmax_width(p, keys, scale, 16);
}
/* ds = p * (ds - sum over keys of p * ds). */
static inline void lk_softmax_dx_panel(const float *p, float *ds, int64_t keys, int n) {
    if (n > 16) lk_softmax_dx_columns(p, ds, keys, 32); else lk_softmax_dx_columns(p, ds, keys, 16);
}
#endif
