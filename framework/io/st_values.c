/* Values of a mapped tensor as float, double or int64. A conversion is exact or it is an error, but for
 * binary64 -> binary32, which rounds to nearest even. The file's alignment is not assumed: elements are
 * copied out byte by byte (the compiler makes plain loads of it). */
#include "io/io.h"
#include "base/halves.h"
#include <inttypes.h>
#include <string.h>

uint16_t lk_half_of(float v) {
    uint32_t u;
    memcpy(&u, &v, 4);
    uint32_t sign = u >> 16 & 0x8000, a = u & 0x7fffffff;
    if (a > 0x7f800000) return (uint16_t)(sign | 0x7e00);
    if (a >= 0x477ff000) return (uint16_t)(sign | 0x7c00);
    if (a < 0x33000000) return (uint16_t)sign;
    uint32_t drop = a < 0x38800000 ? 126 - (a >> 23) : 13;                     /* bits that fall off; more for subnormals */
    uint32_t from = a < 0x38800000 ? (a & 0x7fffff) | 0x800000 : a - 0x38000000;
    uint32_t half = from >> drop, rest = from & ((1u << drop) - 1), middle = 1u << (drop - 1);
    return (uint16_t)(sign | (half + (rest > middle || (rest == middle && (half & 1)))));
}
static bool is_float(lk_st_dtype t) { return t == LK_ST_F32 || t == LK_ST_F16 || t == LK_ST_BF16 || t == LK_ST_F64; }
#define AT(type, i) ({ type v_; memcpy(&v_, (const char *)t->data + (size_t)(i) * sizeof v_, sizeof v_); v_; })

static int64_t integer_at(const lk_tensor *t, int64_t i) {
    switch (t->dtype) {
    case LK_ST_I64: return AT(int64_t, i);
    case LK_ST_I32: return AT(int32_t, i);
    case LK_ST_I16: return AT(int16_t, i);
    case LK_ST_U16: return AT(uint16_t, i);
    case LK_ST_I8:  return AT(int8_t, i);
    default:        return AT(uint8_t, i);            /* U8, BOOL */
    }
}
static lk_err inexact(const lk_tensor *t, int64_t i, int64_t v, const char *format) {
    return lk_error(LK_EINPUT, "tensor \"%s\" (%s): element %" PRId64 " = %" PRId64 " is not exactly a %s", t->name, lk_st_dtype_name(t->dtype), i, v, format);
}
lk_err lk_st_f32(const lk_tensor *t, float *out) {
    int64_t n = t->numel;
    switch (t->dtype) {
    case LK_ST_F32:  if (n) memcpy(out, t->data, (size_t)n * 4); return LK_OK;
    case LK_ST_F16:  for (int64_t i = 0; i < n; i++) out[i] = lk_f32_of_f16(AT(uint16_t, i)); return LK_OK;
    case LK_ST_BF16: for (int64_t i = 0; i < n; i++) out[i] = lk_f32_of_bf16(AT(uint16_t, i)); return LK_OK;
    case LK_ST_F64:  for (int64_t i = 0; i < n; i++) out[i] = (float)AT(double, i); return LK_OK;
    default: break;
    }
    for (int64_t i = 0; i < n; i++) {
        int64_t v = integer_at(t, i), back;
        out[i] = (float)v;
        if (out[i] >= 0x1p63f) return inexact(t, i, v, "binary32");
        back = (int64_t)out[i];
        if (back != v) return inexact(t, i, v, "binary32");
    }
    return LK_OK;
}
lk_err lk_st_f64(const lk_tensor *t, double *out) {
    int64_t n = t->numel;
    switch (t->dtype) {
    case LK_ST_F64:  if (n) memcpy(out, t->data, (size_t)n * 8); return LK_OK;
    case LK_ST_F32:  for (int64_t i = 0; i < n; i++) out[i] = AT(float, i); return LK_OK;
    case LK_ST_F16:  for (int64_t i = 0; i < n; i++) out[i] = lk_f32_of_f16(AT(uint16_t, i)); return LK_OK;
    case LK_ST_BF16: for (int64_t i = 0; i < n; i++) out[i] = lk_f32_of_bf16(AT(uint16_t, i)); return LK_OK;
    default: break;
    }
    for (int64_t i = 0; i < n; i++) {
        int64_t v = integer_at(t, i);
        out[i] = (double)v;
        if (out[i] >= 0x1p63 || (int64_t)out[i] != v) return inexact(t, i, v, "binary64");
    }
    return LK_OK;
}
lk_err lk_st_i64(const lk_tensor *t, int64_t *out) {
    if (is_float(t->dtype)) return lk_error(LK_EINPUT, "tensor \"%s\" holds %s, but integers are expected", t->name, lk_st_dtype_name(t->dtype));
    for (int64_t i = 0; i < t->numel; i++) out[i] = integer_at(t, i);
    return LK_OK;
}
