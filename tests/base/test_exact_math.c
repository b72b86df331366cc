/* base/exact_math.h: the worst error in ulp of every function against libm in the next wider format (binary64 for
 * binary32, 80-bit for binary64), special values, and a digest of the bits themselves, which are frozen. */
#include "base/exact_math.h"
#include "tests/lib/lk_test.h"

typedef struct { const char *name; float (*f)(float); double (*want)(double); double lo, hi, bound; } row32;
typedef struct { const char *name; double (*f)(double); long double (*want)(long double); double lo, hi, bound; } row64;
#define F(name) static float f_##name(float x) { return lk_##name(x); }
F(expf) F(logf) F(sinf) F(cosf) F(tanhf) F(erff) F(sin_2pif) F(cos_2pif)
#undef F
#define D(name) static double d_##name(double x) { return lk_##name##_d(x); }
D(exp) D(log) D(sin) D(cos) D(tanh) D(erf)
#undef D
static const long double turn = 6.28318530717958647692528676655900577L;
static double sin_2pi(double u) { return (double)sinl(turn * u); }
static double cos_2pi(double u) { return (double)cosl(turn * u); }
/* pow with one argument: a base below, at and above 1 */
static double pow_small(double y) { return lk_pow_d(0.3, y); }
static double pow_near(double y) { return lk_pow_d(1.0000001, y); }
static double pow_root(double x) { return lk_pow_d(x, 0.371); }
static double pow_steep(double x) { return lk_pow_d(x, -173.5); }
static long double want_small(long double y) { return powl(0.3, y); }
static long double want_near(long double y) { return powl(1.0000001, y); }
static long double want_root(long double x) { return powl(x, 0.371); }
static long double want_steep(long double x) { return powl(x, -173.5L); }

/* Bounds: measured worst case of a sweep 20 times as dense, rounded up; exp, log, sin, cos are also within 1 ulp
 * by analysis (one final rounding, polynomial below 2^-28 or 2^-56). */
static const row32 rows32[] = {
    {"exp", f_expf, exp, -104, 89, 1}, {"exp", f_expf, exp, -1, 1, 1}, {"log", f_logf, log, 0, 2, 1}, {"log", f_logf, log, 0.7, 1.5, 1},
    {"log", f_logf, log, 0, 3e38, 1}, {"log", f_logf, log, 0, 1e-38, 1}, {"sin", f_sinf, sin, -10, 10, 0.51}, {"sin", f_sinf, sin, -1e5, 1e5, 0.51},
    {"cos", f_cosf, cos, -10, 10, 0.51}, {"cos", f_cosf, cos, -4e9, 4e9, 0.51}, {"sin 2 pi", f_sin_2pif, sin_2pi, -2, 2, 0.51},
    {"cos 2 pi", f_cos_2pif, cos_2pi, 0, 1, 0.51}, {"tanh", f_tanhf, tanh, -10, 10, 1.5}, {"tanh", f_tanhf, tanh, -0.7, 0.7, 1.5},
    {"erf", f_erff, erf, -4.5, 4.5, 1.25}, {"erf", f_erff, erf, -1.1, 1.1, 1.25},
};
static const row64 rows64[] = {
    {"exp", d_exp, expl, -746, 710, 1.1}, {"exp", d_exp, expl, -1, 1, 1.1}, {"log", d_log, logl, 0, 2, 1}, {"log", d_log, logl, 0.7, 1.5, 1},
    {"log", d_log, logl, 0, 1e308, 1}, {"log", d_log, logl, 0, 1e-308, 1}, {"sin", d_sin, sinl, -10, 10, 1}, {"sin", d_sin, sinl, -1.6e7, 1.6e7, 1},
    {"cos", d_cos, cosl, -10, 10, 1}, {"cos", d_cos, cosl, -1.6e7, 1.6e7, 1}, {"tanh", d_tanh, tanhl, -20, 20, 1.5}, {"tanh", d_tanh, tanhl, -0.7, 0.7, 1.5},
    {"erf", d_erf, erfl, -6, 6, 1.25}, {"erf", d_erf, erfl, -1.1, 1.1, 1.25}, {"pow 0.3^y", pow_small, want_small, -500, 600, 1.5},
    {"pow (1+1e-7)^y", pow_near, want_near, -7e9, 7e9, 1.5}, {"pow x^0.371", pow_root, want_root, 0, 10, 1.5}, {"pow x^-173.5", pow_steep, want_steep, 0.1, 60, 1.5},
};
enum { POINTS = 20000 };

/* Distance in units of the last place of the format at `want` (that of the smallest normal below it). */
static double ulps(long double got, long double want, int digits, int emin, long double max) {
    if (isnan((double)want)) return isnan((double)got) ? 0 : INFINITY;
    if (fabsl(want) > max) return fabsl(got) >= max && (got > 0) == (want > 0) ? 0 : INFINITY;
    if (!(fabsl(got) <= max)) return INFINITY;
    int e = want == 0 ? emin : ilogbl(want);
    return (double)(fabsl(got - want) / ldexpl(1, (e < emin ? emin : e) - digits));
}
static double unit(uint64_t i) { return (double)((i * 0x9E3779B97F4A7C15u) >> 11) * 0x1p-53; }   /* equidistributed in [0, 1) */
static double worst32(const row32 *r, double planted) {
    double worst = 0;
    for (uint64_t i = 1; i <= POINTS; i++) {
        float x = (float)(r->lo + (r->hi - r->lo) * unit(i)), y = r->f(x);
        y *= (float)(1 + planted);
        double e = ulps(y, r->want(x), 23, -126, 3.4028235677973366e38L);
        if (!(e <= worst)) worst = e;
    }
    return worst;
}
static double worst64(const row64 *r, double planted) {
    double worst = 0;
    for (uint64_t i = 1; i <= POINTS; i++) {
        double x = r->lo + (r->hi - r->lo) * unit(i), y = r->f(x);
        y *= 1 + planted;
        double e = ulps(y, r->want(x), 52, -1022, 1.797693134862315807e308L);
        if (!(e <= worst)) worst = e;
    }
    return worst;
}
/* A coefficient wrong in its last bits moves results by a few ulp: 3 binary32 ulp must be seen in every row. */
TEST(binary32_within_bounds) {
    for (size_t i = 0; i < sizeof rows32 / sizeof *rows32; i++) {
        const row32 *r = rows32 + i;
        double e = worst32(r, 0), planted = worst32(r, 0x1.8p-22);
        printf("    %-10s binary32 [%g, %g] %.3f ulp\n", r->name, r->lo, r->hi, e);
        CHECK_MSG(e <= r->bound, "%s: %.3f ulp on [%g, %g], bound %g", r->name, e, r->lo, r->hi, r->bound);
        CHECK_MSG(planted > r->bound, "%s: a planted error of 3 ulp was not seen", r->name);
    }
}
TEST(binary64_within_bounds) {
    for (size_t i = 0; i < sizeof rows64 / sizeof *rows64; i++) {
        const row64 *r = rows64 + i;
        double e = worst64(r, 0), planted = worst64(r, 0x1.8p-51);
        printf("    %-14s binary64 [%g, %g] %.3f ulp\n", r->name, r->lo, r->hi, e);
        CHECK_MSG(e <= r->bound, "%s: %.3f ulp on [%g, %g], bound %g", r->name, e, r->lo, r->hi, r->bound);
        CHECK_MSG(planted > r->bound, "%s: a planted error of 3 ulp was not seen", r->name);
    }
}

static bool same(double a, double b) { return isnan(a) ? isnan(b) : a == b && signbit(a) == signbit(b); }
TEST(special_values) {
    const double inf = INFINITY;
    const struct { const char *name; float (*f)(float); double (*d)(double); double x[8], y[8]; int n; } rows[] = {
        {"exp", f_expf, d_exp, {NAN, inf, -inf, 0, -0.0, 1e4, -1e4}, {NAN, inf, 0, 1, 1, inf, 0}, 7},
        {"log", f_logf, d_log, {NAN, inf, -inf, 0, -0.0, 1, -1}, {NAN, inf, NAN, -inf, -inf, 0, NAN}, 7},
        {"sin", f_sinf, d_sin, {NAN, inf, -inf, 0, -0.0, 1e30}, {NAN, NAN, NAN, 0, -0.0, NAN}, 6},
        {"cos", f_cosf, d_cos, {NAN, inf, -inf, 0, -0.0, 1e30}, {NAN, NAN, NAN, 1, 1, NAN}, 6},
        {"tanh", f_tanhf, d_tanh, {NAN, inf, -inf, 0, -0.0, 50, -50}, {NAN, 1, -1, 0, -0.0, 1, -1}, 7},
        {"erf", f_erff, d_erf, {NAN, inf, -inf, 0, -0.0, 50, -50}, {NAN, 1, -1, 0, -0.0, 1, -1}, 7},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) for (int j = 0; j < rows[i].n; j++) {
        float f = rows[i].f((float)rows[i].x[j]); double d = rows[i].d(rows[i].x[j]);
        CHECK_MSG(same(f, rows[i].y[j]), "%sf(%g) = %g, want %g", rows[i].name, rows[i].x[j], (double)f, rows[i].y[j]);
        CHECK_MSG(same(d, rows[i].y[j]), "%s_d(%g) = %g, want %g", rows[i].name, rows[i].x[j], d, rows[i].y[j]);
    }
    const double p[][3] = {{0, 2, 0}, {0, -2, inf}, {0, 0, 1}, {inf, 3, inf}, {inf, -3, 0}, {inf, 0, 1}, {2, inf, inf}, {0.5, inf, 0}, {2, -inf, 0}, {0.5, -inf, inf},
                           {1, inf, 1}, {1, NAN, 1}, {NAN, 0, 1}, {NAN, 1, NAN}, {2, NAN, NAN}, {-1, 2, NAN}, {2, 10, 1024}, {2, -1074, 0x1p-1074}, {9, 0.5, 3}, {10, 400, inf}, {10, -400, 0}};
    for (size_t i = 0; i < sizeof p / sizeof *p; i++) CHECK_MSG(same(lk_pow_d(p[i][0], p[i][1]), p[i][2]), "pow(%g, %g) = %g, want %g", p[i][0], p[i][1], lk_pow_d(p[i][0], p[i][1]), p[i][2]);
}
TEST(subnormal_results_are_rounded_once) {
    for (uint64_t i = 0; i < 2000; i++) {
        float x = -87.0f - 17.5f * (float)unit(i), want = (float)expl(x);
        CHECK_MSG(fabsf(lk_expf(x) - want) <= 0x1p-149f, "exp(%a) = %a, want %a", (double)x, (double)lk_expf(x), (double)want);
        CHECK_MSG(ulps(lk_expf(x), expl(x), 23, -126, 3.5e38L) <= 0.7, "exp(%a) is rounded twice", (double)x);
    }
    CHECK(lk_expf(-103.9720765f) == 0x1p-149f && lk_expf(-103.98f) == 0 && lk_exp_d(-745.13) == 0x1p-1074 && lk_exp_d(-745.14) == 0);
}
TEST(small_exponentials_have_the_same_bits) {
    for (uint64_t i = 0; i < 100000; i++) {
        float x = 160.0f * (float)unit(i) - 80.0f, y = lk_exp_smallf(x), want = lk_expf(x);
        CHECK_MSG(!memcmp(&y, &want, sizeof y), "exp(%a) = %a, want %a", (double)x, (double)y, (double)want);
    }
    CHECK(lk_exp_smallf(0) == 1 && lk_exp_smallf(-0.0f) == 1);
}
/* Numerators at random, and those whose quotient lies as close to the middle of two numbers as can be. The product alone is often wrong. */
TEST(quotients_by_reciprocal_are_correctly_rounded) {
    int wrong = 0, rough = 0;
    for (uint64_t i = 0; i < 300000; i++) {
        float s = ldexpf(1.0f + (float)unit(3 * i), (int)(i % 40)), r = 1.0f / s, e = ldexpf(1.0f + (float)unit(3 * i + 1), -1 - (int)(i % 79));
        if (i % 2) {                                                       /* (a number and a half ulp) times s, or one of the two next to it */
            uint32_t u = lk_bitsf(e) + (i % 3 == 0) - (i % 3 == 1);
            double middle = (double)lk_from_bitsf(u) + ldexp(1, ilogbf(e) - 24);
            e = (float)(middle * ldexp((double)s, -(int)(i % 40) - 1));
            e = lk_from_bitsf(lk_bitsf(e) + (uint32_t)(i / 2 % 3) - 1);
            if (!(e <= 1 && e >= 0x1p-80f)) continue;
        }
        wrong += lk_quotientf(e, s, r) != e / s;
        rough += e * r != e / s;
    }
    CHECK_MSG(!wrong, "%d quotients differ from IEEE's", wrong);
    CHECK(rough > 10000 && lk_quotientf(0, 3, 1.0f / 3) == 0);
}
/* The binary64 numbers next to multiples of pi/2: what is left is 1e-10 and less, and must keep all its bits. */
TEST(reduction_near_multiples_of_half_pi) {
    for (int k = 1; k <= 10000000; k += 1 + k / 8) {
        double x = (double)(k * (turn / 4)), got = (k & 1) ? lk_cos_d(x) : lk_sin_d(x);
        long double want = (k & 1) ? cosl(x) : sinl(x);
        CHECK_MSG(ulps(got, want, 52, -1022, 2) <= 1, "at %d pi/2: %.17g, want %.17Lg", k, got, want);
    }
}
/* The bits are the definition: a change here is a new LK_NUMERICS_VERSION. Equal from gcc and clang, with and without an fma instruction. */
TEST(bits_are_frozen) {
    lk_sha256 s; char hex[65];
    lk_sha256_init(&s);
    for (size_t i = 0; i < sizeof rows32 / sizeof *rows32; i++) for (uint64_t k = 0; k < 4096; k++) {
        float y = rows32[i].f((float)(rows32[i].lo + (rows32[i].hi - rows32[i].lo) * unit(k)));
        lk_sha256_add(&s, &y, sizeof y);
    }
    for (size_t i = 0; i < sizeof rows64 / sizeof *rows64; i++) for (uint64_t k = 0; k < 4096; k++) {
        double y = rows64[i].f(rows64[i].lo + (rows64[i].hi - rows64[i].lo) * unit(k));
        lk_sha256_add(&s, &y, sizeof y);
    }
    lk_sha256_hex(&s, hex);
    CHECK_MSG(!strcmp(hex, "d29f37223e7fecf84f31897d5c33a4dc1613d7ae0bbdc1b16861ef173c99f3f0"), "digest of the functions is %s", hex);
}
