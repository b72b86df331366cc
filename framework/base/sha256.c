/* SHA-256 (FIPS 180-4), by the processor's own instructions where it has them: the inputs of a run are hashed before it starts. */
#include "base/base.h"
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

static const _Alignas(16) uint32_t K[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74,
    0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d,
    0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e,
    0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5,
    0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};
static uint32_t ror(uint32_t x, int n) { return x >> n | x << (32 - n); }
static void compress(uint32_t h[8], const unsigned char *p) {
    uint32_t w[64], s[8];
    for (int i = 0; i < 16; i++) w[i] = (uint32_t)p[4 * i] << 24 | (uint32_t)p[4 * i + 1] << 16 | (uint32_t)p[4 * i + 2] << 8 | p[4 * i + 3];
    for (int i = 16; i < 64; i++)
        w[i] = w[i - 16] + (ror(w[i - 15], 7) ^ ror(w[i - 15], 18) ^ w[i - 15] >> 3) + w[i - 7] + (ror(w[i - 2], 17) ^ ror(w[i - 2], 19) ^ w[i - 2] >> 10);
    memcpy(s, h, sizeof s);
#define S(k) s[((k) - i) & 7]                                  /* the state turns in place: no value moves */
#pragma GCC unroll 64
    for (int i = 0; i < 64; i++) {
        uint32_t t1 = S(7) + (ror(S(4), 6) ^ ror(S(4), 11) ^ ror(S(4), 25)) + ((S(4) & S(5)) ^ (~S(4) & S(6))) + K[i] + w[i];
        uint32_t t2 = (ror(S(0), 2) ^ ror(S(0), 13) ^ ror(S(0), 22)) + ((S(0) & S(1)) ^ (S(0) & S(2)) ^ (S(1) & S(2)));
        S(3) += t1;
        S(7) = t1 + t2;
    }
#undef S
    for (int i = 0; i < 8; i++) h[i] += s[i];
}
#if defined(__x86_64__)
/* Two rounds an instruction, on the state as (A B E F) and (C D G H), words from the highest lane down; four words of the schedule at once. */
static __attribute__((target("sha,sse4.1"))) void compress_blocks(uint32_t h[8], const unsigned char *p, size_t blocks) {
    const __m128i big_endian = _mm_set_epi8(12, 13, 14, 15, 8, 9, 10, 11, 4, 5, 6, 7, 0, 1, 2, 3);
    __m128i badc = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)h), 0xb1), efgh = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(h + 4)), 0x1b);
    __m128i abef = _mm_alignr_epi8(badc, efgh, 8), cdgh = _mm_blend_epi16(efgh, badc, 0xf0);
    for (; blocks; blocks--, p += 64) {
        const __m128i abef_before = abef, cdgh_before = cdgh;
        __m128i w[4];
#pragma GCC unroll 16
        for (int i = 0; i < 16; i++) {
            __m128i *now = &w[i % 4], last = w[(i + 3) % 4];
            if (i < 4) *now = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)p + i), big_endian);
            else *now = _mm_sha256msg2_epu32(_mm_add_epi32(_mm_sha256msg1_epu32(*now, w[(i + 1) % 4]), _mm_alignr_epi8(last, w[(i + 2) % 4], 4)), last);
            const __m128i rounds = _mm_add_epi32(*now, _mm_load_si128((const __m128i *)K + i));
            cdgh = _mm_sha256rnds2_epu32(cdgh, abef, rounds);
            abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(rounds, 0x0e));
        }
        abef = _mm_add_epi32(abef, abef_before);
        cdgh = _mm_add_epi32(cdgh, cdgh_before);
    }
    badc = _mm_shuffle_epi32(abef, 0x1b);                 /* F E B A becomes A B E F from the lowest lane up */
    efgh = _mm_shuffle_epi32(cdgh, 0xb1);
    _mm_storeu_si128((__m128i *)h, _mm_blend_epi16(badc, efgh, 0xf0));
    _mm_storeu_si128((__m128i *)(h + 4), _mm_alignr_epi8(efgh, badc, 8));
}
static bool has_instructions(void) {
    static atomic_int known;                              /* 0: not asked yet, 1: no, 2: yes */
    int at = atomic_load_explicit(&known, memory_order_relaxed);
    if (!at) {
        unsigned a, b = 0, c, d;
        at = __get_cpuid_count(7, 0, &a, &b, &c, &d) && b >> 29 & 1 && __builtin_cpu_supports("sse4.1") ? 2 : 1;
        atomic_store_explicit(&known, at, memory_order_relaxed);
    }
    return at == 2;
}
#else
static void compress_blocks(uint32_t h[8], const unsigned char *p, size_t blocks) { (void)h; (void)p; (void)blocks; }
static bool has_instructions(void) { return false; }
#endif
static void add_blocks(lk_sha256 *c, const unsigned char *p, size_t blocks) {
    if (!c->plain && has_instructions()) compress_blocks(c->h, p, blocks);
    else for (; blocks; blocks--, p += 64) compress(c->h, p);
}
void lk_sha256_init(lk_sha256 *c) {
    static const uint32_t start[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    memset(c, 0, sizeof *c);
    memcpy(c->h, start, sizeof start);
}
void lk_sha256_add(lk_sha256 *c, const void *bytes, size_t n) {
    const unsigned char *p = bytes;
    size_t fill = c->bytes % 64;
    c->bytes += n;
    if (fill) {
        size_t k = 64 - fill < n ? 64 - fill : n;
        memcpy(c->block + fill, p, k);
        p += k; n -= k;
        if (fill + k < 64) return;
        add_blocks(c, c->block, 1);
    }
    if (n >= 64) add_blocks(c, p, n / 64);
    if (n % 64) memcpy(c->block, p + n / 64 * 64, n % 64);
}
void lk_sha256_hex(lk_sha256 *c, char hex[65]) {
    uint64_t bits = c->bytes * 8;
    unsigned char tail[72] = {0x80};
    size_t pad = (c->bytes % 64 < 56 ? 56 : 120) - c->bytes % 64;
    for (int i = 0; i < 8; i++) tail[pad + (size_t)i] = (unsigned char)(bits >> (56 - 8 * i));
    lk_sha256_add(c, tail, pad + 8);
    for (int i = 0; i < 8; i++) snprintf(hex + 8 * i, 9, "%08x", c->h[i]);
}
void lk_sha256_of(const void *bytes, size_t n, char hex[65]) { lk_sha256 c; lk_sha256_init(&c); lk_sha256_add(&c, bytes, n); lk_sha256_hex(&c, hex); }
lk_err lk_sha256_file(const char *path, char hex[65]) {
    FILE *f = fopen(path, "rb");
    if (!f) return lk_error(LK_EINPUT, "%s: %s", path, strerror(errno));
    lk_sha256 c; lk_sha256_init(&c);
    static _Thread_local char buf[1 << 16];
    for (size_t k; (k = fread(buf, 1, sizeof buf, f)) > 0;) lk_sha256_add(&c, buf, k);
    bool bad = ferror(f);
    fclose(f);
    if (bad) return lk_error(LK_EIO, "%s: reading failed", path);
    lk_sha256_hex(&c, hex);
    return LK_OK;
}
