/* Private to the reference backend: binary64, one plain loop an operation, written from the
 * definition of the operation and not from its decomposition or its cpu kernel, so that agreement
 * means something. libm is welcome. Every element, F32 or I64, takes 8 bytes here. No threads. */
#ifndef LK_REF_H
#define LK_REF_H
#include "backend/backend.h"

void ref_elementwise(lk_kernel *table);
void ref_movement(lk_kernel *table);
void ref_contract(lk_kernel *table);
void ref_norm(lk_kernel *table);
void ref_picture(lk_kernel *table);
void ref_service(lk_kernel *table);

/* Row-major index -> position along each axis, and back. */
static inline void ref_where(lk_shape s, int64_t i, int64_t *at) {
    for (int k = s.rank - 1; k >= 0; k--) { at[k] = i % s.d[k]; i /= s.d[k]; }
}
static inline int64_t ref_index(lk_shape s, const int64_t *at) {
    int64_t i = 0;
    for (int k = 0; k < s.rank; k++) i = i * s.d[k] + at[k];
    return i;
}
/* Index in a value of shape `small` for the position `at` of a shape it broadcasts to (last axes aligned). */
static inline int64_t ref_broadcast_index(lk_shape big, const int64_t *at, lk_shape small) {
    int64_t i = 0;
    for (int k = 0; k < small.rank; k++) i = i * small.d[k] + (small.d[k] == 1 ? 0 : at[big.rank - small.rank + k]);
    return i;
}
static inline const double *ref_in(const lk_kernel_call *c, int i) { return i < c->node->n_in ? c->in[i] : NULL; }
static inline int64_t ref_last(lk_shape s) { return s.rank ? s.d[s.rank - 1] : 1; }
#endif
