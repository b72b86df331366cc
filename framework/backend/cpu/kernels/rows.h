/* Private to the CPU kernels: sums, maxima and the softmax of contiguous runs, by docs/numerics.md
 * rules 3, 4 and 6. Every kernel that reduces goes through here, so that there is one order of sums.
 *
 * A sum is a stream: lk_sum_begin, any number of runs pushed one after another (elements in row-major
 * order of the reduced axes), lk_sum_end. The 32 lanes are one vector of the widest machine (2 zmm, 4 ymm
 * or 32 scalars): element p of a chunk always goes to lane p mod 32, wherever a run starts. Chunk results
 * stand in a binary counter: level k holds a sum of 2^k chunks, which gives the tree of rule 3 (pairs
 * level by level, the odd one carried up) in memory that does not grow with the row. */
#ifndef LK_ROWS_H
#define LK_ROWS_H
#include "backend/cpu/kernels/kernels.h"
#include "base/exact_math.h"
#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif
#include <string.h>

enum { LK_LANES = 32, LK_CHUNK = 4096, LK_LEVELS = 48 };

/* ---- one machine vector -------------------------------------------------------------------- */
#if defined(__AVX512F__)
enum { LK_VW = 16 };
typedef float lk_vf __attribute__((vector_size(64)));
typedef float lk_vfu __attribute__((vector_size(64), aligned(4), may_alias));
static inline lk_vf lk_v_max(lk_vf x, lk_vf m) { return (lk_vf)_mm512_max_ps((__m512)x, (__m512)m); }   /* x > m ? x : m */
#elif defined(__AVX2__)
enum { LK_VW = 8 };
typedef float lk_vf __attribute__((vector_size(32)));
typedef float lk_vfu __attribute__((vector_size(32), aligned(4), may_alias));
static inline lk_vf lk_v_max(lk_vf x, lk_vf m) { return (lk_vf)_mm256_max_ps((__m256)x, (__m256)m); }
#else
enum { LK_VW = 1 };
typedef float lk_vf;
typedef float lk_vfu;
static inline lk_vf lk_v_max(lk_vf x, lk_vf m) { return x > m ? x : m; }
#endif
enum { LK_NV = LK_LANES / LK_VW };
#define LK_LDV(p, i) (*(const lk_vfu *)((p) + (i)))
#define LK_LDS(p, i) ((p)[i])

/* ---- rule 3 ----------------------------------------------------------------------------------- */
typedef struct {
    float lane[LK_LANES] __attribute__((aligned(64)));
    int64_t pos;               /* elements in the open chunk */
    int64_t chunks;            /* chunks closed */
    float level[LK_LEVELS];    /* valid where the bit of `chunks` is set */
} lk_sum;

static inline void lk_sum_begin(lk_sum *s) { memset(s->lane, 0, sizeof s->lane); s->pos = s->chunks = 0; }
/* The fold by halves of 32 lanes in LK_NV vectors. */
static inline float lk_v_fold(const lk_vf *a) {
#if defined(__AVX512F__) || defined(__AVX2__)
#if defined(__AVX512F__)
    lk_vf h = a[0] + a[1];                                                  /* l += l + 16 */
    __m256 q = _mm512_castps512_ps256((__m512)h) + _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd((__m512)h), 1));
#else
    __m256 q = (__m256)((a[0] + a[2]) + (a[1] + a[3]));                     /* l += l + 16, l += l + 8 */
#endif
    __m128 d = _mm256_castps256_ps128(q) + _mm256_extractf128_ps(q, 1);     /* l += l + 4 */
    d = d + _mm_movehl_ps(d, d);                                            /* l += l + 2 */
    return d[0] + d[1];
#else
    float h[16];
    for (int l = 0; l < 16; l++) h[l] = a[l] + a[l + 16];
    for (int l = 0; l < 8; l++) h[l] += h[l + 8];
    for (int l = 0; l < 4; l++) h[l] += h[l + 4];
    return (h[0] + h[2]) + (h[1] + h[3]);
#endif
}
static inline float lk_lanes_fold(const float *lane) {
    lk_vf a[LK_NV];
    _Pragma("GCC unroll 32") for (int j = 0; j < LK_NV; j++) a[j] = LK_LDV(lane, j * LK_VW);
    return lk_v_fold(a);
}
/* Fewer than 32 elements stand one in a lane; the other lanes are +0, which added to a sum that began at +0 changes nothing. */
static inline float lk_few_fold(float *lane, int n) {
    for (int half = LK_LANES / 2; half; half /= 2) {
        for (int l = half; l < n; l++) lane[l - half] += lane[l];
        n = n < half ? n : half;
    }
    return n ? lane[0] : 0.0f;
}
static inline void lk_sum_close(lk_sum *s) {
    float v = lk_lanes_fold(s->lane);
    int k = 0;
    for (int64_t c = s->chunks++; c & 1; c >>= 1) { v = s->level[k] + v; k++; }
    s->level[k] = v;
    memset(s->lane, 0, sizeof s->lane); s->pos = 0;
}
static inline float lk_sum_end(lk_sum *s) {
    if (!s->chunks) return s->pos ? lk_lanes_fold(s->lane) : 0.0f;
    if (s->pos) lk_sum_close(s);
    int k = __builtin_ctzll((unsigned long long)s->chunks);
    float v = s->level[k];
    for (k++; s->chunks >> k; k++) if (s->chunks >> k & 1) v = s->level[k] + v;
    return v;
}

/* Defines name(s, n, ...), which pushes n values of the expression E(L, i), in which L(p, i) reads element i of p,
 * and row_name(n, args), the sum of such a run alone, with a short way for common lengths. ARGS and its names: the
 * pointers and numbers E reads. Names of the macro's own end in _ so that they hide no argument. */
#define LK_ARGS(...) __VA_ARGS__
#define LK_SUM_RUN(name, E, DECLS, NAMES) \
static inline __attribute__((unused)) void name(lk_sum *s, int64_t n, DECLS) { \
    for (int64_t i = 0; i < n;) { \
        if ((s->pos & (LK_LANES - 1)) || n - i < LK_LANES) { \
            int64_t stop_ = lk_k_min(n, i + LK_LANES - (s->pos & (LK_LANES - 1))); \
            float *lane_ = s->lane + (s->pos & (LK_LANES - 1)); \
            s->pos += stop_ - i; \
            for (; i < stop_; i++) *lane_++ += E(LK_LDS, i); \
        } else { \
            int64_t blocks_ = lk_k_min(n - i, LK_CHUNK - s->pos) / LK_LANES; \
            lk_vf acc_[LK_NV]; \
            _Pragma("GCC unroll 32") for (int j_ = 0; j_ < LK_NV; j_++) acc_[j_] = LK_LDV(s->lane, j_ * LK_VW); \
            s->pos += blocks_ * LK_LANES; \
            for (; blocks_ > 0; blocks_--, i += LK_LANES) { \
                _Pragma("GCC unroll 32") for (int j_ = 0; j_ < LK_NV; j_++) acc_[j_] += E(LK_LDV, i + j_ * LK_VW); \
            } \
            _Pragma("GCC unroll 32") for (int j_ = 0; j_ < LK_NV; j_++) *(lk_vfu *)(s->lane + j_ * LK_VW) = acc_[j_]; \
        } \
        if (s->pos == LK_CHUNK) lk_sum_close(s); \
    } \
} \
static inline __attribute__((unused)) float row_##name(int64_t n, DECLS) { \
    if (n < LK_LANES) { \
        float few_[LK_LANES]; \
        for (int64_t i = 0; i < n; i++) few_[i] = 0.0f + E(LK_LDS, i); \
        return lk_few_fold(few_, (int)n); \
    } \
    if (n <= LK_CHUNK) { \
        lk_vf acc_[LK_NV]; \
        _Pragma("GCC unroll 32") for (int j_ = 0; j_ < LK_NV; j_++) acc_[j_] = (lk_vf){0}; \
        int64_t i = 0; \
        for (; i + LK_LANES <= n; i += LK_LANES) { \
            _Pragma("GCC unroll 32") for (int j_ = 0; j_ < LK_NV; j_++) acc_[j_] += E(LK_LDV, i + j_ * LK_VW); \
        } \
        if (i < n) {                                     /* lanes without an element add +0, as in lk_few_fold */ \
            float tail_[LK_LANES] __attribute__((aligned(64))) = {0}; \
            for (float *to_ = tail_; i < n; i++) *to_++ = E(LK_LDS, i); \
            _Pragma("GCC unroll 32") for (int j_ = 0; j_ < LK_NV; j_++) acc_[j_] += LK_LDV(tail_, j_ * LK_VW); \
        } \
        return lk_v_fold(acc_); \
    } \
    lk_sum sum_; lk_sum_begin(&sum_); \
    name(&sum_, n, NAMES); \
    return lk_sum_end(&sum_); \
}
#define LK_E_ADD(L, i) L(x, i)
#define LK_E_DOT(L, i) (L(a, i) * L(b, i))
#define LK_E_SQDIFF(L, i) ((L(x, i) - m) * (L(x, i) - m))
LK_SUM_RUN(lk_sum_run, LK_E_ADD, LK_ARGS(const float *x), LK_ARGS(x))                                   /* x */
LK_SUM_RUN(lk_sum_run_dot, LK_E_DOT, LK_ARGS(const float *a, const float *b), LK_ARGS(a, b))           /* a * b */
LK_SUM_RUN(lk_sum_run_sqdiff, LK_E_SQDIFF, LK_ARGS(const float *x, float m), LK_ARGS(x, m))            /* (x - m)^2 */

static inline float lk_row_sum(const float *x, int64_t n) { return row_lk_sum_run(n, x); }
static inline float lk_row_dot(const float *a, const float *b, int64_t n) { return row_lk_sum_run_dot(n, a, b); }
static inline float lk_row_sqdiff(const float *x, float m, int64_t n) { return row_lk_sum_run_sqdiff(n, x, m); }

/* ---- rule 6: the first maximum of m followed by a run. Lanes start at m, so a NaN m stays and later
 * NaNs lose every comparison, as one after another. Only the sign of a zero can depend on the order. */
static inline float lk_run_max(const float *x, int64_t n, float m) {
    int64_t i = 0;
    float r = m;
    if (n >= 2 * LK_LANES) {
        float lane[LK_LANES] __attribute__((aligned(64)));
        lk_vf a[LK_NV];
        for (int l = 0; l < LK_LANES; l++) lane[l] = m;
        _Pragma("GCC unroll 32") for (int j = 0; j < LK_NV; j++) a[j] = LK_LDV(lane, j * LK_VW);
        for (; i + LK_LANES <= n; i += LK_LANES) {
            _Pragma("GCC unroll 32") for (int j = 0; j < LK_NV; j++) a[j] = lk_v_max(LK_LDV(x, i + j * LK_VW), a[j]);
        }
        if (i < n) {                                     /* the last 32 once more: a maximum does not mind */
            _Pragma("GCC unroll 32") for (int j = 0; j < LK_NV; j++) a[j] = lk_v_max(LK_LDV(x, n - LK_LANES + j * LK_VW), a[j]);
            i = n;
        }
        _Pragma("GCC unroll 32") for (int j = 0; j < LK_NV; j++) *(lk_vfu *)(lane + j * LK_VW) = a[j];
        for (int half = LK_LANES / 2; half > 2; half /= 2)
            for (int l = 0; l < half; l++) lane[l] = lane[l + half] > lane[l] ? lane[l + half] : lane[l];
        for (int l = 0; l < 4; l++) if (lane[l] > r) r = lane[l];
    }
    for (; i < n; i++) if (x[i] > r) r = x[i];
    if (r == 0 && m != 0) for (i = 0; i < n; i++) if (x[i] == 0) return x[i];
    return r == 0 ? m : r;
}

/* ---- rule 4 */
/* o[i] = E(i) for i in [0, n), in whole vectors: the last 16 are computed first, from inputs not yet overwritten (o may be
 * one of them), and written last, over the same values. */
#define LK_ROW_MAP(o, n, E) do { \
    enum { W_ = 16 }; \
    const int64_t n_ = (n); \
    if (n_ < W_) { LK_IVDEP for (int64_t i = 0; i < n_; i++) (o)[i] = E(i); break; } \
    float last_[W_]; \
    for (int64_t i = n_ - W_; i < n_; i++) last_[i - n_ + W_] = E(i); \
    for (int64_t b_ = 0; b_ + W_ <= n_; b_ += W_) { LK_IVDEP for (int64_t i = b_; i < b_ + W_; i++) (o)[i] = E(i); } \
    if (n_ % W_) memcpy((o) + n_ - W_, last_, sizeof last_); \
} while (0)
#define LK_E_EXP(i) lk_expf(x[i] - m)
#define LK_E_QUOTIENT(i) (y[i] / sum)
#define LK_E_SOFTMAX_DX(i) (y[i] * (dy[i] - s))
/* x and y may be the same row. */
static inline void lk_softmax_row(const float *x, float *y, int64_t n) {
    float m = lk_run_max(x, n, x[0]);
    LK_ROW_MAP(y, n, LK_E_EXP);
    float sum = lk_row_sum(y, n);
    LK_ROW_MAP(y, n, LK_E_QUOTIENT);
}
/* dx = y * (dy - sum(y * dy)); dx may be dy or y. */
static inline void lk_softmax_dx_row(const float *y, const float *dy, float *dx, int64_t n) {
    float s = lk_row_dot(y, dy, n);
    LK_ROW_MAP(dx, n, LK_E_SOFTMAX_DX);
}
#endif
