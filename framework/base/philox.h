/* Philox4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC'11), one block of
 * four words, for host and GPU kernels. What key and counter mean is docs/numerics.md rule 7; base/philox.c has
 * the calls for single elements. */
#ifndef LK_PHILOX_H
#define LK_PHILOX_H
#include "base/exact_math.h"

/* w: counter in, random words out. */
LK_FN void lk_philox_block(uint64_t key, uint32_t w[4]) {
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32), a = w[0], b = w[1], c = w[2], d = w[3];
    for (int round = 0; round < 10; round++) {
        uint64_t p = (uint64_t)a * 0xD2511F53u, q = (uint64_t)c * 0xCD9E8D57u;
        a = (uint32_t)(q >> 32) ^ b ^ k0; b = (uint32_t)q;
        c = (uint32_t)(p >> 32) ^ d ^ k1; d = (uint32_t)p;
        k0 += 0x9E3779B9u; k1 += 0xBB67AE85u;
    }
    w[0] = a; w[1] = b; w[2] = c; w[3] = d;
}
/* The words of elements 4 * block .. 4 * block + 3. */
LK_FN void lk_philox_words(uint64_t key, uint64_t step, uint32_t sample, uint64_t block, uint32_t w[4]) {
    w[0] = (uint32_t)block; w[1] = sample; w[2] = (uint32_t)step; w[3] = (uint32_t)(step >> 32) ^ (uint32_t)(block >> 32);
    lk_philox_block(key, w);
}
LK_FN float lk_word_uniform(uint32_t w) { return (float)(int32_t)(w >> 8) * 0x1p-24f; }
/* Box-Muller: radius and angle words of a pair -> two normals. */
LK_FN float lk_normal_radius(uint32_t w) { return lk_sqrtf(-2.0f * lk_logf((float)(int32_t)((w >> 8) + 1u) * 0x1p-24f)); }
LK_FN float lk_normal_even(uint32_t w0, uint32_t w1) { return lk_normal_radius(w0) * lk_cos_2pif(lk_word_uniform(w1)); }
LK_FN float lk_normal_odd(uint32_t w0, uint32_t w1) { return lk_normal_radius(w0) * lk_sin_2pif(lk_word_uniform(w1)); }
#endif
