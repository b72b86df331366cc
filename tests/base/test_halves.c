/* Floats of 16 bits, every pattern: binary16 against the compiler's own conversion, and against the value the format defines; bfloat16 against a shift. */
#include "base/halves.h"
#include "tests/lib/lk_test.h"
#include <math.h>

static double defined(uint16_t h) {                     /* IEEE 754 binary16, from its definition; finite only */
    int exponent = h >> 10 & 31, fraction = h & 1023;
    double size = exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24);
    return h & 0x8000 ? -size : size;
}
TEST(every_half_is_widened_exactly) {
    static uint16_t all[65536];
    static float wide[65536];
    for (int i = 0; i < 65536; i++) all[i] = (uint16_t)i;
    lk_widen_halves(wide, all, 65536, LK_AS_F16);
    int wrong = 0, planted = 0;
    for (int i = 0; i < 65536; i++) {
        _Float16 h;
        memcpy(&h, &all[i], 2);
        const float own = (float)h;
        if (own != own) { wrong += wide[i] == wide[i] || (lk_bits_of(wide[i]) & 0x807fffffu) != ((uint32_t)(i & 0x8000) << 16 | (uint32_t)(i & 1023) << 13); continue; }
        wrong += lk_bits_of(own) != lk_bits_of(wide[i]);
        if (fabsf(own) < INFINITY) { wrong += defined(all[i]) != wide[i]; planted += defined((uint16_t)(i ^ 1)) != wide[i]; }
    }
    CHECK_MSG(!wrong, "%d of 65536 halves are not their value", wrong);
    CHECK(planted == 2 * 31 * 1024);                    /* the neighbour of each is seen */
    lk_widen_halves(wide, all, 65536, LK_AS_BF16);
    wrong = 0;
    for (int i = 0; i < 65536; i++) wrong += lk_bits_of(wide[i]) != (uint32_t)i << 16;
    CHECK(!wrong);
}
