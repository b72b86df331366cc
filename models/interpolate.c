/* Slerp and AdaIN between two latents. See interpolate.h. */
#include "models/interpolate.h"
#include "base/exact_math.h"

/* acos by Newton's method on cos(t) = c from a start within .2; c is clamped away from the ends, where it would not converge. */
static double angle_of(double c) {
    double t = 1.57079632679489662 - c * (1 + c * c * .17);
    for (int i = 0; i < 40; i++) {
        double d = (lk_cos_d(t) - c) / lk_sin_d(t);
        t += d;
        if (!(d > 1e-16 || d < -1e-16)) break;
    }
    return t;
}
void lk_slerp(const float *a, const float *b, double f, int64_t n, float *out) {
    double aa = 0, bb = 0, ab = 0;
    for (int64_t i = 0; i < n; i++) { aa += (double)a[i] * a[i]; bb += (double)b[i] * b[i]; ab += (double)a[i] * b[i]; }
    double c = ab / (__builtin_sqrt(aa) * __builtin_sqrt(bb)), top = 1 - 1e-7;
    double t = angle_of(c > top ? top : c < -top ? -top : c), s = lk_sin_d(t), wa = lk_sin_d(t - t * f) / s, wb = lk_sin_d(t * f) / s;
    for (int64_t i = 0; i < n; i++) out[i] = (float)(wa * a[i] + wb * b[i]);
}
typedef struct { double mean, square; } moments;      /* square: sum of squared differences */
static moments moments_of(const float *x, int64_t n) {
    moments m = { 0 };
    for (int64_t i = 0; i < n; i++) m.mean += x[i];
    m.mean /= (double)n;
    for (int64_t i = 0; i < n; i++) m.square += (x[i] - m.mean) * (x[i] - m.mean);
    return m;
}
void lk_adain_between(const float *x, const float *a, const float *b, double f, int64_t planes, int64_t per, float *out) {
    for (int64_t p = 0; p < planes; p++) {
        moments mx = moments_of(x + p * per, per), ma = moments_of(a + p * per, per), mb = moments_of(b + p * per, per);
        double n1 = (double)(per - 1), sa = __builtin_sqrt(ma.square / n1 + 1e-5), sb = __builtin_sqrt(mb.square / n1 + 1e-5);
        double mean = (1 - f) * ma.mean + f * mb.mean, gain = ((1 - f) * sa + f * sb) / __builtin_sqrt(mx.square / (double)per + 1e-5);
        for (int64_t i = 0; i < per; i++) out[p * per + i] = (float)((x[p * per + i] - mx.mean) * gain + mean);
    }
}
