/* Private to attention.c: the product of keys with 32 queries into a panel [keys][32], and what its elements are first used for while
 * they stand in registers: extremes before softmax, or sums of p * dp before its gradient. Keys are read where they lie, so short
 * heads (4 to 16 features) cost no packing; one block of rule 2 (d <= LK_KC), one chain an element. */
#ifndef LK_SCORE_PANEL_H
#define LK_SCORE_PANEL_H
#include "backend/cpu/kernels/softmax_panel.h"
#include "backend/cpu/kernels/vec.h"

enum { LK_KEYS = VW == 1 ? 2 : VW == 8 ? 4 : 8 };           /* keys at a time: what registers hold */
typedef struct { const float *keys; int64_t ld, n; const float *q /* [d][32] */; int64_t d; } lk_scores;

/* nr, nv and the rest of a caller's choices are constants where this is inlined. */
static inline __attribute__((always_inline)) void lk_score_rows(const lk_scores *s, int64_t j, int v0, const int nr, const int nv, vec acc[LK_KEYS][NV]) {
    const float *key = s->keys + j * s->ld, *q = s->q + v0;
    const int64_t ld = s->ld;
#pragma GCC unroll 8
    for (int i = 0; i < nr; i++)
#pragma GCC unroll 4
        for (int v = 0; v < nv; v++) acc[i][v] = v_zero();
    for (int64_t c = 0; c < s->d; c++, q += LK_PANEL) {
        vec qv[NV];
#pragma GCC unroll 4
        for (int v = 0; v < nv; v++) qv[v] = v_load(q + v * VW);
#pragma GCC unroll 8
        for (int i = 0; i < nr; i++) {
            const vec k = v_set(key[i * ld + c]);
#pragma GCC unroll 4
            for (int v = 0; v < nv; v++) acc[i][v] = v_fma(k, qv[v], acc[i][v]);
        }
    }
}
/* Scores of keys [j, j + nr), and m, low over them. */
static inline __attribute__((always_inline)) void lk_score_extremes(const lk_scores *s, int64_t j, int v0, const int nr, const int nv, float *p, vec scale, vec *m, vec *low) {
    vec acc[LK_KEYS][NV];
    lk_score_rows(s, j, v0, nr, nv, acc);
#pragma GCC unroll 8
    for (int i = 0; i < nr; i++)
#pragma GCC unroll 4
        for (int v = 0; v < nv; v++) {
            v_store(p + (j + i) * LK_PANEL + v0 + v * VW, acc[i][v]);
            const vec x = v_mul(acc[i][v], scale);
            m[v] = v_max(x, m[v]);
            low[v] = v_min(x, low[v]);
        }
}
/* Blocks of keys: the last ones by halves. */
#define LK_EACH_KEYS(s, j, F) do { \
    for (; j + LK_KEYS <= (s)->n; j += LK_KEYS) F(LK_KEYS); \
    if (LK_KEYS > 4 && (s)->n - j >= 4) { F((LK_KEYS > 4 ? 4 : 1)); j += 4; } \
    if (LK_KEYS > 2 && (s)->n - j >= 2) { F((LK_KEYS > 2 ? 2 : 1)); j += 2; } \
    if ((s)->n - j) F(1); \
} while (0)
static inline __attribute__((always_inline)) void lk_score_strip(const lk_scores *s, int v0, const int nv, float *p, float scale, float *m, float *low) {
    vec hi[NV], lo[NV], first[LK_KEYS][NV];
    const vec by = v_set(scale);
    int64_t j = 0;
    lk_score_rows(s, 0, v0, 1, nv, first);
    for (int v = 0; v < nv; v++) hi[v] = lo[v] = v_mul(first[0][v], by);
#define LK_F(nr) lk_score_extremes(s, j, v0, nr, nv, p, by, hi, lo)
    LK_EACH_KEYS(s, j, LK_F);
#undef LK_F
    for (int v = 0; v < nv; v++) { v_store(m + v0 + v * VW, hi[v]); v_store(low + v0 + v * VW, lo[v]); }
}
static inline __attribute__((always_inline)) void lk_softmax_scores_width(const lk_scores *s, float *p, float scale, const int nv, const int width) {
    lk_panel_row m, low;
    for (int v0 = 0; v0 < width; v0 += nv * VW) lk_score_strip(s, v0, nv, p, scale, m, low);
    lk_softmax_columns(p, s->n, scale, m, low, width);
}
/* p [keys][32] = softmax over keys of (keys q) * scale, of the first n lanes at least. */
static inline void lk_softmax_scores(const lk_scores *s, int n, float *p, float scale) {
    if (n > 16) lk_softmax_scores_width(s, p, scale, NV, 32); else lk_softmax_scores_width(s, p, scale, VW == 16 ? 1 : NV, 16);
}

/* dp of keys [j, j + nr) in ds, and p * dp into the sums' lanes. */
static inline __attribute__((always_inline)) void lk_score_sums(const lk_scores *s, int64_t j, int v0, const int nr, const int nv, const float *p, float *ds, lk_panel_sum *sum) {
    vec acc[LK_KEYS][NV];
    lk_score_rows(s, j, v0, nr, nv, acc);
#pragma GCC unroll 8
    for (int i = 0; i < nr; i++) {
        float *lane = sum->lane[(j + i) % LK_LANES] + v0;
#pragma GCC unroll 4
        for (int v = 0; v < nv; v++) {
            const int64_t at = (j + i) * LK_PANEL + v0 + v * VW;
            v_store(ds + at, acc[i][v]);
            v_store(lane + v * VW, v_add(v_load(lane + v * VW), v_mul(v_load(p + at), acc[i][v])));
        }
    }
}
static inline __attribute__((always_inline)) void lk_softmax_dx_scores_width(const lk_scores *s, const float *p, float *ds, const int nv, const int width) {
    lk_panel_sum sum;
    int64_t j = 0;
    lk_panel_sum_begin(&sum);
#define LK_F(nr) do { \
        for (int v0 = 0; v0 < width; v0 += nv * VW) lk_score_sums(s, j, v0, nr, nv, p, ds, &sum); \
        if ((j + nr) % LK_CHUNK == 0) lk_panel_sum_close(&sum, width); \
    } while (0)
    LK_EACH_KEYS(s, j, LK_F);
#undef LK_F
    lk_panel_sum_end(&sum, s->n % LK_CHUNK, width);
    lk_softmax_dx_finish(p, ds, s->n, sum.lane[0], width);
}
/* ds [keys][32] = p * (dp - sum over keys of p * dp), dp = keys q (values and the outputs' cotangents), of the first n lanes at least. */
static inline void lk_softmax_dx_scores(const lk_scores *s, int n, const float *p, float *ds) {
    if (n > 16) lk_softmax_dx_scores_width(s, p, ds, NV, 32); else lk_softmax_dx_scores_width(s, p, ds, VW == 16 ? 1 : NV, 16);
}
#endif
