/* Private to the CPU kernels. Every file of this folder is compiled once per instruction set with
 * -DLK_ISA=scalar|avx2|avx512 and exports one function per file and set,
 *     void LK_KNAME(lk_kernels_<file>)(lk_kernel *table);      e.g. lk_kernels_elementwise_avx2
 * that fills its entries of a table of LK_OP_COUNT kernels. Everything else in a kernel file is
 * static. The bits a kernel gives never depend on LK_ISA, on threads or on tiles (docs/numerics.md).
 *
 * Also here: shapes, and the walk over a broadcast elementwise operation row by row. */
#ifndef LK_KERNELS_H
#define LK_KERNELS_H
#include "backend/backend.h"

#ifndef LK_ISA
#error "kernels are compiled with -DLK_ISA=scalar|avx2|avx512"
#endif
#define LK_PASTE_(a, b) a##_##b
#define LK_PASTE(a, b) LK_PASTE_(a, b)
#define LK_KNAME(x) LK_PASTE(x, LK_ISA)
#define LK_KSTR_(x) #x
#define LK_KSTR(x) LK_KSTR_(x)
#define LK_KISA_NAME LK_KSTR(LK_ISA)              /* "avx2" */
/* Before a loop whose iterations touch disjoint elements (an output may be its own input). */
#ifdef __clang__
#define LK_IVDEP _Pragma("clang loop vectorize(assume_safety)")
#else
#define LK_IVDEP _Pragma("GCC ivdep")
#endif

enum { LK_GRAIN = 16384, LK_MAX_EW_IN = 3 };     /* elements a thread takes at least; inputs of an elementwise operation at most */

static inline int64_t lk_k_min(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t lk_k_max(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t lk_k_numel(lk_shape s) { int64_t n = 1; for (int i = 0; i < s.rank; i++) n *= s.d[i]; return n; }
/* Product of the axes [from, to). */
static inline int64_t lk_k_span(lk_shape s, int from, int to) { int64_t n = 1; for (int i = from; i < to; i++) n *= s.d[i]; return n; }
static inline int64_t lk_k_last(lk_shape s) { return s.rank ? s.d[s.rank - 1] : 1; }
/* Row-major strides in elements. */
static inline void lk_k_strides(lk_shape s, int64_t *stride) {
    int64_t n = 1;
    for (int i = s.rank - 1; i >= 0; i--) { stride[i] = n; n *= s.d[i]; }
}

/* ---- broadcasting: the output's axes without those of length 1, neighbours joined wherever every input
 * walks them as one. The last axis is the row: along it an input's stride is 1 (its own elements) or 0 (one value). */
typedef struct {
    int rank, n_in; int64_t n;                   /* rank >= 1; n = all elements */
    int64_t d[LK_MAX_RANK], stride[LK_MAX_EW_IN][LK_MAX_RANK];
} lk_bcast;
static inline lk_bcast lk_bcast_make(lk_shape out, const lk_shape *in, int n_in) {
    lk_bcast b = {.rank = 0, .n_in = n_in, .n = lk_k_numel(out)};
    int64_t own[LK_MAX_EW_IN][LK_MAX_RANK];      /* strides by the output's axes, 0 where broadcast */
    for (int k = 0; k < n_in; k++) {
        int64_t s = 1;
        for (int i = out.rank - 1; i >= 0; i--) {
            int j = i - (out.rank - in[k].rank);
            int64_t d = j >= 0 ? in[k].d[j] : 1;
            own[k][i] = d == 1 ? 0 : s;
            s *= d;
        }
    }
    for (int i = 0; i < out.rank; i++) {
        if (out.d[i] == 1) continue;
        bool join = b.rank > 0;
        for (int k = 0; k < n_in && join; k++) join = b.stride[k][b.rank - 1] == own[k][i] * out.d[i];
        if (!join) b.d[b.rank++] = 1;
        b.d[b.rank - 1] *= out.d[i];
        for (int k = 0; k < n_in; k++) b.stride[k][b.rank - 1] = own[k][i];
    }
    if (!b.rank) { b.rank = 1; b.d[0] = b.n; }
    return b;
}
/* Where a walk stands: row index by axis, first element of the row in each input. */
typedef struct { int64_t at[LK_MAX_RANK], off[LK_MAX_EW_IN]; } lk_bwalk;
static inline lk_bwalk lk_bwalk_at(const lk_bcast *b, int64_t row) {
    lk_bwalk w = {{0}, {0}};
    for (int i = b->rank - 2; i >= 0; i--) {
        w.at[i] = row % b->d[i]; row /= b->d[i];
        for (int k = 0; k < b->n_in; k++) w.off[k] += w.at[i] * b->stride[k][i];
    }
    return w;
}
static inline void lk_bwalk_next(const lk_bcast *b, lk_bwalk *w) {
    for (int i = b->rank - 2; i >= 0; i--) {
        w->at[i]++;
        for (int k = 0; k < b->n_in; k++) w->off[k] += b->stride[k][i];
        if (w->at[i] < b->d[i]) return;
        w->at[i] = 0;
        for (int k = 0; k < b->n_in; k++) w->off[k] -= b->d[i] * b->stride[k][i];
    }
}
#endif
