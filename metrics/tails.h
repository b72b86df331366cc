/* Tails and quantiles of Student's t, F and the normal without GSL, for programs that cannot link it (docs/cuda.md). From the
 * regularised incomplete beta function by its continued fraction; relative error below 1e-10 against GSL where p is in
 * [1e-10, 1 - 1e-10] and degrees of freedom in [1, 10000] (tests/metrics/test_tails.c). */
#ifndef LK_TAILS_H
#define LK_TAILS_H
double lk_tails_t_upper(double x, double df);
double lk_tails_t_quantile(double p, double df);
double lk_tails_f_upper(double x, double df1, double df2);
double lk_tails_f_quantile(double p, double df1, double df2);
double lk_tails_normal_upper(double x);
double lk_tails_normal_quantile(double p);
#endif
