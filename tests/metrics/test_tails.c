/* Our tails and quantiles against GSL's (lk_t_upper and the others of metrics.h), and where the exact value is known. */
#include "metrics/metrics.h"
#include "metrics/tails.h"
#include "tests/lib/lk_test.h"

static const double dfs[] = {1, 2, 3, 5, 5.5, 11, 29, 120, 1000, 10000};
enum { DFS = sizeof dfs / sizeof *dfs };
static double relative(double got, double want) { return fabs(got - want) / fmax(fabs(want), 1e-300); }

/* lgamma(5000) is 4e4: its rounding alone is 1e-11 of the tail. */
TEST(tails_are_gsls) {
    double worst = 0;
    for (int i = 0; i < DFS; i++) for (int j = 0; j < DFS; j++) for (double x = 0.013; x < 40; x *= 1.7) {
        double want = lk_f_upper(x, dfs[i], dfs[j]), t = lk_t_upper(x, dfs[i]);
        if (want > 1e-10) worst = fmax(worst, relative(lk_tails_f_upper(x, dfs[i], dfs[j]), want));
        if (t > 1e-10) worst = fmax(worst, relative(lk_tails_t_upper(x, dfs[i]), t));
        if (t > 1e-10) worst = fmax(worst, relative(lk_tails_t_upper(-x, dfs[i]), lk_t_upper(-x, dfs[i])));
    }
    CHECK_MSG(worst < 1e-10, "worst relative error %g", worst);
}
/* A quantile's error is measured in p where GSL's own inverse is the coarser of the two. */
TEST(quantiles_are_gsls) {
    static const double ps[] = {1e-6, .003, .025, .4, .5, .77, .95, .975, .995, 1 - 1e-6};
    for (int k = 0; k < 10; k++) {
        CHECK_CLOSE(lk_tails_normal_quantile(ps[k]), lk_normal_quantile(ps[k]), 1e-11 * fmax(1, fabs(lk_normal_quantile(ps[k]))));
        for (int i = 0; i < DFS; i++) {
            double t = lk_tails_t_quantile(ps[k], dfs[i]);
            CHECK_CLOSE(lk_t_upper(-t, dfs[i]), ps[k], 1e-12);
            CHECK_CLOSE(t, lk_t_quantile(ps[k], dfs[i]), 1e-7 * fmax(1, fabs(t)));
            for (int j = 0; j < DFS; j++) {
                double f = lk_tails_f_quantile(ps[k], dfs[i], dfs[j]);
                CHECK_CLOSE(1 - lk_f_upper(f, dfs[i], dfs[j]), ps[k], 1e-11);
            }
        }
    }
}
TEST(known_values) {
    CHECK_CLOSE(lk_tails_t_quantile(.975, 1), tan(M_PI * .475), 1e-10);            /* Cauchy */
    CHECK_CLOSE(lk_tails_t_upper(2, 2), .5 - 2 / (2 * sqrt(6.)), 1e-15);
    CHECK_CLOSE(lk_tails_f_upper(3, 2, 8), pow(1 + 2 * 3 / 8., -4), 1e-15);
    CHECK(lk_tails_f_upper(0, 2, 3) == 1 && isnan(lk_tails_t_upper(NAN, 3)) && lk_tails_normal_quantile(0) == -INFINITY && isnan(lk_tails_t_quantile(-1, 3)));
    CHECK(!(relative(lk_tails_t_upper(2, 5) * 1.01, lk_t_upper(2, 5)) < 1e-11));   /* a planted error is seen */
}
