/* Floats of 16 bits: binary16 and bfloat16 as binary32, exact for every pattern, subnormals and NaN payloads included. Without branches, so
 * that a loop over a row becomes vectors. The way back is lk_half_of (io/st_values.c). */
#ifndef LK_HALVES_H
#define LK_HALVES_H
#include <stdint.h>
#include <string.h>

typedef enum { LK_AS_F32, LK_AS_F16, LK_AS_BF16 } lk_float_as;      /* how floats are stored */

static inline float lk_of_bits(uint32_t bits) { float f; memcpy(&f, &bits, 4); return f; }
static inline uint32_t lk_bits_of(float f) { uint32_t bits; memcpy(&bits, &f, 4); return bits; }
static inline float lk_f32_of_bf16(uint16_t h) { return lk_of_bits((uint32_t)h << 16); }
static inline float lk_f32_of_f16(uint16_t h) {
    uint32_t size = h & 0x7fffu, sign = (uint32_t)(h & 0x8000u) << 16;
    uint32_t normal = (size << 13) + (112u << 23), special = size << 13 | 0x7f800000u, tiny = lk_bits_of((float)(int32_t)size * 0x1p-24f);
    return lk_of_bits(sign | (size >= 0x7c00 ? special : size >= 0x400 ? normal : tiny));
}
static inline void lk_widen_halves(float *to, const uint16_t *from, int64_t n, lk_float_as as) {
    if (as == LK_AS_F16) for (int64_t i = 0; i < n; i++) to[i] = lk_f32_of_f16(from[i]);
    else                 for (int64_t i = 0; i < n; i++) to[i] = lk_f32_of_bf16(from[i]);
}
#endif
