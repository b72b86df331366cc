/* For tests of single CPU kernels: the tables of the three instruction sets, calls built by hand, random and special
 * inputs, and a comparison of bits in which every NaN is the canonical one (docs/numerics.md rule 6). */
#ifndef LK_ISA_TABLES_H
#define LK_ISA_TABLES_H
#include "backend/backend.h"
#include "tests/lib/lk_test.h"

enum { ISAS = 3, MAX_IN = 8 };
static const char *const isa_name[ISAS] = {"scalar", "avx2", "avx512"};
static inline bool isa_here(int i) {
    if (i == 2) return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
    return __builtin_cpu_supports("fma") && (!i || __builtin_cpu_supports("avx2"));
}
/* A node, its inputs and a call of one kernel. */
typedef struct { lk_node node; lk_val ids[MAX_IN]; void *in[MAX_IN]; lk_shape shape[MAX_IN]; } hand_call;
static inline int64_t count_of(lk_shape s) { int64_t n = 1; for (int i = 0; i < s.rank; i++) n *= s.d[i]; return n; }
static inline void hand_run(lk_kernel kernel, hand_call *h, void *out, lk_pool *pool) {
    h->node.in = h->ids;
    kernel(&(lk_kernel_call){.node = &h->node, .out = out, .in = h->in, .in_shape = h->shape, .pool = pool});
}
static inline uint32_t canonical(float x) { uint32_t u; memcpy(&u, &x, 4); return x != x ? 0x7fc00000u : u; }
/* First differing element or -1. */
static inline int64_t bits_differ(const float *a, const float *b, int64_t n) {
    for (int64_t i = 0; i < n; i++) if (canonical(a[i]) != canonical(b[i])) return i;
    return -1;
}
/* Half gaussians, a quarter of wide magnitudes, the rest arbitrary bits and the numbers that break things. */
static inline void fill_hard(float *x, int64_t n, uint64_t seed) {
    static const float special[] = {0.0f, -0.0f, INFINITY, -INFINITY, NAN, 0x1p-149f, -0x1p-127f, 3.4028235e38f, -3.4028235e38f, 1.0f, -1.0f, 88.72284f, -103.97f, 0.95f, 0.6f, 0x1p32f};
    uint64_t key = lk_stream_key(seed, "hard");
    for (int64_t i = 0; i < n; i++) {
        uint32_t w = lk_philox_u32(key, 1, 0, (uint64_t)i), kind = w & 7;
        float g = lk_philox_normal(key, 2, 0, (uint64_t)i);
        x[i] = kind < 4 ? g : kind < 6 ? g * ldexpf(1, (int)(w >> 8 & 31) - 12) : special[w >> 8 & 15];
        if (kind == 7) { w = w * 2654435761u + 12345u; memcpy(x + i, &w, 4); }
    }
}
static inline void fill_normal(float *x, int64_t n, uint64_t seed) {
    uint64_t key = lk_stream_key(seed, "plain");
    for (int64_t i = 0; i < n; i++) x[i] = lk_philox_normal(key, 3, 0, (uint64_t)i);
}
static inline double at_or_nan(const float *a, int64_t i) { return i < 0 ? NAN : (double)a[i]; }   /* for messages */
#endif
