/* Movement and reductions. Elements are carried as 8 bytes, so that I64 values move as well. */
#include "backend/ref/ref.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static void permute(const lk_kernel_call *c) {
    const int64_t *x = c->in[0]; int64_t *out = c->out;
    for (int64_t i = 0, n = lk_numel(c->node->shape); i < n; i++) {
        int64_t at[LK_MAX_RANK], from[LK_MAX_RANK];
        ref_where(c->node->shape, i, at);
        for (int k = 0; k < c->node->shape.rank; k++) from[c->node->attr.perm[k]] = at[k];
        out[i] = x[ref_index(c->in_shape[0], from)];
    }
}

static void slice(const lk_kernel_call *c) {
    const int64_t *x = c->in[0]; int64_t *out = c->out;
    for (int64_t i = 0, n = lk_numel(c->node->shape); i < n; i++) {
        int64_t at[LK_MAX_RANK];
        ref_where(c->node->shape, i, at);
        for (int k = 0; k < c->node->shape.rank; k++) at[k] += c->node->attr.window.lo[k];
        out[i] = x[ref_index(c->in_shape[0], at)];
    }
}

static void pad(const lk_kernel_call *c) {
    const int64_t *x = c->in[0]; int64_t *out = c->out;
    memset(out, 0, (size_t)lk_numel(c->node->shape) * sizeof *out);
    for (int64_t i = 0, n = lk_numel(c->in_shape[0]); i < n; i++) {
        int64_t at[LK_MAX_RANK];
        ref_where(c->in_shape[0], i, at);
        for (int k = 0; k < c->node->shape.rank; k++) at[k] += c->node->attr.window.lo[k];
        out[ref_index(c->node->shape, at)] = x[i];
    }
}

static void concat(const lk_kernel_call *c) {
    int64_t *out = c->out, before = 0;
    for (int k = 0; k < c->node->n_in; k++) {
        const int64_t *x = c->in[k];
        for (int64_t i = 0, n = lk_numel(c->in_shape[k]); i < n; i++) {
            int64_t at[LK_MAX_RANK];
            ref_where(c->in_shape[k], i, at);
            at[c->node->attr.axis] += before;
            out[ref_index(c->node->shape, at)] = x[i];
        }
        before += c->in_shape[k].d[c->node->attr.axis];
    }
}

static void broadcast(const lk_kernel_call *c) {
    const int64_t *x = c->in[0]; int64_t *out = c->out;
    for (int64_t i = 0, n = lk_numel(c->node->shape); i < n; i++) {
        int64_t at[LK_MAX_RANK];
        ref_where(c->node->shape, i, at);
        out[i] = x[ref_broadcast_index(c->node->shape, at, c->in_shape[0])];
    }
}

static void gather_rows(const lk_kernel_call *c) {
    const double *table = c->in[0]; const int64_t *ids = c->in[1];
    int64_t width = c->in_shape[0].d[1];
    for (int64_t i = 0, n = lk_numel(c->in_shape[1]); i < n; i++)
        for (int64_t d = 0; d < width; d++) ((double *)c->out)[i * width + d] = table[ids[i] * width + d];
}

static void scatter_add_rows(const lk_kernel_call *c) {
    const double *rows = c->in[0]; const int64_t *ids = c->in[1];
    double *out = c->out;
    int64_t width = c->node->shape.d[1];
    memset(out, 0, (size_t)lk_numel(c->node->shape) * sizeof *out);
    for (int64_t i = 0, n = lk_numel(c->in_shape[1]); i < n; i++)
        for (int64_t d = 0; d < width; d++) out[ids[i] * width + d] += rows[i * width + d];
}

/* ---- reductions ------------------------------------------------------------------------------ */
/* The group an element belongs to: its position with every reduced axis at 0, counted over the kept ones. */
static int64_t group_of(const lk_kernel_call *c, int64_t i) {
    const lk_axes *axes = &c->node->attr.axes;
    lk_shape s = c->in_shape[0];
    int64_t at[LK_MAX_RANK], group = 0;
    ref_where(s, i, at);
    for (int k = 0; k < s.rank; k++) {
        bool reduced = false;
        for (int a = 0; a < axes->n; a++) reduced |= (axes->axis[a] + s.rank) % s.rank == k;
        if (!reduced) group = group * s.d[k] + at[k];
    }
    return group;
}

static void reduce_sum(const lk_kernel_call *c) {
    const double *x = c->in[0]; double *out = c->out;
    memset(out, 0, (size_t)lk_numel(c->node->shape) * sizeof *out);
    for (int64_t i = 0, n = lk_numel(c->in_shape[0]); i < n; i++) out[group_of(c, i)] += x[i];
}

static void reduce_max(const lk_kernel_call *c) {
    const double *x = c->in[0]; double *out = c->out;
    for (int64_t i = 0, n = lk_numel(c->node->shape); i < n; i++) out[i] = -INFINITY;
    for (int64_t i = 0, n = lk_numel(c->in_shape[0]); i < n; i++) { int64_t g = group_of(c, i); if (x[i] > out[g]) out[g] = x[i]; }
}

/* Walks backwards with >=, so that the first of equals has the last word. */
static void max_mask(const lk_kernel_call *c) {
    const double *x = c->in[0]; double *out = c->out;
    int64_t n = lk_numel(c->in_shape[0]);
    int64_t *best = lk_xcalloc((size_t)n + 1, sizeof *best);            /* of each group, plus one; 0: none seen */
    for (int64_t i = n - 1; i >= 0; i--) { int64_t g = group_of(c, i); if (!best[g] || x[i] >= x[best[g] - 1]) best[g] = i + 1; }
    for (int64_t i = 0; i < n; i++) out[i] = best[group_of(c, i)] == i + 1;
    free(best);
}

void ref_movement(lk_kernel *table) {
    table[LK_OP_permute] = permute;
    table[LK_OP_slice] = slice;
    table[LK_OP_pad] = pad;
    table[LK_OP_concat] = concat;
    table[LK_OP_broadcast] = broadcast;
    table[LK_OP_gather_rows] = gather_rows;
    table[LK_OP_scatter_add_rows] = scatter_add_rows;
    table[LK_OP_reduce_sum] = reduce_sum;
    table[LK_OP_reduce_max] = reduce_max;
    table[LK_OP_max_mask] = max_mask;
}
