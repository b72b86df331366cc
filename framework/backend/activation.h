/* Activations and their derivatives at one element, binary32, for every kernel that fuses them (cpu and cuda):
 * the arithmetic of docs/numerics.md rule 5, operation by operation as graph/decompose_activation.c builds it. */
#ifndef LK_ACTIVATION_H
#define LK_ACTIVATION_H
#include "base/exact_math.h"

LK_FN float lk_sigmoidf(float x) { return 1.0f / (1.0f + lk_expf(-x)); }
LK_FN float lk_siluf(float x) { return x * lk_sigmoidf(x); }
LK_FN float lk_silu_dxf(float x, float dy) {
    float s = lk_sigmoidf(x);
    return dy * (s * (x * (1.0f - s) + 1.0f));
}
LK_FN float lk_geluf(float x) { return (x * 0.5f) * (lk_erff(x * (float)0.70710678118654752) + 1.0f); }
LK_FN float lk_gelu_dxf(float x, float dy) {
    float cdf = (lk_erff(x * (float)0.70710678118654752) + 1.0f) * 0.5f;
    float pdf = lk_expf((x * x) * -0.5f) * (float)0.39894228040143268;
    return dy * (cdf + x * pdf);
}
LK_FN float lk_gelu_tanh_innerf(float x) { return lk_tanhf((x + (x * x * x) * (float)0.044715) * (float)0.79788456080286536); }
LK_FN float lk_gelu_tanhf(float x) { return (x * 0.5f) * (lk_gelu_tanh_innerf(x) + 1.0f); }
LK_FN float lk_gelu_tanh_dxf(float x, float dy) {
    float t = lk_gelu_tanh_innerf(x), direct = (t + 1.0f) * 0.5f, outer = (x * 0.5f) * (1.0f - t * t);
    float inner = ((x * x) * (float)0.134145 + 1.0f) * (float)0.79788456080286536;
    return dy * (direct + outer * inner);
}
LK_FN float lk_quick_geluf(float x) { return x * lk_sigmoidf(x * (float)1.702); }
LK_FN float lk_quick_gelu_dxf(float x, float dy) { return lk_silu_dxf(x * (float)1.702, dy); }
LK_FN float lk_powf(float x, float y) { return lk_expf(y * lk_logf(x)); }   /* x > 0; lk_pow_d is the accurate one */
#endif
