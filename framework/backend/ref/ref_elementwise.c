/* Elementwise operations of one to three inputs with numpy broadcasting: a function a row, one walk. */
#include "backend/ref/ref.h"
#include <math.h>

static const double sqrt_2 = 1.41421356237309504880, sqrt_2_pi = 2.50662827463100050242;
static const double gelu_c = 0.79788456080286535588 /* sqrt(2/pi) */, gelu_k = 0.044715;

static double sigma(double x) { return x >= 0 ? 1 / (1 + exp(-x)) : exp(x) / (1 + exp(x)); }
static double normal_cdf(double x) { return 0.5 * erfc(-x / sqrt_2); }
static double normal_pdf(double x) { return exp(-x * x / 2) / sqrt_2_pi; }

#define ONE(name, expr)   static double f_##name(double a, double b, double c) { (void)b; (void)c; return expr; }
#define TWO(name, expr)   static double f_##name(double a, double b, double c) { (void)c; return expr; }
#define THREE(name, expr) static double f_##name(double a, double b, double c) { return expr; }
ONE(neg, -a)
ONE(abs, fabs(a))
ONE(sign, a > 0 ? 1.0 : a < 0 ? -1.0 : a)
ONE(exp, exp(a))
ONE(log, log(a))
ONE(sqrt, sqrt(a))
ONE(rsqrt, 1 / sqrt(a))
ONE(recip, 1 / a)
ONE(sin, sin(a))
ONE(cos, cos(a))
ONE(tanh, tanh(a))
ONE(erf, erf(a))
ONE(sigmoid, sigma(a))
ONE(silu, a * sigma(a))
ONE(gelu, a * normal_cdf(a))
ONE(gelu_tanh, a * sigma(2 * gelu_c * (a + gelu_k * a * a * a)))      /* (1 + tanh u) / 2 = sigma(2u) */
ONE(quick_gelu, a * sigma(1.702 * a))
/* (x, dy) -> dy f'(x), by the product rule */
TWO(silu_dx, b * (sigma(a) + a * sigma(a) * sigma(-a)))
TWO(gelu_dx, b * (normal_cdf(a) + a * normal_pdf(a)))
static double f_gelu_tanh_dx(double x, double dy, double unused) {
    (void)unused;
    double u = 2 * gelu_c * (x + gelu_k * pow(x, 3)), du = 2 * gelu_c * (1 + 3 * gelu_k * x * x);
    return dy * (sigma(u) + x * sigma(u) * sigma(-u) * du);
}
TWO(quick_gelu_dx, b * (sigma(1.702 * a) + 1.702 * a * sigma(1.702 * a) * sigma(-1.702 * a)))
TWO(add, a + b)
TWO(sub, a - b)
TWO(mul, a * b)
TWO(div, a / b)
TWO(min, b < a ? b : a)
TWO(max, b > a ? b : a)
TWO(less, a < b ? 1.0 : 0.0)
TWO(pow, pow(a, b))
THREE(where, a != 0 ? b : c)

static double (*const function[LK_OP_COUNT])(double, double, double) = {
#define ROW(name) [LK_OP_##name] = f_##name
    ROW(neg), ROW(abs), ROW(sign), ROW(exp), ROW(log), ROW(sqrt), ROW(rsqrt), ROW(recip), ROW(sin), ROW(cos), ROW(tanh), ROW(erf),
    ROW(sigmoid), ROW(silu), ROW(silu_dx), ROW(gelu), ROW(gelu_dx), ROW(gelu_tanh), ROW(gelu_tanh_dx), ROW(quick_gelu), ROW(quick_gelu_dx),
    ROW(add), ROW(sub), ROW(mul), ROW(div), ROW(min), ROW(max), ROW(less), ROW(pow), ROW(where)
};

static void elementwise(const lk_kernel_call *c) {
    lk_shape shape = c->node->shape;
    double *out = c->out;
    for (int64_t i = 0, n = lk_numel(shape); i < n; i++) {
        int64_t at[LK_MAX_RANK];
        double x[3] = {0, 0, 0};
        ref_where(shape, i, at);
        for (int k = 0; k < c->node->n_in; k++) x[k] = ref_in(c, k)[ref_broadcast_index(shape, at, c->in_shape[k])];
        out[i] = function[c->node->op](x[0], x[1], x[2]);
    }
}

void ref_elementwise(lk_kernel *table) {
    for (int op = 0; op < LK_OP_COUNT; op++) if (function[op]) table[op] = elementwise;
}
