/* Random numbers without state: a value is a function of (seed, stream name, step, sample, element), so
 * neither the order of work nor the worker matters (docs/numerics.md rule 7). The block is in philox.h. */
#include "base/base.h"
#include "base/philox.h"

uint64_t lk_stream_key(uint64_t seed, const char *stream) {
    uint64_t h = 0xcbf29ce484222325u;                                   /* FNV-1a 64 */
    for (const unsigned char *c = (const unsigned char *)stream; *c; c++) h = (h ^ *c) * 0x100000001b3u;
    h ^= seed * 0x9E3779B97F4A7C15u;
    h = (h ^ (h >> 30)) * 0xBF58476D1CE4E5B9u;                          /* splitmix64's finaliser */
    h = (h ^ (h >> 27)) * 0x94D049BB133111EBu;
    return h ^ (h >> 31);
}
uint32_t lk_philox_u32(uint64_t key, uint64_t step, uint32_t sample, uint64_t element) {
    uint32_t w[4];
    lk_philox_words(key, step, sample, element >> 2, w);
    return w[element & 3];
}
float lk_philox_uniform(uint64_t key, uint64_t step, uint32_t sample, uint64_t element) {
    return lk_word_uniform(lk_philox_u32(key, step, sample, element));
}
float lk_philox_normal(uint64_t key, uint64_t step, uint32_t sample, uint64_t element) {
    uint32_t w[4];
    lk_philox_words(key, step, sample, element >> 2, w);
    const uint32_t *pair = w + (element & 2);
    return (element & 1) ? lk_normal_odd(pair[0], pair[1]) : lk_normal_even(pair[0], pair[1]);
}
uint32_t lk_philox_below(uint64_t key, uint64_t step, uint32_t sample, uint64_t element, uint32_t n) {
    return (uint32_t)(((uint64_t)lk_philox_u32(key, step, sample, element) * n) >> 32);
}
