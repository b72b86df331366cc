/* Philox4x32-10 and what is built on it, against the published known answers and independent arithmetic. */
#include "base/philox.h"
#include "tests/lib/lk_test.h"

/* Random123's known-answer vectors for philox4x32-10: counter, key, words. */
TEST(known_answers) {
    static const uint32_t kat[][10] = {
        {0, 0, 0, 0, 0, 0, 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8},
        {~0u, ~0u, ~0u, ~0u, ~0u, ~0u, 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd},
        {0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0, 0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}};
    for (int i = 0; i < 3; i++) {
        uint32_t w[4]; memcpy(w, kat[i], sizeof w);
        lk_philox_block(kat[i][4] | (uint64_t)kat[i][5] << 32, w);
        CHECK_MSG(!memcmp(w, kat[i] + 6, sizeof w), "vector %d: %08x %08x %08x %08x", i, w[0], w[1], w[2], w[3]);
        w[2] ^= 1;
        CHECK(memcmp(w, kat[i] + 6, sizeof w) != 0);
    }
}
TEST(counter_layout) {
    uint64_t key = 0x299f31d0a4093822u, step = (uint64_t)0x03707344u << 32 | 0x13198a2eu;
    for (uint64_t e = 0; e < 4; e++) {
        static const uint32_t want[] = {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1};
        CHECK(lk_philox_u32(key, step, 0x85a308d3u, 4 * (uint64_t)0x243f6a88u + e) == want[e]);
    }
    uint32_t w[4] = {5, 7, 11, 3 ^ 2};                                    /* element / 4 = 2^33 + 5, step = 3 * 2^32 + 11 */
    lk_philox_block(99, w);
    CHECK(lk_philox_u32(99, ((uint64_t)3 << 32) + 11, 7, 4 * (((uint64_t)2 << 32) + 5) + 2) == w[2]);
}
/* splitmix64 seeded with 0 first gives finaliser(0x9E37..15) = 0xE220A8397B1DCDAF; FNV-1a 64 of "" is its offset basis. */
TEST(stream_key) {
    const uint64_t golden = 0x9E3779B97F4A7C15u, basis = 0xcbf29ce484222325u, a = 0xaf63dc4c8601ec8cu;   /* a: FNV-1a 64 of "a", published */
    uint64_t inverse = 1;
    for (int i = 0; i < 6; i++) inverse *= 2 - golden * inverse;
    CHECK(golden * inverse == 1);
    CHECK(lk_stream_key((basis ^ golden) * inverse, "") == 0xE220A8397B1DCDAFu);
    CHECK(lk_stream_key((a ^ golden) * inverse, "a") == 0xE220A8397B1DCDAFu);
    CHECK(lk_stream_key(0, "noise") != lk_stream_key(1, "noise") && lk_stream_key(0, "noise") != lk_stream_key(0, "dropout"));
}
TEST(uniform_and_below) {
    uint64_t key = lk_stream_key(3, "test");
    double sum = 0;
    for (uint32_t i = 0; i < 20000; i++) {
        uint32_t w = lk_philox_u32(key, 5, 2, i), n = i * 77u + 1;
        float u = lk_philox_uniform(key, 5, 2, i);
        sum += (double)u;
        CHECK(u >= 0 && u < 1 && u == (float)(w / 256) / 16777216.0f);
        CHECK(lk_philox_below(key, 5, 2, i, n) == (uint32_t)floorl((long double)w * n / 4294967296.0L));
    }
    CHECK_CLOSE(sum / 20000, 0.5, 5 * 0.2887 / sqrt(20000.0));            /* five standard errors */
}
/* Against Box-Muller in long double: log and sine cosine are within 1 ulp, the root halves the first. */
TEST(normals) {
    uint64_t key = lk_stream_key(1, "noise");
    double sum = 0, square = 0, cross = 0;
    int n = 20000;
    for (int i = 0; i < n; i += 2) {
        long double u1 = ((lk_philox_u32(key, 9, 4, (uint64_t)i) >> 8) + 1) / 16777216.0L, u2 = (lk_philox_u32(key, 9, 4, (uint64_t)i + 1) >> 8) / 16777216.0L;
        double r = (double)sqrtl(-2 * logl(u1)), turn = 6.283185307179586;
        float a = lk_philox_normal(key, 9, 4, (uint64_t)i), b = lk_philox_normal(key, 9, 4, (uint64_t)i + 1);
        CHECK_CLOSE((double)a, r * cos(turn * (double)u2), 3e-7 * r + 1e-30);
        CHECK_CLOSE((double)b, r * sin(turn * (double)u2), 3e-7 * r + 1e-30);
        sum += (double)a + (double)b; square += (double)a * (double)a + (double)b * (double)b; cross += (double)a * (double)b;
    }
    CHECK_CLOSE(sum / n, 0, 5 / sqrt(n));
    CHECK_CLOSE(square / n, 1, 5 * sqrt(2.0 / n));
    CHECK_CLOSE(cross / (n / 2), 0, 5 / sqrt(n / 2));
}
