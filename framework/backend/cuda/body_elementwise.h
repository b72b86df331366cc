/* Elementwise operations with broadcasting, geglu, and the element-by-element services: one thread an element.
 * The output may be exactly one of the inputs of its shape: an element is read before it is written. */
#ifndef LK_CUDA_BODY_ELEMENTWISE_H
#define LK_CUDA_BODY_ELEMENTWISE_H
#include "backend/cuda/phase.h"

/* stride: by the output's axes, 0 where an input is broadcast. */
typedef struct { float *out; const float *in[3]; int64_t n; int rank; int64_t d[LK_AXES], stride[3][LK_AXES]; } lk_ew_args;

/* EW(name, expression of x, y, z: the elements of the inputs), as backend/cpu/kernels/elementwise.c */
#define LK_EW1(EW) \
    EW(neg, -x) EW(abs, lk_absf(x)) EW(sign, x > 0 ? 1.0f : x < 0 ? -1.0f : x) EW(exp, lk_expf(x)) EW(log, lk_logf(x)) \
    EW(sqrt, lk_sqrtf(x)) EW(rsqrt, 1.0f / lk_sqrtf(x)) EW(recip, 1.0f / x) EW(sin, lk_sinf(x)) EW(cos, lk_cosf(x)) \
    EW(tanh, lk_tanhf(x)) EW(erf, lk_erff(x)) EW(sigmoid, lk_sigmoidf(x)) EW(silu, lk_siluf(x)) EW(gelu, lk_geluf(x)) \
    EW(gelu_tanh, lk_gelu_tanhf(x)) EW(quick_gelu, lk_quick_geluf(x))
#define LK_EW2(EW) \
    EW(silu_dx, lk_silu_dxf(x, y)) EW(gelu_dx, lk_gelu_dxf(x, y)) EW(gelu_tanh_dx, lk_gelu_tanh_dxf(x, y)) \
    EW(quick_gelu_dx, lk_quick_gelu_dxf(x, y)) EW(add, x + y) EW(sub, x - y) EW(mul, x * y) EW(div, x / y) \
    EW(min, y < x ? y : x) EW(max, y > x ? y : x) EW(less, x < y ? 1.0f : 0.0f) EW(pow, lk_powf(x, y))
#define LK_EW3(EW) EW(where, x != 0 ? y : z)

LK_BODY void lk_ew_offsets(const lk_ew_args *a, int64_t i, int n_in, int64_t *at) {
    for (int k = 0; k < n_in; k++) at[k] = 0;
    for (int axis = a->rank - 1; axis >= 0; axis--) {
        int64_t c = i % a->d[axis];
        i /= a->d[axis];
        for (int k = 0; k < n_in; k++) at[k] += c * a->stride[k][axis];
    }
}
#define LK_EW_BODY(name, n_in, load, expr) \
    LK_BODY void lk_body_##name(lk_block *b, const lk_ew_args *a) { \
        LK_BEGIN(b, t) \
            LK_EVERY(b, t, i, a->n) { int64_t at[n_in]; lk_ew_offsets(a, i, n_in, at); load a->out[i] = (expr); } \
        LK_END \
    }
#define EW(name, expr) LK_EW_BODY(name, 1, float x = a->in[0][at[0]];, expr)
LK_EW1(EW)
#undef EW
#define EW(name, expr) LK_EW_BODY(name, 2, float x = a->in[0][at[0]]; float y = a->in[1][at[1]];, expr)
LK_EW2(EW)
#undef EW
#define EW(name, expr) LK_EW_BODY(name, 3, float x = a->in[0][at[0]]; float y = a->in[1][at[1]]; float z = a->in[2][at[2]];, expr)
LK_EW3(EW)
#undef EW

/* ---- geglu: the last axis is [value | gate], d each ------------------------------------------------------ */
typedef struct { float *out; const float *x, *dy; int64_t n, d; } lk_geglu_args;   /* n: elements of value */
LK_BODY void lk_body_geglu(lk_block *b, const lk_geglu_args *a) {
    LK_BEGIN(b, t)
        LK_EVERY(b, t, i, a->n) {
            const float *value = a->x + i / a->d * 2 * a->d + i % a->d;
            a->out[i] = value[0] * lk_geluf(value[a->d]);
        }
    LK_END
}
LK_BODY void lk_body_geglu_dx(lk_block *b, const lk_geglu_args *a) {
    LK_BEGIN(b, t)
        LK_EVERY(b, t, i, a->n) {
            int64_t at = i / a->d * 2 * a->d + i % a->d;
            float value = a->x[at], gate = a->x[at + a->d], g = a->dy[i];
            a->out[at] = g * lk_geluf(gate);
            a->out[at + a->d] = lk_gelu_dxf(gate, g * value);
        }
    LK_END
}
#endif
