/* A vector of binary32 by instruction set, for the contraction kernels: load, store, fused multiply-add and
 * the masked forms that never touch memory outside their lanes. VW lanes; the scalar set is VW = 1 with
 * plain C, so that one text gives three files whose lanes do the same arithmetic. */
#ifndef LK_VEC_H
#define LK_VEC_H
#include "backend/cpu/kernels/kernels.h"
#include <immintrin.h>

/* Tile of the product kernel: MR rows by NV vectors held in registers. */
#if defined(__AVX512F__)
enum { VW = 16, NV = 2, MR = 14 };
typedef __m512 vec;
typedef __mmask16 vmask;
static inline vec  v_zero(void) { return _mm512_setzero_ps(); }
static inline vec  v_set(float x) { return _mm512_set1_ps(x); }
static inline vec  v_load(const float *p) { return _mm512_loadu_ps(p); }
static inline void v_store(float *p, vec v) { _mm512_storeu_ps(p, v); }
static inline vec  v_fma(vec a, vec b, vec c) { return _mm512_fmadd_ps(a, b, c); }
static inline vec  v_add(vec a, vec b) { return _mm512_add_ps(a, b); }
static inline vec  v_mul(vec a, vec b) { return _mm512_mul_ps(a, b); }
static inline vec  v_max(vec a, vec b) { return _mm512_max_ps(a, b); }                                   /* a > b ? a : b */
static inline vec  v_min(vec a, vec b) { return _mm512_min_ps(a, b); }                                   /* a < b ? a : b */
static inline vmask v_mask(int lo, int hi) { return (vmask)(((1u << hi) - 1) & ~((1u << lo) - 1)); }   /* lanes [lo, hi) */
static inline vec  v_load_mask(const float *p, vmask m) { return _mm512_maskz_loadu_ps(m, p); }          /* +0 elsewhere */
static inline vec  v_load_over(vec v, const float *p, vmask m) { return _mm512_mask_loadu_ps(v, m, p); } /* v elsewhere, v being +0 in m */
static inline void v_store_mask(float *p, vmask m, vec v) { _mm512_mask_storeu_ps(p, m, v); }
static inline vec  v_even(vec lo, vec hi) { return _mm512_permutex2var_ps(lo, _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30), hi); } /* elements 0, 2, .. of both */
#elif defined(__AVX2__)
enum { VW = 8, NV = 2, MR = 6 };
typedef __m256 vec;
typedef __m256i vmask;
static inline vec  v_zero(void) { return _mm256_setzero_ps(); }
static inline vec  v_set(float x) { return _mm256_set1_ps(x); }
static inline vec  v_load(const float *p) { return _mm256_loadu_ps(p); }
static inline void v_store(float *p, vec v) { _mm256_storeu_ps(p, v); }
static inline vec  v_fma(vec a, vec b, vec c) { return _mm256_fmadd_ps(a, b, c); }
static inline vec  v_add(vec a, vec b) { return _mm256_add_ps(a, b); }
static inline vec  v_mul(vec a, vec b) { return _mm256_mul_ps(a, b); }
static inline vec  v_max(vec a, vec b) { return _mm256_max_ps(a, b); }
static inline vec  v_min(vec a, vec b) { return _mm256_min_ps(a, b); }
static inline vmask v_mask(int lo, int hi) {
    __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_andnot_si256(_mm256_cmpgt_epi32(_mm256_set1_epi32(lo), lane), _mm256_cmpgt_epi32(_mm256_set1_epi32(hi), lane));
}
static inline vec  v_load_mask(const float *p, vmask m) { return _mm256_maskload_ps(p, m); }
static inline vec  v_load_over(vec v, const float *p, vmask m) { return _mm256_or_ps(v, _mm256_maskload_ps(p, m)); }
static inline void v_store_mask(float *p, vmask m, vec v) { _mm256_maskstore_ps(p, m, v); }
static inline vec  v_even(vec lo, vec hi) { return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(_mm256_shuffle_ps(lo, hi, 0x88)), 0xd8)); }
#else
enum { VW = 1, NV = 4, MR = 2 };
typedef float vec;
typedef bool vmask;
static inline vec  v_zero(void) { return 0.0f; }
static inline vec  v_set(float x) { return x; }
static inline vec  v_load(const float *p) { return *p; }
static inline void v_store(float *p, vec v) { *p = v; }
static inline vec  v_fma(vec a, vec b, vec c) { return __builtin_fmaf(a, b, c); }
static inline vec  v_add(vec a, vec b) { return a + b; }
static inline vec  v_mul(vec a, vec b) { return a * b; }
static inline vec  v_max(vec a, vec b) { return a > b ? a : b; }
static inline vec  v_min(vec a, vec b) { return a < b ? a : b; }
static inline vmask v_mask(int lo, int hi) { return lo < hi; }
static inline vec  v_load_mask(const float *p, vmask m) { return m ? *p : 0.0f; }
static inline vec  v_load_over(vec v, const float *p, vmask m) { return m ? *p : v; }
static inline void v_store_mask(float *p, vmask m, vec v) { if (m) *p = v; }
static inline vec  v_even(vec lo, vec hi) { (void)hi; return lo; }
#endif
enum { NR = NV * VW };

/* Lanes [lo, hi) that lie two elements apart: masks of the two vectors of neighbours that hold them. */
static inline int v_clamp(int64_t x) { return x < 0 ? 0 : x > VW ? VW : (int)x; }
static inline vmask v_mask_even(int lo, int hi, int second) { int a = v_clamp(2 * lo - second * VW), b = v_clamp(2 * hi - 1 - second * VW); return v_mask(a, b < a ? a : b); }
#endif
