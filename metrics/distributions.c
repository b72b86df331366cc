/* Tails and quantiles: GSL's, entered in this file alone; with LK_NO_GSL (programs with CUDA, whose libraries GSL's licence
 * does not go with) our own. */
#include "metrics/metrics.h"
#ifdef LK_NO_GSL
#include "metrics/tails.h"
double lk_t_upper(double x, double df) { return lk_tails_t_upper(x, df); }
double lk_t_quantile(double p, double df) { return lk_tails_t_quantile(p, df); }
double lk_f_upper(double x, double df1, double df2) { return lk_tails_f_upper(x, df1, df2); }
double lk_f_quantile(double p, double df1, double df2) { return lk_tails_f_quantile(p, df1, df2); }
double lk_normal_upper(double x) { return lk_tails_normal_upper(x); }
double lk_normal_quantile(double p) { return lk_tails_normal_quantile(p); }
#else
#include <gsl/gsl_cdf.h>
double lk_t_upper(double x, double df) { return gsl_cdf_tdist_Q(x, df); }
double lk_t_quantile(double p, double df) { return p < .5 ? -gsl_cdf_tdist_Qinv(p, df) : gsl_cdf_tdist_Pinv(p, df); }
double lk_f_upper(double x, double df1, double df2) { return gsl_cdf_fdist_Q(x, df1, df2); }
double lk_f_quantile(double p, double df1, double df2) { return gsl_cdf_fdist_Pinv(p, df1, df2); }
double lk_normal_upper(double x) { return gsl_cdf_ugaussian_Q(x); }
double lk_normal_quantile(double p) { return gsl_cdf_ugaussian_Pinv(p); }
#endif
