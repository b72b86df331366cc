/* What reduces: sums in the one order of docs/numerics.md rule 3, maxima (rule 6), softmax and the norms (rule 4).
 * A block takes one row (or group, or output). Its threads stand in teams of 32, one lane each; a team adds one chunk
 * of 4096 and folds it by halves, thread 0 pushes the chunks' results, in order, on a binary counter of partial sums
 * (level k holds 2^k chunks), which is the tree of rule 3. */
#ifndef LK_CUDA_BODY_ROW_H
#define LK_CUDA_BODY_ROW_H
#include "backend/cuda/phase.h"

enum { LK_ROW_THREADS = 128, LK_ROW_LANES = 32, LK_ROW_TEAMS = 4, LK_ROW_CHUNK = 4096, LK_ROW_LEVELS = 48 };
typedef struct { float lane[LK_ROW_TEAMS][LK_ROW_LANES], level[LK_ROW_LEVELS], value; int64_t chunks; } lk_row_sum;

/* ---- the terms of a sum: which, a constant where it is called ------------------------------------------------- */
/* Kept and reduced axes of x; output o adds the elements row-major over the reduced ones. */
typedef struct { float *out; const float *x; int n_kept, n_red; int64_t kept[LK_AXES], kept_stride[LK_AXES], red[LK_AXES], red_stride[LK_AXES], outputs, count; } lk_reduce_args;
typedef enum { LK_TERM_X, LK_TERM_DOT, LK_TERM_SQUARE, LK_TERM_G, LK_TERM_G_XHAT, LK_TERM_REDUCED } lk_term;
typedef struct {
    const float *x, *dy, *gamma; float m, r;
    int64_t first, span;                          /* gamma of element i: first + i / span */
    const lk_reduce_args *reduced;
} lk_terms;
LK_BODY int64_t lk_axes_offset(int n, const int64_t *d, const int64_t *stride, int64_t i) {
    int64_t at = 0;
    for (int k = n - 1; k >= 0; i /= d[k], k--) at += i % d[k] * stride[k];
    return at;
}
LK_BODY float lk_gamma_at(const lk_terms *s, int64_t i) { return s->gamma ? s->gamma[s->first + i / s->span] : 1.0f; }
LK_BODY float lk_term_at(const lk_terms *s, lk_term kind, int64_t i) {
    switch (kind) {
        case LK_TERM_X: return s->x[i];
        case LK_TERM_DOT: return s->x[i] * s->dy[i];
        case LK_TERM_SQUARE: return (s->x[i] - s->m) * (s->x[i] - s->m);
        case LK_TERM_G: return s->dy[i] * lk_gamma_at(s, i);
        case LK_TERM_G_XHAT: return (s->dy[i] * lk_gamma_at(s, i)) * ((s->x[i] - s->m) * s->r);
        default: return s->x[lk_axes_offset(s->reduced->n_red, s->reduced->red, s->reduced->red_stride, i)];
    }
}
LK_BODY void lk_row_push(lk_row_sum *s, float v) {
    int k = 0;
    for (int64_t c = s->chunks; c & 1; c >>= 1, k++) v = s->level[k] + v;
    s->level[k] = v;
    s->chunks++;
}
LK_BODY float lk_row_total(const lk_row_sum *s) {
    float v = 0.0f; int found = 0;
    for (int k = 0; s->chunks >> k; k++) if (s->chunks >> k & 1) { v = found ? s->level[k] + v : s->level[k]; found = 1; }
    return v;
}
LK_BODY void lk_row_halve(lk_row_sum *s, int t, int half) {
    int team = t / LK_ROW_LANES, lane = t % LK_ROW_LANES;
    if (lane < half) s->lane[team][lane] += s->lane[team][lane + half];
}
LK_BODY float lk_row_sum_of(lk_block *b, lk_row_sum *s, const lk_terms *terms, lk_term kind, int64_t n) {
    LK_BEGIN(b, t) if (t == 0) s->chunks = 0; LK_END
    for (int64_t first = 0; first < n; first += LK_ROW_TEAMS * LK_ROW_CHUNK) {
        LK_BEGIN(b, t)
            int64_t begin = first + t / LK_ROW_LANES * LK_ROW_CHUNK, end = lk_lesser(begin + LK_ROW_CHUNK, n);
            float lane = 0.0f;
            for (int64_t i = begin + t % LK_ROW_LANES; i < end; i += LK_ROW_LANES) lane += lk_term_at(terms, kind, i);
            s->lane[t / LK_ROW_LANES][t % LK_ROW_LANES] = lane;
        LK_SYNC(b, t) lk_row_halve(s, t, 16);
        LK_SYNC(b, t) lk_row_halve(s, t, 8);
        LK_SYNC(b, t) lk_row_halve(s, t, 4);
        LK_SYNC(b, t) lk_row_halve(s, t, 2);
        LK_SYNC(b, t) lk_row_halve(s, t, 1);
        LK_SYNC(b, t)
            for (int team = 0; t == 0 && team < LK_ROW_TEAMS; team++) if (first + team * LK_ROW_CHUNK < n) lk_row_push(s, s->lane[team][0]);
        LK_END
    }
    LK_BEGIN(b, t) if (t == 0) s->value = lk_row_total(s); LK_END
    return s->value;
}

/* ---- rule 6: the first maximum, and where it stands ------------------------------------------------------------ */
typedef struct { float value[LK_ROW_THREADS]; int64_t at[LK_ROW_THREADS]; } lk_row_max;
LK_BODY void lk_row_max_of(lk_block *b, lk_row_max *s, const lk_terms *terms, lk_term kind, int64_t n) {
    LK_BEGIN(b, t)
        float m = lk_term_at(terms, kind, 0); int64_t at = 0;              /* a NaN that comes first stays */
        for (int64_t i = t; i < n; i += LK_ROW_THREADS) { float v = lk_term_at(terms, kind, i); if (v > m) { m = v; at = i; } else if (v == m && i < at) at = i; }
        s->value[t] = m; s->at[t] = at;
    LK_END
    for (int half = LK_ROW_THREADS / 2; half; half /= 2) {
        LK_BEGIN(b, t)
            if (t < half) {
                float v = s->value[t + half]; int64_t at = s->at[t + half];
                if (v > s->value[t] || (v == s->value[t] && at < s->at[t])) { s->value[t] = v; s->at[t] = at; }
            }
        LK_END
    }
}

/* ---- reductions ---------------------------------------------------------------------------------------------------- */
LK_BODY lk_terms lk_reduced_terms(const lk_reduce_args *a, int64_t output) {
    lk_terms s = {0};
    s.x = a->x + lk_axes_offset(a->n_kept, a->kept, a->kept_stride, output); s.reduced = a;
    return s;
}
LK_BODY void lk_body_reduce_sum(lk_block *b, const lk_reduce_args *a) {
    LK_SHARED(lk_row_sum, sum);
    lk_terms s = lk_reduced_terms(a, b->index);
    float v = lk_row_sum_of(b, &sum, &s, LK_TERM_REDUCED, a->count);
    LK_BEGIN(b, t) if (t == 0) a->out[b->index] = v; LK_END
}
LK_BODY void lk_body_reduce_max(lk_block *b, const lk_reduce_args *a) {
    LK_SHARED(lk_row_max, best);
    lk_terms s = lk_reduced_terms(a, b->index);
    if (a->count) lk_row_max_of(b, &best, &s, LK_TERM_REDUCED, a->count);
    LK_BEGIN(b, t) if (t == 0) a->out[b->index] = a->count ? lk_term_at(&s, LK_TERM_REDUCED, best.at[0]) : -lk_inff(); LK_END
}
LK_BODY void lk_body_max_mask(lk_block *b, const lk_reduce_args *a) {
    LK_SHARED(lk_row_max, best);
    lk_terms s = lk_reduced_terms(a, b->index);
    int64_t base = lk_axes_offset(a->n_kept, a->kept, a->kept_stride, b->index);
    if (a->count) lk_row_max_of(b, &best, &s, LK_TERM_REDUCED, a->count);
    LK_BEGIN(b, t)
        for (int64_t i = t; i < a->count; i += LK_ROW_THREADS) a->out[base + lk_axes_offset(a->n_red, a->red, a->red_stride, i)] = i == best.at[0] ? 1.0f : 0.0f;
    LK_END
}

/* ---- softmax: the output may be the input ---------------------------------------------------------------------------- */
typedef struct { float *out; const float *x, *dy; int64_t n; } lk_softmax_args;      /* dx: x is y */
LK_BODY void lk_body_softmax(lk_block *b, const lk_softmax_args *a) {
    LK_SHARED(lk_row_sum, sum);
    LK_SHARED(lk_row_max, best);
    float *y = a->out + b->index * a->n;
    lk_terms s = {0};
    s.x = a->x + b->index * a->n;
    lk_row_max_of(b, &best, &s, LK_TERM_X, a->n);
    float m = best.value[0];
    LK_BEGIN(b, t) for (int64_t i = t; i < a->n; i += LK_ROW_THREADS) y[i] = lk_expf(s.x[i] - m); LK_END
    s.x = y;
    float total = lk_row_sum_of(b, &sum, &s, LK_TERM_X, a->n);
    LK_BEGIN(b, t) for (int64_t i = t; i < a->n; i += LK_ROW_THREADS) y[i] = y[i] / total; LK_END
}
LK_BODY void lk_body_softmax_dx(lk_block *b, const lk_softmax_args *a) {
    LK_SHARED(lk_row_sum, sum);
    float *dx = a->out + b->index * a->n;
    lk_terms s = {0};
    s.x = a->x + b->index * a->n; s.dy = a->dy + b->index * a->n;
    float total = lk_row_sum_of(b, &sum, &s, LK_TERM_DOT, a->n);
    LK_BEGIN(b, t) for (int64_t i = t; i < a->n; i += LK_ROW_THREADS) dx[i] = s.x[i] * (s.dy[i] - total); LK_END
}

/* ---- layer, rms and group norm. Without gamma and beta 1 and -0 stand in, which change no bit; rms has mean 0. ----------- */
typedef struct { float *out; const float *x, *dy, *gamma, *beta; int64_t n, channels, groups, span; float count, eps; int rms, silu; } lk_norm_args;
LK_BODY lk_terms lk_norm_terms(lk_block *b, lk_row_sum *sum, const lk_norm_args *a) {
    lk_terms s = {0};
    s.x = a->x + b->index * a->n; s.gamma = a->gamma; s.span = a->span;
    s.first = a->groups ? b->index % a->groups * a->channels : 0;
    s.m = a->rms ? 0.0f : lk_row_sum_of(b, sum, &s, LK_TERM_X, a->n) / a->count;
    s.r = 1.0f / lk_sqrtf(lk_row_sum_of(b, sum, &s, LK_TERM_SQUARE, a->n) / a->count + a->eps);
    return s;
}
LK_BODY float lk_affine_at(const lk_norm_args *a, const lk_terms *s, int64_t i) {
    return ((s->x[i] - s->m) * s->r) * lk_gamma_at(s, i) + (a->beta ? a->beta[s->first + i / s->span] : -0.0f);
}
LK_BODY void lk_body_norm(lk_block *b, const lk_norm_args *a) {
    LK_SHARED(lk_row_sum, sum);
    lk_terms s = lk_norm_terms(b, &sum, a);
    float *y = a->out + b->index * a->n;
    LK_BEGIN(b, t) for (int64_t i = t; i < a->n; i += LK_ROW_THREADS) { float h = lk_affine_at(a, &s, i); y[i] = a->silu ? lk_siluf(h) : h; } LK_END
}
/* With silu the cotangent of the norm itself is written to dx first, then read from there. */
LK_BODY void lk_body_norm_dx(lk_block *b, const lk_norm_args *a) {
    LK_SHARED(lk_row_sum, sum);
    lk_terms s = lk_norm_terms(b, &sum, a);
    float *dx = a->out + b->index * a->n;
    const float *dy = a->dy + b->index * a->n;
    LK_BEGIN(b, t) for (int64_t i = t; a->silu && i < a->n; i += LK_ROW_THREADS) dx[i] = lk_silu_dxf(lk_affine_at(a, &s, i), dy[i]); LK_END
    s.dy = a->silu ? dx : dy;
    float mean_g = a->rms ? 0.0f : lk_row_sum_of(b, &sum, &s, LK_TERM_G, a->n) / a->count;
    float mean_gx = lk_row_sum_of(b, &sum, &s, LK_TERM_G_XHAT, a->n) / a->count;
    LK_BEGIN(b, t)
        for (int64_t i = t; i < a->n; i += LK_ROW_THREADS) dx[i] = ((s.dy[i] * lk_gamma_at(&s, i) - mean_g) - ((s.x[i] - s.m) * s.r) * mean_gx) * s.r;
    LK_END
}
#endif
