/* Where elements go: boxes copied between strides (permute, slice, broadcast, concat, assign), pad, rows by index.
 * One thread an element. F32 moves as 32 bits, I64 as 64. */
#ifndef LK_CUDA_BODY_MOVE_H
#define LK_CUDA_BODY_MOVE_H
#include "backend/cuda/phase.h"

/* Element i of the box d, row-major, goes from `from` to `to`; strides in elements. pad: elements whose coordinate less
 * `before` lies outside `inside` are +0. */
typedef struct {
    void *out; const void *in; int64_t n; int rank, wide, padded;      /* wide: 64-bit elements */
    int64_t d[LK_AXES], to[LK_AXES], from[LK_AXES], before[LK_AXES], inside[LK_AXES];
} lk_box_args;
LK_BODY void lk_box_copy(void *out, const void *in, int wide, int64_t to, int64_t from) {
    if (wide) ((uint64_t *)out)[to] = from < 0 ? 0 : ((const uint64_t *)in)[from];
    else ((uint32_t *)out)[to] = from < 0 ? 0 : ((const uint32_t *)in)[from];
}
LK_BODY void lk_body_box(lk_block *b, const lk_box_args *a) {
    LK_BEGIN(b, t)
        LK_EVERY(b, t, i, a->n) {
            int64_t to = 0, from = 0, rest = i; int within = 1;
            for (int k = a->rank - 1; k >= 0; rest /= a->d[k], k--) {
                int64_t at = rest % a->d[k];
                to += at * a->to[k];
                if (a->padded) { at -= a->before[k]; within = within && at >= 0 && at < a->inside[k]; }
                from += at * a->from[k];
            }
            lk_box_copy(a->out, a->in, a->wide, to, within ? from : -1);
        }
    LK_END
}

/* ---- rows by index. Outside the table an index reads NaN (I64: all bits set) and is dropped when written. ---------- */
typedef struct { void *out; const void *in; const int64_t *ids; int64_t n_ids, d, count; int wide; } lk_rows_args;   /* d: elements of a row */
LK_BODY void lk_body_gather(lk_block *b, const lk_rows_args *a) {
    LK_BEGIN(b, t)
        LK_EVERY(b, t, i, a->n_ids * a->d) {
            int64_t id = a->ids[i / a->d], from = id * a->d + i % a->d;
            if (id >= 0 && id < a->count) lk_box_copy(a->out, a->in, a->wide, i, from);
            else if (a->wide) ((uint64_t *)a->out)[i] = ~(uint64_t)0;
            else ((uint32_t *)a->out)[i] = 0x7fc00000u;
        }
    LK_END
}
/* One thread an element of the table: it adds its sources in increasing index. */
LK_BODY void lk_body_scatter(lk_block *b, const lk_rows_args *a) {
    LK_BEGIN(b, t)
        LK_EVERY(b, t, i, a->count * a->d) {
            float sum = 0.0f;
            for (int64_t k = 0; k < a->n_ids; k++) if (a->ids[k] == i / a->d) sum += ((const float *)a->in)[k * a->d + i % a->d];
            ((float *)a->out)[i] = sum;
        }
    LK_END
}
#endif
