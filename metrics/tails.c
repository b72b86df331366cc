/* The incomplete beta function and what follows from it. The fraction is the one of Abramowitz and Stegun 26.5.8, evaluated
 * by Lentz's method (Numerical methods: Thompson and Barnett 1986); quantiles by bisection of a monotone tail, which needs no
 * starting guess and ends when two neighbours are left. */
#include "metrics/tails.h"
#include <math.h>

static double fraction(double a, double b, double x) {
    const double tiny = 1e-300;
    double c = 1, d = 1 - (a + b) * x / (a + 1);
    d = 1 / (fabs(d) < tiny ? tiny : d);
    double h = d;
    for (int m = 1; m < 100000; m++) {
        double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)), odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
        for (int k = 0; k < 2; k++) {
            double e = k ? odd : even;
            d = 1 + e * d; c = 1 + e / c;
            d = 1 / (fabs(d) < tiny ? tiny : d);
            if (fabs(c) < tiny) c = tiny;
            h *= d * c;
        }
        if (fabs(d * c - 1) < 1e-16) break;
    }
    return h;
}
/* I_x(a, b); y = 1 - x is given, since one of the two may be too small to be had from the other. */
static double beta_inc(double a, double b, double x, double y) {
    if (!(x > 0)) return x == 0 ? 0 : NAN;
    if (!(y > 0)) return y == 0 ? 1 : NAN;
    double front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log(y));
    return x < (a + 1) / (a + b + 2) ? front * fraction(a, b, x) / a : 1 - front * fraction(b, a, y) / b;
}
double lk_tails_t_upper(double x, double df) {
    double n = x * x, half = beta_inc(df / 2, .5, df / (df + n), n / (df + n)) / 2;
    return x >= 0 ? half : 1 - half;
}
double lk_tails_f_upper(double x, double df1, double df2) {
    if (!(x > 0)) return x <= 0 ? 1 : NAN;
    double s = df2 + df1 * x;
    return beta_inc(df2 / 2, df1 / 2, df2 / s, df1 * x / s);
}
double lk_tails_normal_upper(double x) { return erfc(x / sqrt(2.)) / 2; }

/* The x >= 0 at which a falling tail is q. */
static double where_tail_is(double q, double (*tail)(double, double, double), double df1, double df2) {
    double lo = 0, hi = 1;
    while (tail(hi, df1, df2) > q && hi < 1e300) { lo = hi; hi *= 2; }
    for (int i = 0; i < 1100; i++) {
        double mid = lo + (hi - lo) / 2;
        if (mid <= lo || mid >= hi) break;
        if (tail(mid, df1, df2) > q) lo = mid; else hi = mid;
    }
    return lo + (hi - lo) / 2;
}
static double t_tail(double x, double df, double unused)      { (void)unused; return lk_tails_t_upper(x, df); }
static double normal_tail(double x, double unused, double no) { (void)unused; (void)no; return lk_tails_normal_upper(x); }
static double symmetric(double p, double (*tail)(double, double, double), double df) {
    if (!(p > 0 && p < 1)) return p == 0 ? -INFINITY : p == 1 ? INFINITY : NAN;
    return p < .5 ? -where_tail_is(p, tail, df, 0) : where_tail_is(1 - p, tail, df, 0);
}
double lk_tails_t_quantile(double p, double df)   { return symmetric(p, t_tail, df); }
double lk_tails_normal_quantile(double p)         { return symmetric(p, normal_tail, 0); }
double lk_tails_f_quantile(double p, double df1, double df2) {
    if (!(p > 0 && p < 1)) return p == 0 ? 0 : p == 1 ? INFINITY : NAN;
    return where_tail_is(1 - p, lk_tails_f_upper, df1, df2);
}
