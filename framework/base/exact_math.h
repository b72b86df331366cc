/* The project's own elementary functions: the same bits from every compiler, instruction set and GPU.
 *
 * Why: libm's exp differs by version and machine, and a digest must not. The code below is the
 * definition (docs/numerics.md rule 5). It uses + - * / , fma where written, comparisons and moves of
 * bits, all of them exactly defined by IEEE 754; no tables, no branches that depend on data, so that
 * compilers vectorise loops over it. It must be compiled without contraction (-ffp-contract=off, nvcc
 * -fmad=false). A host without an fma instruction calls libm's fma: slower, same bits.
 *
 * Coefficients are minimax fits (Remez exchange on 700 points, 60 digits), rounded from the lowest
 * power up. Errors in ulp are measured by tests/base/test_exact_math.c and tabled in docs/numerics.md.
 *
 * Names: lk_<f>f binary32, lk_<f>_d binary64. Special values follow C's libm (Annex F) but for two:
 * sines and cosines of arguments beyond the reduction's range (2^32 in binary32, 2^24 in binary64) are
 * NaN rather than silently wrong, and lk_pow_d takes bases >= 0 only (NaN below). */
#ifndef LK_EXACT_MATH_H
#define LK_EXACT_MATH_H
#include <stdint.h>

#ifdef __CUDACC__
#define LK_FN static __host__ __device__ __forceinline__
#else
#define LK_FN static inline __attribute__((always_inline, unused))
#endif

/* ---- parts: fma, bits, rounding ------------------------------------------------------------------ */
#ifdef __CUDA_ARCH__
LK_FN float    lk_fmaf(float a, float b, float c) { return __fmaf_rn(a, b, c); }
LK_FN double   lk_fma_d(double a, double b, double c) { return __fma_rn(a, b, c); }
LK_FN uint32_t lk_bitsf(float x) { return __float_as_uint(x); }
LK_FN float    lk_from_bitsf(uint32_t u) { return __uint_as_float(u); }
LK_FN uint64_t lk_bits_d(double x) { return (uint64_t)__double_as_longlong(x); }
LK_FN double   lk_from_bits_d(uint64_t u) { return __longlong_as_double((long long)u); }
LK_FN float    lk_sqrtf(float x) { return __fsqrt_rn(x); }
LK_FN double   lk_sqrt_d(double x) { return __dsqrt_rn(x); }
#else
LK_FN float    lk_fmaf(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
LK_FN double   lk_fma_d(double a, double b, double c) { return __builtin_fma(a, b, c); }
LK_FN uint32_t lk_bitsf(float x) { uint32_t u; __builtin_memcpy(&u, &x, 4); return u; }
LK_FN float    lk_from_bitsf(uint32_t u) { float x; __builtin_memcpy(&x, &u, 4); return x; }
LK_FN uint64_t lk_bits_d(double x) { uint64_t u; __builtin_memcpy(&u, &x, 8); return u; }
LK_FN double   lk_from_bits_d(uint64_t u) { double x; __builtin_memcpy(&x, &u, 8); return x; }
LK_FN float    lk_sqrtf(float x) { return __builtin_sqrtf(x); }
LK_FN double   lk_sqrt_d(double x) { return __builtin_sqrt(x); }
#endif
LK_FN float  lk_absf(float x) { return lk_from_bitsf(lk_bitsf(x) & 0x7fffffffu); }
LK_FN double lk_abs_d(double x) { return lk_from_bits_d(lk_bits_d(x) & 0x7fffffffffffffffu); }
LK_FN float  lk_signedf(float magnitude, float sign) { return lk_from_bitsf(lk_bitsf(magnitude) | (lk_bitsf(sign) & 0x80000000u)); }
LK_FN double lk_signed_d(double magnitude, double sign) { return lk_from_bits_d(lk_bits_d(magnitude) | (lk_bits_d(sign) & 0x8000000000000000u)); }
LK_FN float  lk_inff(void) { return lk_from_bitsf(0x7f800000u); }
LK_FN float  lk_nanf(void) { return lk_from_bitsf(0x7fc00000u); }
LK_FN double lk_inf_d(void) { return lk_from_bits_d(0x7ff0000000000000u); }
LK_FN double lk_nan_d(void) { return lk_from_bits_d(0x7ff8000000000000u); }

/* The quotient e / s from r = 1 / s rounded to nearest: within an ulp after one correction, correctly rounded after the second
 * (Markstein 1990, theorem 9). Neither quotient nor remainder may be subnormal: e = 0 or 2^-80 <= e <= 1, and 1 <= s < 2^40. */
LK_FN float lk_quotientf(float e, float s, float r) {
    float q = e * r;
    q = lk_fmaf(lk_fmaf(-q, s, e), r, q);
    return lk_fmaf(lk_fmaf(-q, s, e), r, q);
}
/* Adding 1.5 * 2^23 (2^52) rounds to an integer, ties to even, and leaves it in the low bits. */
#define LK_MAGICF 0x1.8p23f
#define LK_MAGIC_D 0x1.8p52
/* y * 2^n in two factors, so that a subnormal result is rounded once; |n| <= 252 (binary32), 2044 (binary64). */
LK_FN float lk_scalef(float y, uint32_t n) {
    uint32_t a = ((n + 1024u) >> 1) - 512u, b = n - a;
    return y * lk_from_bitsf((a + 127u) << 23) * lk_from_bitsf((b + 127u) << 23);
}
LK_FN double lk_scale_d(double y, uint64_t n) {
    uint64_t a = ((n + 4096u) >> 1) - 2048u, b = n - a;
    return y * lk_from_bits_d((a + 1023u) << 52) * lk_from_bits_d((b + 1023u) << 52);
}

/* ---- exp, expm1 ------------------------------------------------------------------------------------ */
/* x = n ln 2 + r, |r| <= ln 2 / 2; returns expm1(r) as r + r^2 P(r), n by its pointer. x within +-104 (746). */
LK_FN float lk_exp_partsf(float x, uint32_t *n) {
    float t = lk_fmaf(x, 0x1.715476p+0f, LK_MAGICF), k = t - LK_MAGICF;
    *n = lk_bitsf(t) - 0x4b400000u;
    float r = lk_fmaf(k, 0x1.05c610p-29f, lk_fmaf(k, -0x1.62e430p-1f, x));
    float p = 0x1.6d96a0p-10f;
    p = lk_fmaf(p, r, 0x1.123e8ap-7f);
    p = lk_fmaf(p, r, 0x1.5554bcp-5f);
    p = lk_fmaf(p, r, 0x1.55548ap-3f);
    p = lk_fmaf(p, r, 0.5f);
    return lk_fmaf(r * r, p, r);
}
LK_FN double lk_exp_parts_d(double x, uint64_t *n) {
    double t = lk_fma_d(x, 0x1.71547652b82fep+0, LK_MAGIC_D), k = t - LK_MAGIC_D;
    *n = lk_bits_d(t) - 0x4338000000000000u;
    double r = lk_fma_d(k, -0x1.abc9e3b39803fp-56, lk_fma_d(k, -0x1.62e42fefa39efp-1, x));
    double p = 0x1.1f99ca3d8ce83p-29;
    p = lk_fma_d(p, r, 0x1.af6cbe97d88f0p-26);
    p = lk_fma_d(p, r, 0x1.27e4c2b90f8aap-22);
    p = lk_fma_d(p, r, 0x1.71ddefa297488p-19);
    p = lk_fma_d(p, r, 0x1.a01a01b202090p-16);
    p = lk_fma_d(p, r, 0x1.a01a01b3b18ebp-13);
    p = lk_fma_d(p, r, 0x1.6c16c16c14145p-10);
    p = lk_fma_d(p, r, 0x1.111111110ebd9p-7);
    p = lk_fma_d(p, r, 0x1.555555555555ap-5);
    p = lk_fma_d(p, r, 0x1.555555555555bp-3);
    p = lk_fma_d(p, r, 0.5);
    return lk_fma_d(r * r, p, r);
}
LK_FN float lk_expf(float x) {
    float y = x < -104.0f ? -104.0f : x;
    uint32_t n;
    y = y > 89.0f ? 89.0f : y;
    y = 1.0f + lk_exp_partsf(y, &n);
    return lk_scalef(y, n);
}
/* lk_expf for |x| <= 80, where the result is normal and 2^n can be added to its exponent. */
LK_FN float lk_exp_smallf(float x) {
    uint32_t n;
    float y = 1.0f + lk_exp_partsf(x, &n);
    return lk_from_bitsf(lk_bitsf(y) + (n << 23));
}
LK_FN double lk_exp_d(double x) {
    double y = x < -746.0 ? -746.0 : x;
    uint64_t n;
    y = y > 710.0 ? 710.0 : y;
    y = 1.0 + lk_exp_parts_d(y, &n);
    return lk_scale_d(y, n);
}

/* ---- log ------------------------------------------------------------------------------------------- */
/* x = 2^k (1 + f), 1 + f in [sqrt(1/2), sqrt 2): log1p(f) = f - f^2/2 + f^3 Q(f). */
LK_FN float lk_logf(float x) {
    float up = x < 0x1p-126f ? x * 0x1p23f : x, bias = x < 0x1p-126f ? -23.0f : 0.0f;
    uint32_t u = lk_bitsf(up) - 0x3f3504f3u;
    float k = (float)((int32_t)u >> 23) + bias, f = lk_from_bitsf((u & 0x007fffffu) + 0x3f3504f3u) - 1.0f;
    float q = 0x1.fd9692p-5f;
    q = lk_fmaf(q, f, -0x1.d27258p-4f);
    q = lk_fmaf(q, f, 0x1.e9424ap-4f);
    q = lk_fmaf(q, f, -0x1.fded38p-4f);
    q = lk_fmaf(q, f, 0x1.2336e2p-3f);
    q = lk_fmaf(q, f, -0x1.55535cp-3f);
    q = lk_fmaf(q, f, 0x1.99a436p-3f);
    q = lk_fmaf(q, f, -0x1.00000ap-2f);
    q = lk_fmaf(q, f, 0x1.555548p-2f);
    float f2 = f * f, y = lk_fmaf(f2 * f, q, k * 0x1.7f7d1cp-20f);
    y = lk_fmaf(-0.5f, f2, y);
    y = lk_fmaf(k, 0x1.62e4p-1f, f + y);
    y = x < lk_inff() ? y : x;                    /* inf, NaN */
    y = x == 0.0f ? -lk_inff() : y;
    return x < 0.0f ? lk_nanf() : y;
}
/* log(1 + f) = f - (f^2/2 - s (f^2/2 + z R(z))), s = f / (2 + f), z = s^2 */
LK_FN double lk_log_d(double x) {
    double up = x < 0x1p-1022 ? x * 0x1p54 : x, bias = x < 0x1p-1022 ? -54.0 : 0.0;
    uint64_t u = lk_bits_d(up) - 0x3fe6a09e667f3bcdu;
    /* (k + 1074) into the low bits of 2^52: a conversion from 64-bit integers every instruction set has */
    double k = lk_from_bits_d(((u + (1074ull << 52)) >> 52) | 0x4330000000000000u) - (0x1p52 + 1074.0) + bias;
    double f = lk_from_bits_d((u & 0x000fffffffffffffu) + 0x3fe6a09e667f3bcdu) - 1.0;
    double s = f / (2.0 + f), z = s * s, r = 0x1.2f0567041c878p-3;
    r = lk_fma_d(r, z, 0x1.39a1ba50d6530p-3);
    r = lk_fma_d(r, z, 0x1.74663eed02140p-3);
    r = lk_fma_d(r, z, 0x1.c71c5209435f9p-3);
    r = lk_fma_d(r, z, 0x1.24924941f1496p-2);
    r = lk_fma_d(r, z, 0x1.999999997fdb5p-2);
    r = lk_fma_d(r, z, 0x1.5555555555592p-1);
    double half = 0.5 * f * f, tail = lk_fma_d(s, lk_fma_d(z, r, half), k * 0x1.3de6af278ece6p-42);
    double y = lk_fma_d(k, 0x1.62e42fefa3000p-1, f - (half - tail));
    y = x < lk_inf_d() ? y : x;
    y = x == 0.0 ? -lk_inf_d() : y;
    return x < 0.0 ? lk_nan_d() : y;
}

/* ---- sin, cos ---------------------------------------------------------------------------------------- */
/* binary32 goes through binary64: x = n pi/2 + r (the subtraction of n times the head of pi/2 is exact), then
 * polynomials good to 2^-37. quarter counts the quarter turns to add: 0 for sin, 1 for cos. */
LK_FN double lk_quarter_turns(double r, uint64_t q) {
    double z = r * r, s = 0x1.6cd83910fc215p-19, c = -0x1.242abe96c763dp-22;
    s = lk_fma_d(s, z, -0x1.a00f9d25341ddp-13);
    c = lk_fma_d(c, z, 0x1.a0111fb794d3bp-16);
    s = lk_fma_d(s, z, 0x1.11110895aea42p-7);
    c = lk_fma_d(c, z, -0x1.6c16b8982510bp-10);
    s = lk_fma_d(s, z, -0x1.5555554cb91b6p-3);
    c = lk_fma_d(c, z, 0x1.5555554f4daebp-5);
    s = lk_fma_d(r * z, s, r);
    c = lk_fma_d(z * z, c, lk_fma_d(z, -0.5, 1.0));
    return lk_from_bits_d(lk_bits_d((q & 1u) ? c : s) ^ ((q & 2u) << 62));
}
LK_FN float lk_sin_or_cosf(float x, uint64_t quarter) {
    double w = (double)x, t = lk_fma_d(w, 0x1.45f306dc9c883p-1, LK_MAGIC_D), n = t - LK_MAGIC_D;
    double r = lk_fma_d(n, -0x1.1a62633145c07p-54, lk_fma_d(n, -0x1.921fb54442d18p+0, w));
    float y = (float)lk_quarter_turns(r, lk_bits_d(t) + quarter);
    return lk_absf(x) <= 0x1p32f ? y : lk_nanf();
}
LK_FN float lk_sinf(float x) { float y = lk_sin_or_cosf(x, 0); return x == 0.0f ? x : y; }
LK_FN float lk_cosf(float x) { return lk_sin_or_cosf(x, 1); }
/* sin and cos of 2 pi u, |u| <= 2^20 turns: the reduction is exact. For Box-Muller and the like. */
LK_FN double lk_turns(double u, uint64_t quarter) {
    double t = lk_fma_d(u, 4.0, LK_MAGIC_D), r = lk_fma_d(t - LK_MAGIC_D, -0.25, u);
    return lk_quarter_turns(r * 0x1.921fb54442d18p+2, lk_bits_d(t) + quarter);
}
LK_FN float lk_sin_2pif(float u) { return (float)lk_turns((double)u, 0); }
LK_FN float lk_cos_2pif(float u) { return (float)lk_turns((double)u, 1); }

/* binary64: pi/2 = P1 + P2 + P3 (53, 29, 53 bits). n P1 leaves exactly, n P2 is exact and leaves with its
 * rounding error kept, n P3 joins that error: r + c is x mod pi/2 to about 2^-100. */
LK_FN double lk_sin_or_cos_d(double x, uint64_t quarter) {
    double t = lk_fma_d(x, 0x1.45f306dc9c883p-1, LK_MAGIC_D), n = t - LK_MAGIC_D;
    double a = lk_fma_d(n, -0x1.921fb54442d18p+0, x), b = n * -0x1.1a62633p-54;
    double r = a + b, ab = r - a, c = (a - (r - ab)) + (b - ab);
    c = lk_fma_d(n, -0x1.45c06e0e68948p-86, c);
    double z = r * r, s = 0x1.5d9300d1796c4p-33, k = -0x1.8fae9d0cfa819p-37;
    s = lk_fma_d(s, z, -0x1.ae5e6639df07dp-26);
    k = lk_fma_d(k, z, 0x1.1ee9ebea47613p-29);
    s = lk_fma_d(s, z, 0x1.71de3577b593ap-19);
    k = lk_fma_d(k, z, -0x1.27e4f809f22cdp-22);
    s = lk_fma_d(s, z, -0x1.a01a019c11980p-13);
    k = lk_fma_d(k, z, 0x1.a01a019cb1bfbp-16);
    s = lk_fma_d(s, z, 0x1.111111110f87ap-7);
    k = lk_fma_d(k, z, -0x1.6c16c16c1517ep-10);
    s = lk_fma_d(s, z, -0x1.5555555555549p-3);
    k = lk_fma_d(k, z, 0x1.555555555554cp-5);
    double half = 0.5 * z, one = 1.0 - half;
    double sine = r + lk_fma_d(r * z, s, lk_fma_d(-half, c, c));
    double cosine = one + (((1.0 - one) - half) + lk_fma_d(z * z, k, -(r * c)));
    uint64_t q = lk_bits_d(t) + quarter;
    double y = lk_from_bits_d(lk_bits_d((q & 1u) ? cosine : sine) ^ ((q & 2u) << 62));
    return lk_abs_d(x) <= 0x1p24 ? y : lk_nan_d();
}
LK_FN double lk_sin_d(double x) { double y = lk_sin_or_cos_d(x, 0); return x == 0.0 ? x : y; }
LK_FN double lk_cos_d(double x) { return lk_sin_or_cos_d(x, 1); }

/* ---- tanh: x + x^3 P(x^2) up to 0.6, 1 - 2 / (exp(2|x|) + 1) beyond ---------------------------------- */
LK_FN float lk_tanhf(float x) {
    float a = lk_absf(x);
    uint32_t n;
    a = a > 10.0f ? 10.0f : a;                    /* tanh rounds to 1 from 9.02 on; NaN stays */
    float z = a * a, p = 0x1.1f3540p-9f;
    p = lk_fmaf(p, z, -0x1.0d8346p-7f);
    p = lk_fmaf(p, z, 0x1.63d476p-6f);
    p = lk_fmaf(p, z, -0x1.b9f4bep-5f);
    p = lk_fmaf(p, z, 0x1.111084p-3f);
    p = lk_fmaf(p, z, -0x1.555554p-2f);
    p = lk_fmaf(a * z, p, a);
    float e = 1.0f + lk_exp_partsf(a + a, &n);
    e = 1.0f - 2.0f / (lk_fmaf(e, lk_from_bitsf((n + 127u) << 23), 1.0f));
    return lk_signedf(a > 0.6f ? e : p, x);
}
LK_FN double lk_tanh_d(double x) {
    double a = lk_abs_d(x);
    uint64_t n;
    a = a > 20.0 ? 20.0 : a;
    double z = a * a, p = 0x1.adaf0c97d48e8p-18;
    p = lk_fma_d(p, z, -0x1.03c79fd9fb07fp-15);
    p = lk_fma_d(p, z, 0x1.831f6753288f3p-14);
    p = lk_fma_d(p, z, -0x1.f1e3b12fae5e9p-13);
    p = lk_fma_d(p, z, 0x1.351d4b51b3e5ap-11);
    p = lk_fma_d(p, z, -0x1.7d9e307718104p-10);
    p = lk_fma_d(p, z, 0x1.d6d3800311d1fp-9);
    p = lk_fma_d(p, z, -0x1.226e33b9792b5p-7);
    p = lk_fma_d(p, z, 0x1.664f4877d234ep-6);
    p = lk_fma_d(p, z, -0x1.ba1ba1b9f0ee5p-5);
    p = lk_fma_d(p, z, 0x1.1111111110e73p-3);
    p = lk_fma_d(p, z, -0x1.5555555555554p-2);
    p = lk_fma_d(a * z, p, a);
    double e = 1.0 + lk_exp_parts_d(a + a, &n);
    e = 1.0 - 2.0 / (lk_fma_d(e, lk_from_bits_d((n + 1023u) << 52), 1.0));
    return lk_signed_d(a > 0.6 ? e : p, x);
}

/* ---- erf: x + x P(x^2) up to 0.95 (binary64: 1), 1 - erfc beyond --------------------------------------- */
/* binary32: erfc = exp(polynomial); binary64: erfc = exp(-x^2) G((x - 2.5) / (x + 2.5)). */
LK_FN float lk_erff(float x) {
    float a = lk_absf(x), z, p, q;
    a = a > 3.95f ? 3.95f : a;
    z = a * a;
    p = 0x1.4faa3cp-14f;
    p = lk_fmaf(p, z, -0x1.a61840p-11f);
    p = lk_fmaf(p, z, 0x1.544b0ap-8f);
    p = lk_fmaf(p, z, -0x1.b80124p-6f);
    p = lk_fmaf(p, z, 0x1.ce2d64p-4f);
    p = lk_fmaf(p, z, -0x1.812740p-2f);
    p = lk_fmaf(p, z, 0x1.06eba8p-3f);
    p = lk_fmaf(p, a, a);
    q = -0x1.5928acp-22f;
    q = lk_fmaf(q, a, -0x1.1f5baap-16f);
    q = lk_fmaf(q, a, 0x1.b1be38p-12f);
    q = lk_fmaf(q, a, -0x1.0d6298p-8f);
    q = lk_fmaf(q, a, 0x1.99ce72p-6f);
    q = lk_fmaf(q, a, -0x1.bb0984p-4f);
    q = lk_fmaf(q, a, -0x1.445022p-1f);
    q = lk_fmaf(q, a, -0x1.212610p+0f);
    q = lk_fmaf(q, a, 0x1.6578a0p-13f);
    uint32_t n;
    q = 1.0f + lk_exp_partsf(q, &n);              /* q is within [-18, -1.6] where it is used */
    q = 1.0f - q * lk_from_bitsf((n + 127u) << 23);
    return lk_signedf(a > 0.95f ? q : p, x);
}
LK_FN double lk_erf_d(double x) {
    double a = lk_abs_d(x), z, p, g;
    a = a > 6.0 ? 6.0 : a;
    z = a * a;
    p = -0x1.ab4acd7774977p-31;
    p = lk_fma_d(p, z, 0x1.d6fa2e779d7ddp-27);
    p = lk_fma_d(p, z, -0x1.5c0277c1ba14ep-23);
    p = lk_fma_d(p, z, 0x1.b97f1315ddbeap-20);
    p = lk_fma_d(p, z, -0x1.f4ca3a3b139a3p-17);
    p = lk_fma_d(p, z, 0x1.f9a2b96f07186p-14);
    p = lk_fma_d(p, z, -0x1.c02db030fddacp-11);
    p = lk_fma_d(p, z, 0x1.565bccf8d7774p-8);
    p = lk_fma_d(p, z, -0x1.b82ce311f818fp-6);
    p = lk_fma_d(p, z, 0x1.ce2f21a040c7cp-4);
    p = lk_fma_d(p, z, -0x1.812746b0379bcp-2);
    p = lk_fma_d(p, z, 0x1.06eba8214db68p-3);
    p = lk_fma_d(p, a, a);
    double t = (a - 2.5) / (a + 2.5), low = lk_fma_d(a, a, -z);    /* a^2 = z + low */
    g = 0x1.2f33e253df3d0p-20;
    g = lk_fma_d(g, t, 0x1.59e9423c87edbp-17);
    g = lk_fma_d(g, t, 0x1.49a204b5552aap-16);
    g = lk_fma_d(g, t, -0x1.1e41caee06a5cp-15);
    g = lk_fma_d(g, t, -0x1.0e7daeb28a9bbp-13);
    g = lk_fma_d(g, t, 0x1.dedd0ef684aa4p-13);
    g = lk_fma_d(g, t, 0x1.cb3aa1939653fp-11);
    g = lk_fma_d(g, t, -0x1.5a571530e4d6cp-9);
    g = lk_fma_d(g, t, -0x1.05bb2f44557e8p-8);
    g = lk_fma_d(g, t, 0x1.470ba1f870adap-5);
    g = lk_fma_d(g, t, -0x1.00115437171adp-3);
    g = lk_fma_d(g, t, 0x1.01c11a735c8e2p-2);
    g = lk_fma_d(g, t, -0x1.7ca88dec217d0p-2);
    g = lk_fma_d(g, t, 0x1.afbb3f3b7343bp-3);
    uint64_t n;
    double e = 1.0 + lk_exp_parts_d(-z, &n);
    e = lk_fma_d(-e, low, e) * lk_from_bits_d((n + 1023u) << 52);
    g = 1.0 - e * g;
    return lk_signed_d(a > 1.0 ? g : p, x);
}

/* ---- pow, binary64, x >= 0: exp(y log x) with the logarithm in two doubles ------------------------------- */
LK_FN double lk_pow_d(double x, double y) {
    double up = x < 0x1p-1022 ? x * 0x1p54 : x, bias = x < 0x1p-1022 ? -54.0 : 0.0;
    uint64_t u = lk_bits_d(up) - 0x3fe6a09e667f3bcdu;
    double k = lk_from_bits_d(((u + (1074ull << 52)) >> 52) | 0x4330000000000000u) - (0x1p52 + 1074.0) + bias;
    double f = lk_from_bits_d((u & 0x000fffffffffffffu) + 0x3fe6a09e667f3bcdu) - 1.0;
    /* s + s_low = f / (2 + f), z + z_low = s^2 */
    double d = 2.0 + f, d_low = f - (d - 2.0), s = f / d, s_low = (lk_fma_d(-s, d, f) - s * d_low) / d;
    double z = s * s, z_low = lk_fma_d(s, s, -z) + 2.0 * s * s_low;
    double t = 0x1.c32babcdbca2bp-4;
    t = lk_fma_d(t, z, 0x1.aae9ce90dfdfep-4);
    t = lk_fma_d(t, z, 0x1.e20b9e25bf356p-4);
    t = lk_fma_d(t, z, 0x1.111093debba8bp-3);
    t = lk_fma_d(t, z, 0x1.3b13b313bac0fp-3);
    t = lk_fma_d(t, z, 0x1.745d1741796cap-3);
    t = lk_fma_d(t, z, 0x1.c71c71c722801p-3);
    t = lk_fma_d(t, z, 0x1.249249249246fp-2);
    t = lk_fma_d(t, z, 0x1.999999999999ap-2);
    /* log(1 + f) = 2 s + s w, w = z (2/3 + z T(z)) in two doubles */
    double c = z * t, e = 0x1.5555555555555p-1 + c, e_low = (0x1.5555555555555p-1 - e) + c + 0x1.5555555555555p-55;
    double w = z * e, w_low = lk_fma_d(z, e, -w) + (z * e_low + z_low * e);
    double m = 2.0 + w, m_low = (2.0 - m) + w + w_low;
    double h = s * m, h_low = lk_fma_d(s, m, -h) + (s * m_low + s_low * m);
    double big = k * 0x1.62e42fefa3000p-1, l = big + h, v = l - big;   /* |big| > |h| or k = 0 */
    double l_low = (h - v) + (big - (l - v)) + lk_fma_d(k, 0x1.3de6af278ece6p-42, h_low);
    double yy = y > 0x1p65 ? 0x1p65 : y;
    yy = yy < -0x1p65 ? -0x1p65 : yy;
    double p = yy * l, p_low = lk_fma_d(yy, l, -p) + yy * l_low;
    p_low = lk_abs_d(p) < 750.0 ? p_low : 0.0;
    double pc = p < -746.0 ? -746.0 : p;
    pc = pc > 710.0 ? 710.0 : pc;
    uint64_t n;
    double x1 = lk_exp_parts_d(pc, &n), r = lk_scale_d(1.0 + (x1 + lk_fma_d(x1, p_low, p_low)), n);
    double at_edge = y > 0.0 ? x : 1.0 / x;       /* x = 0 or inf */
    r = (x == 0.0 || x == lk_inf_d()) ? at_edge : r;
    r = (x < 0.0 || x != x || y != y) ? lk_nan_d() : r;
    return (y == 0.0 || x == 1.0) ? 1.0 : r;
}
#endif
