/* PSNR. Squared errors of 8-bit pictures are integers, so their sum is exact in any order; the logarithm is the project's own. */
#include "metrics/metrics.h"
#include "metrics/linalg.h"
#include "base/exact_math.h"     /* lk_log_d */
#include <math.h>                /* INFINITY, isfinite */

#define DB_PER_NEPER 4.342944819032518        /* 10 / ln 10 */

double lk_psnr_db(double mse, double range) { return mse == 0 ? INFINITY : DB_PER_NEPER * lk_log_d(range * range / mse); }
double lk_psnr_piq_db(double mse, double range) { return -DB_PER_NEPER * lk_log_d(mse / (range * range) + 1e-8); }

lk_err lk_psnr_add(lk_psnr_sum *s, const lk_image *a, const lk_image *b, double *this_picture) {
    if (a->w != b->w || a->h != b->h || a->c != b->c)
        return lk_error(LK_EINPUT, "PSNR: pictures of %dx%dx%d and %dx%dx%d (width, height, channels); both must be equal",
                        a->w, a->h, a->c, b->w, b->h, b->c);
    uint64_t sse = 0, n = (uint64_t)a->w * (uint64_t)a->h * (uint64_t)a->c;
    if (n == 0) return lk_error(LK_EINPUT, "PSNR: an empty picture");
    for (uint64_t i = 0; i < n; i++) {
        int e = a->px[i] - b->px[i];
        sse += (uint64_t)(e * e);
    }
    double db = lk_psnr_db((double)sse / (double)n, 255);
    s->sse += sse;
    s->values += n;
    s->pictures++;
    s->sum_db += db;
    if (this_picture) *this_picture = db;
    return LK_OK;
}
double lk_psnr_pooled(const lk_psnr_sum *s) { return s->values ? lk_psnr_db((double)s->sse / (double)s->values, 255) : NAN; }
double lk_psnr_mean(const lk_psnr_sum *s) { return s->pictures ? s->sum_db / (double)s->pictures : NAN; }

lk_err lk_psnr(const double *a, const double *b, int64_t n, double range, double *db) {
    if (n < 1 || !(range > 0)) return lk_error(LK_EINPUT, "PSNR: %lld values, data range %g; both must be positive", (long long)n, range);
    double sse = lk_squared_distance(a, b, n);
    if (!isfinite(sse)) return lk_error(LK_ENUM, "PSNR: a pixel is NaN or infinite");
    *db = lk_psnr_db(sse / (double)n, range);
    return LK_OK;
}
