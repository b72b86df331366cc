/* Calls a CPU kernel of movement, reduce, norm or picture directly, without graph or executor, on every
 * instruction set this machine has and with 1, 2 and 3 threads, and compares bits with an oracle's. */
#ifndef KERNEL_CALL_H
#define KERNEL_CALL_H
#include "backend/backend.h"
#include "tests/lib/lk_test.h"

#define SETS(X) X(scalar, "sse2") X(avx2, "avx2") X(avx512, "avx512f")
#define DECLARE(isa, feature) void lk_kernels_movement_##isa(lk_kernel *); void lk_kernels_reduce_##isa(lk_kernel *); \
    void lk_kernels_norm_##isa(lk_kernel *); void lk_kernels_picture_##isa(lk_kernel *);
SETS(DECLARE)

enum { KC_SETS = 3, KC_MAX_IN = 8 };
typedef struct {
    lk_op op; lk_attr attr; lk_dtype dtype; lk_shape out;
    int n_in; lk_shape shape[KC_MAX_IN]; const void *in[KC_MAX_IN];
} kc_case;
static const char *const kc_name[KC_SETS] = {"scalar", "avx2", "avx512"};

static inline bool kc_table(int set, lk_kernel *table) {
    int i = 0;
#define FILL(isa, feature) if (set == i++ && __builtin_cpu_supports(feature)) { \
        lk_kernels_movement_##isa(table); lk_kernels_reduce_##isa(table); lk_kernels_norm_##isa(table); lk_kernels_picture_##isa(table); return true; }
    SETS(FILL)
    return false;
}
static inline int64_t kc_numel(lk_shape s) { int64_t n = 1; for (int i = 0; i < s.rank; i++) n *= s.d[i]; return n; }
static inline void kc_run(const kc_case *k, lk_kernel kernel, lk_pool *pool, void *out) {
    lk_val in[KC_MAX_IN]; void *data[KC_MAX_IN];
    for (int i = 0; i < k->n_in; i++) { in[i] = (lk_val){k->in[i] ? i : -1}; data[i] = (void *)k->in[i]; }
    lk_node node = {.op = k->op, .dtype = k->dtype, .shape = k->out, .attr = k->attr, .n_in = k->n_in, .in = in};
    const void *packed[KC_MAX_IN] = {NULL};
    lk_kernel_call c = {.node = &node, .out = out, .in = data, .in_shape = k->shape, .packed = packed, .pool = pool};
    kernel(&c);
}
/* Equal bits; a NaN equals a NaN (rule 6 makes them one when stored). Returns the first difference or -1. */
static inline int64_t kc_first_difference(const float *a, const float *b, int64_t n) {
    for (int64_t i = 0; i < n; i++) if (memcmp(a + i, b + i, sizeof *a) && !(a[i] != a[i] && b[i] != b[i])) return i;
    return -1;
}
/* Runs the case everywhere and compares with want; writes the last result to got (may be NULL). Returns whether all agreed. */
static inline bool kc_check(const char *what, const kc_case *k, const void *want, void *got) {
    size_t size = k->dtype == LK_I64 ? 8 : 4, bytes = (size_t)kc_numel(k->out) * size;
    bool all = true;
    for (int set = 0; set < KC_SETS; set++) {
        lk_kernel table[LK_OP_COUNT] = {NULL};
        if (!kc_table(set, table)) continue;
        for (int threads = 1; threads <= 3; threads++) {
            lk_pool *pool = threads == 1 ? NULL : lk_pool_new(threads);
            char *out = lk_xaligned(bytes + 128);
            memset(out, 0x5a, bytes + 128);
            kc_run(k, table[k->op], pool, out + 64);
            int64_t at = size == 8 ? (memcmp(out + 64, want, bytes) ? 0 : -1) : kc_first_difference((float *)(out + 64), want, kc_numel(k->out));
            bool edges = true;
            for (int i = 0; i < 64; i++) edges = edges && out[i] == 0x5a && out[64 + bytes + (size_t)i] == 0x5a;
            all &= CHECK_MSG(at < 0, "%s, %s, %d threads: element %lld is %.9g (%a), want %.9g (%a)", what, kc_name[set], threads, (long long)at,
                             at < 0 ? 0 : ((float *)(out + 64))[at], at < 0 ? 0 : ((float *)(out + 64))[at],
                             at < 0 ? 0 : ((const float *)want)[at], at < 0 ? 0 : ((const float *)want)[at]);
            all &= CHECK_MSG(edges, "%s, %s, %d threads: wrote outside its output", what, kc_name[set], threads);
            if (got) memcpy(got, out + 64, bytes);
            free(out);
            lk_pool_free(pool);
        }
    }
    return all;
}

/* Numbers over several magnitudes and both signs, so that any other order of a sum shows. */
static inline float kc_random(uint64_t *state) {
    *state = *state * 6364136223846793005u + 1442695040888963407u;
    uint32_t u = (uint32_t)(*state >> 32);
    float v = ((float)(u >> 8) * 0x1p-24f - 0.497f) * 3.17f;
    return u & 16 ? v * 0.0631f : v;
}
static inline float *kc_fill(int64_t n, uint64_t seed) {
    float *x = lk_xaligned((size_t)(n + 1) * sizeof *x);
    uint64_t state = seed * 7919 + 2385;
    for (int64_t i = 0; i < n; i++) x[i] = kc_random(&state);
    return x;
}

/* docs/numerics.md rule 3, read aloud. order: 0 as written; others are wrong on purpose (what a careless kernel would do). */
enum { KC_RULE = 0, KC_FOLD_NEIGHBOURS, KC_SEQUENTIAL, KC_CHUNKS_IN_LINE, KC_ORDERS };
static inline float kc_rule3(const float *x, int64_t n, int order) {
    if (order == KC_SEQUENTIAL) { float s = 0; for (int64_t i = 0; i < n; i++) s += x[i]; return s; }
    int64_t chunks = (n + 4095) / 4096;
    if (!chunks) return 0;
    float *r = lk_xmalloc((size_t)chunks * sizeof *r);
    for (int64_t c = 0; c < chunks; c++) {
        float lane[32] = {0};
        for (int64_t i = c * 4096; i < n && i < (c + 1) * 4096; i++) lane[(i - c * 4096) % 32] += x[i];
        if (order == KC_FOLD_NEIGHBOURS) for (int w = 32; w > 1; w /= 2) for (int l = 0; l < w / 2; l++) lane[l] = lane[2 * l] + lane[2 * l + 1];
        else for (int half = 16; half; half /= 2) for (int l = 0; l < half; l++) lane[l] += lane[l + half];
        r[c] = lane[0];
    }
    if (order == KC_CHUNKS_IN_LINE) for (int64_t c = 1; c < chunks; c++) r[0] += r[c];
    else while (chunks > 1) {
        for (int64_t i = 0; i < chunks / 2; i++) r[i] = r[2 * i] + r[2 * i + 1];
        if (chunks % 2) r[chunks / 2] = r[chunks - 1];
        chunks = (chunks + 1) / 2;
    }
    float s = r[0];
    free(r);
    return s;
}
#endif
